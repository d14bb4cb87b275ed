"""The wheel as a user of another project gets it: built, installed into an environment of its own, and used there."""

import importlib.util
import json
import os
import subprocess
import sys
import threading
import venv
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from gpulaunch.version import VERSION

ROOT = Path(__file__).parents[3]
PROGRAM = """
import sys, cli, shared
from gpulaunch import GpuLaunch, NotFoundError

assert (cli.NAME, shared.NAME) == ("their own", "their own")
with GpuLaunch(sys.argv[1], "a-token") as gpu:
    health = gpu.health()
    print(health.status, health.version)
    try:
        gpu.get("inst-1")
    except NotFoundError as error:
        print(error)
"""


class Handler(BaseHTTPRequestHandler):
    """An app that is healthy and has no instances."""

    def do_GET(self) -> None:
        if self.path == "/api/health":
            self._answer(200, "application/json", {"status": "ok", "version": VERSION, "storage": "ok"})
        else:
            problem = {"title": "Not found", "status": 404, "detail": "There is no inst-1.", "code": "not_found"}
            self._answer(404, "application/problem+json", problem)

    def _answer(self, status: int, kind: str, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # Without hatchling in this environment, pip fetches it.
    isolation = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps", *isolation]
    subprocess.run([*pip, "--wheel-dir", str(folder), str(ROOT)], check=True)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment that holds the wheel and the packages that it declares, no others."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", str(wheel)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in declared(metadata.PathDistribution(next(site.glob("gpulaunch-*.dist-info"))).requires or []):
        link(metadata.distribution(name), site)
    return python.parent


def declared(requirements: Sequence[str], extra: str = "") -> set[str]:
    """The packages that these requirements need on this machine, and those that these need."""
    found: set[str] = set()
    for requirement in map(Requirement, requirements):
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            found |= {requirement.name} | declared(metadata.requires(requirement.name) or [])
    return found


def link(package: metadata.Distribution, site: Path) -> None:
    """Make an installed package importable from another environment, without a download."""
    for top in {PurePosixPath(file).parts[0] for file in package.files or []} - {"..", "__pycache__"}:
        if not (site / top).exists():
            (site / top).symlink_to(Path(str(package.locate_file(top))))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Somebody's project, with the most ordinary names for its folders."""
    for name in ("cli", "shared"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text('NAME = "their own"\n', "utf-8")
    (tmp_path / "program.py").write_text(PROGRAM, "utf-8")
    return tmp_path


def run(project: Path, *command: str | Path, **variables: str) -> str:
    environment = {"PATH": os.defpath, "HOME": str(project), "PYTHONPATH": str(project), **variables}
    arguments = [str(word) for word in command]
    done = subprocess.run(arguments, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_should_hold_one_typed_package_with_its_metadata(wheel: Path) -> None:
    assert wheel.name == f"gpulaunch-{VERSION}-py3-none-any.whl"
    with ZipFile(wheel) as archive:
        names = archive.namelist()
        described = archive.read(f"gpulaunch-{VERSION}.dist-info/METADATA").decode()
    assert {name.split("/")[0] for name in names} == {"gpulaunch", f"gpulaunch-{VERSION}.dist-info"}
    assert "gpulaunch/py.typed" in names
    assert {"gpulaunch/client/synchronous.py", "gpulaunch/cli/app.py", "gpulaunch/models/requests.py"} <= set(names)
    assert f"gpulaunch-{VERSION}.dist-info/licenses/LICENSE" in names
    for field in ("License-Expression: Apache-2.0", "Summary: ", "Author: ", "Requires-Python: >=3.11"):
        assert f"\n{field}" in described


def test_nothing_in_the_package_should_import_the_control_plane() -> None:
    for file in (ROOT / "gpulaunch").rglob("*.py"):
        text = file.read_text("utf-8")
        for room in ("shared", "functions", "deploy", "devhost", "tests"):
            assert f"import {room}" not in text and f"from {room}" not in text, file


def test_a_project_with_its_own_cli_and_shared_should_use_the_client(
    environment: Path, project: Path, address: str
) -> None:
    told = run(project, environment / "python", project / "program.py", address)
    assert told.splitlines() == [f"ok {VERSION}", "There is no inst-1."]


def test_the_command_should_work_there(environment: Path, project: Path, address: str) -> None:
    assert run(project, environment / "gpulaunch", "--version") == f"gpulaunch {VERSION}\n"
    helped = run(project, environment / "gpulaunch", "--help")
    assert "Launch models on GPU nodes" in helped
    shown = run(project, environment / "gpulaunch", "config", "show", GPULAUNCH_URL=address)
    assert f"address  {address}" in shown
