"""Cold start: what importing and indexing the app adds to Microsoft's worker library, and the memory it then has."""

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from bench import ours
from bench.processes import BenchError, run
from bench.results import ROOT, Figure, figure
from devhost import azurite

SECTION = "start"
CONFORMANCE = ROOT / "tests" / "conformance"
PYTHON = ROOT / ".cache" / "py313" / "bin" / "python"
"""Python 3.13 with the worker library; the conformance tests make it."""
ALONE = """\
import azure.functions as func
app = func.FunctionApp()
@app.route(route="nothing")
def nothing(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse()
"""


def measure(folder: Path, *, rounds: int) -> list[Figure]:
    """Fresh processes in turn: the library with an app of one function, then with ours; without and with bytecode."""
    if not PYTHON.exists():
        run([sys.executable, "-m", "pytest", "-q", "-n", "0", CONFORMANCE, "-k", "index"])
    alone = folder / "alone"
    alone.mkdir()
    (alone / "function_app.py").write_text(ALONE, "utf-8")
    storage = azurite.start(folder / "azurite")
    try:
        env = {**ours.environment(storage), "PATH": os.environ.get("PATH", "")}
        added: dict[str, list[float]] = defaultdict(list)
        resident: dict[str, list[float]] = defaultdict(list)
        warm = folder / "warm"
        for app in (alone, ROOT):
            _start(app, env, warm)
        for number in range(rounds):
            for kind, cache in (("without bytecode", folder / f"cold-{number}"), ("warm", warm)):
                # each app compiles for itself: neither profits from what the other has left
                library = _start(alone, env, cache if kind == "warm" else cache / "alone")
                app = _start(ROOT, env, cache if kind == "warm" else cache / "app")
                added[kind].append((app["seconds"] - library["seconds"]) * 1000)
                resident["after indexing"].append(app["mib"])
            resident["after the first request"].append(_start(ROOT, env, warm, "health")["health_mib"])
    finally:
        storage.stop()
    what = "import and indexing over the library alone, "
    figures = [figure(SECTION, what + kind, values, "ms", target=600) for kind, values in added.items()]
    memory = [figure(SECTION, f"memory {when}", values, "MiB", target=150) for when, values in resident.items()]
    return figures + memory


def _start(app: Path, env: dict[str, str], bytecode: Path, *arguments: str) -> dict[str, Any]:
    command = [PYTHON, Path(__file__).with_name("worker_start.py"), app, CONFORMANCE, *arguments]
    ended = subprocess.run(  # noqa: S603 - our own command
        [str(part) for part in command], env={**env, "PYTHONPYCACHEPREFIX": str(bytecode)}, cwd=app,
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    if ended.returncode != 0:
        raise BenchError(f"the worker library did not start: {ended.stderr[-500:]}")
    said: dict[str, Any] = json.loads(ended.stdout)
    if said["error"] or not said["functions"] or said.get("health", 200) != 200:
        raise BenchError(f"the app was not indexed: {said}")
    return said
