"""Apps under azure-functions-runtime, the worker library of Azure's Python 3.13."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devhost import azurite
from tests.standins.ingestion import Ingestion

from .apps import FIXTURE, GPULAUNCH, HERE, ROOT, App, Call, succeeds

# Making the environment downloads some 40 packages once; everything after that takes seconds.
pytestmark = [pytest.mark.conformance, pytest.mark.timeout(900)]

RUNTIME = "azure-functions-runtime==1.3.0"


def interpreter() -> str | None:
    candidates = [shutil.which("python3.13"), *map(str, Path.home().glob(".pyenv/versions/3.13*/bin/python"))]
    for candidate in candidates:
        # A pyenv shim is found on PATH even where that version is not active, and then fails.
        check = [candidate or "false", "-c", "import sys; sys.exit(sys.version_info[:2] != (3, 13))"]
        if candidate and subprocess.run(check, capture_output=True, check=False, timeout=30).returncode == 0:
            return candidate
    return None


@pytest.fixture(scope="session")
def python() -> str:
    """The Python of `.cache/py313`: requirements.txt and the worker's library, which has no hash in it."""
    base = interpreter()
    if base is None:
        pytest.skip("no Python 3.13 on PATH or in ~/.pyenv/versions")
    wanted = (ROOT / "requirements.txt").read_text("utf-8") + RUNTIME
    folder, mark = ROOT / ".cache" / "py313", hashlib.sha256(wanted.encode()).hexdigest()
    stamp, program = folder / "requirements.sha256", folder / "bin" / "python"
    folder.parent.mkdir(exist_ok=True)
    with (folder.parent / "py313.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text("ascii") != mark:
            subprocess.run([base, "-m", "venv", "--clear", str(folder)], check=True, timeout=120)
            for packages in (["-r", str(ROOT / "requirements.txt")], [RUNTIME]):
                install = [str(program), "-m", "pip", "install", "-q", *packages]
                made = subprocess.run(install, check=False, timeout=700, capture_output=True, text=True)
                assert made.returncode == 0, made.stderr
            stamp.write_text(mark, "ascii")
    return str(program)


Report = dict[str, Any]


def run(python: str, app: App, connection: str = "", folder: Path | None = None) -> Report:
    environment = {**os.environ, **app.environment, "AzureWebJobsStorage": connection, "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONPATH", None)
    ended = subprocess.run(
        [python, str(HERE / "runner.py"), str(folder or app.folder)],
        input=json.dumps([one.call for one in app.calls]), env=environment, cwd=folder or app.folder,
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.fixture(scope="session", params=[FIXTURE, GPULAUNCH], ids=lambda app: app.name)
def reported(
    request: pytest.FixtureRequest, python: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[App, Report]]:
    app: App = request.param
    if not app.storage:
        yield app, run(python, app)
        return
    storage = azurite.start(tmp_path_factory.mktemp("azurite"))
    try:
        yield app, run(python, app, storage.connection_string)
    finally:
        storage.stop()


def test_every_function_should_index(reported: tuple[App, Report]) -> None:
    _, report = reported
    assert report["index"]["success"], f"{report['index']['error']}\n{report['index']['trace']}"
    assert report["functions"]


def test_indexing_should_not_load_heavy_libraries(reported: tuple[App, Report]) -> None:
    assert reported[1]["loaded"] == []


def test_calls_should_be_answered(reported: tuple[App, Report]) -> None:
    app, report = reported
    answers = zip(app.calls, report["calls"], strict=True)
    wrong = [f"{call.name}: {json.dumps(answer, indent=1)}" for call, answer in answers if not call.expect(answer)]
    assert wrong == [], "\n".join(wrong)


def test_a_launch_should_continue_the_hosts_trace_in_application_insights(python: str, tmp_path: Path) -> None:
    """The app takes the host's trace from the worker and exports below it."""
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    body = json.dumps({"model_name": "org/model", "instance_type": "Standard_NV36ads_A10_v5"})
    route = "api/instances/launch"
    call = {
        "trigger": "httpTrigger", "method": "POST", "route": route, "template": route, "body": body,
        "headers": {"X-Admin-Token": GPULAUNCH.environment["GPULAUNCH_ADMIN_TOKENS"]},
        "trace_parent": f"00-{trace}-{span}-01",
    }  # fmt: skip
    storage = azurite.start(tmp_path)
    try:
        with Ingestion() as ingestion:
            settings = {
                "AZURE_FUNCTIONS_ENVIRONMENT": "Production",
                "APPLICATIONINSIGHTS_CONNECTION_STRING": f"InstrumentationKey={uuid.UUID(trace)};"
                f"IngestionEndpoint={ingestion.address}/",
            }
            app = App("traced", ROOT, [Call("launch", call, succeeds)], {**GPULAUNCH.environment, **settings})
            (answer,) = run(python, app, storage.connection_string)["calls"]
    finally:
        storage.stop()
    assert answer.get("http_status") == 202, answer
    spans = {row.name: row.operation for row in ingestion.rows if row.table == "AppDependencies"}
    assert spans == {"launch": trace}
    assert [row.name for row in ingestion.rows if row.table == "AppMetrics"].count("gpulaunch.launches") == 1


def test_an_app_that_cannot_be_indexed_should_be_reported(python: str, tmp_path: Path) -> None:
    (tmp_path / "function_app.py").write_text("import nowhere", "utf-8")
    report = run(python, App("broken", tmp_path, []))
    assert not report["index"]["success"]
    assert "No module named 'nowhere'" in report["index"]["error"]
    assert report["functions"] == {}


def test_import_should_not_load_heavy_libraries_on_this_python_either() -> None:
    script = (
        "import sys, function_app; "
        "print(sorted(m for m in sys.modules if m.split('.')[0] in {'sky', 'boto3'} or m.startswith('azure.mgmt')))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert (ended.returncode, ended.stdout.strip()) == (0, "[]"), ended.stderr
