"""The OpenAPI document pleases a linter, and the clients that generators make of it launch, wait and terminate.

`make clients` installs the generators, which nothing else needs, and runs this against the app in simulation.
"""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from devhost.azurite import node_program
from tests.browser.running import ADMIN, ROOT, App, running_app

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

HERE = Path(__file__).parent
MODULES = ROOT / "node_modules"
GENERATOR = ROOT / ".cache" / "clients" / "bin" / "openapi-python-client"
SPEED = 40.0
"""Simulated seconds per second: a launch of 82 s takes two."""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with running_app(tmp_path_factory.mktemp("app"), SPEED) as running:
        yield running


@pytest.fixture(scope="module")
def described(app: App, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The document as the app answers it, with what the programs in TypeScript need beside it."""
    folder = tmp_path_factory.mktemp("described")
    with urllib.request.urlopen(f"{app.address}/api/openapi.json") as answer:  # noqa: S310 - this machine
        (folder / "openapi.json").write_bytes(answer.read())
    (folder / "node_modules").symlink_to(MODULES)
    (folder / "package.json").write_text('{"type": "module"}', "utf-8")
    return folder


def run(folder: Path, *command: str | Path, **variables: str) -> str:
    """Run a program and return what it prints; it must end well."""
    environment = {**os.environ, "REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true", **variables}
    done = subprocess.run(
        [str(part) for part in command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def node(folder: Path, script: str | Path, *arguments: str) -> str:
    return run(folder, node_program(), script, *arguments)


def documented(language: str, app: App) -> str:
    """The example in docs/clients.md, for the running app."""
    text = (ROOT / "docs" / "clients.md").read_text("utf-8")
    return text.split(f"```{language}\n")[1].split("```")[0].replace("https://my-app.azurewebsites.net", app.address)


def check_walk(found: Mapping[str, Any], app: App) -> None:
    """What both programs print of their way through the API."""
    location = str(found["location"])
    assert location.startswith(f"{app.address}/api/instances/inst-")
    assert {**found, "location": "", "hourly": 0, "offered": []} == {
        "field": "gpu",
        "location": "",
        "fits": True,
        "offered": [],
        "hourly": 0,
        "launch": "Succeeded",
        "ready": "ready",
        "bytes": 16_060_000_000,
        "started": True,
        "key": True,
        "listed": 1,
        "reason": "user_request",
        "termination": "Succeeded",
        "ended": "terminated",
    }
    assert found["hourly"] > 0
    assert set(found["offered"]) == {"eastus", "westus2"}


def test_the_document_should_be_without_fault_or_warning_for_redocly(described: Path) -> None:
    node(described, MODULES / "@redocly/cli/bin/cli.js", "lint", "openapi.json", "--extends", "recommended-strict")


def test_patterns_should_be_regular_expressions_of_javascript(described: Path) -> None:
    """JSON Schema's are ECMA 262's with the flag for Unicode, in which few characters may be escaped."""
    script = """
        const text = require("fs").readFileSync("openapi.json", "utf8");
        let count = 0;
        JSON.parse(text, (key, value) => {
            if (key === "pattern") { new RegExp(value, "u"); count += 1; }
            return value;
        });
        console.log(count);
    """
    (described / "patterns.cjs").write_text(script, "utf-8")
    assert int(node(described, "patterns.cjs")) > 10


def test_a_client_in_typescript_should_compile_strictly_and_launch(described: Path, app: App) -> None:
    node(described, MODULES / "openapi-typescript/bin/cli.js", "openapi.json", "-o", "api.d.ts")
    for name in ("walk.ts", "tsconfig.json"):
        shutil.copy(HERE / "typescript" / name, described)
    (described / "documented.ts").write_text(f'const token = "{ADMIN}";\n{documented("ts", app)}', "utf-8")
    node(described, MODULES / "typescript/bin/tsc", "-p", "tsconfig.json")
    check_walk(json.loads(node(described, "out/walk.js", app.address, ADMIN)), app)
    assert node(described, "out/documented.js").strip() == "Running"


def test_a_client_in_python_should_launch(described: Path, app: App) -> None:
    # The generator formats what it writes with the ruff beside it.
    beside = f"{GENERATOR.parent}{os.pathsep}{os.environ['PATH']}"
    arguments = ("generate", "--path", "openapi.json", "--meta", "none", "--output-path", "gpulaunch_api")
    output = run(described, GENERATOR, *arguments, PATH=beside)
    assert "Warning" not in output
    printed = run(described, sys.executable, HERE / "python" / "walk.py", app.address, ADMIN, PYTHONPATH=str(described))
    check_walk(json.loads(printed), app)
    (described / "documented.py").write_text(f'token = "{ADMIN}"\n{documented("python", app)}', "utf-8")
    assert run(described, sys.executable, "documented.py").strip() == "Running"
