"""The app under devhost with Azurite, and Debian's Chromium."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from devhost import azurite
from devhost.azurite import free_ports

ROOT = Path(__file__).resolve().parents[2]
SCREENS = ROOT / ".cache" / "screens"
ADMIN = "admin-token-of-the-browser-tests"
READER = "reader-token-of-the-browser-tests"
START_LIMIT = 60.0
"""Seconds: a start takes 3 to 5 on two busy cores."""

_FLAGS = [
    # Root has no sandbox, and the browser must not use the network on its own.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> str | None:
    """Return the path of Debian's Chromium, or None if it is not installed."""
    return shutil.which("chromium")


@dataclass(frozen=True)
class App:
    address: str
    storage: str
    """Connection string of its storage."""

    def api(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"X-Admin-Token": ADMIN, "Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, data, headers, method=method)  # noqa: S310 - always http on this machine
        with urllib.request.urlopen(request, timeout=START_LIMIT) as answer:  # noqa: S310
            return json.loads(answer.read())

    def launch(self, **fields: Any) -> str:
        """Launch an A10 and return the instance's id."""
        body = {"model_name": "meta-llama/Llama-3.1-8B-Instruct", "gpu": "A10", "region": "eastus", **fields}
        return str(self.api("POST", "/api/instances/launch", body)["instance_id"])

    def until(self, instance_id: str, phase: str, limit: float = 120.0) -> None:
        """Wait until an instance reaches a phase."""
        deadline = time.monotonic() + limit
        while (now := self.api("GET", f"/api/instances/{instance_id}")["phase"]) != phase:
            assert time.monotonic() < deadline, f"{instance_id} is {now}, not {phase}, after {limit} s"
            time.sleep(0.5)


@contextmanager
def running_app(folder: Path, speed: float, *, swept: bool = True) -> Generator[App]:
    """Run the app in simulation with its own storage; data and output go to `folder`.

    Without the sweep, made-up records stay as they are.
    """
    with ExitStack() as stack:
        storage = azurite.start(folder / "azurite")
        stack.callback(storage.stop)
        (port,) = free_ports(1)
        environment = {
            **os.environ,
            "AzureWebJobsStorage": storage.connection_string,
            "AzureWebJobsDisableHomepage": "true",
            "AZURE_FUNCTIONS_ENVIRONMENT": "Development",
            "PYTHON_THREADPOOL_THREAD_COUNT": "48",
            "AzureWebJobs.sweep.Disabled": "0" if swept else "1",
            "GPULAUNCH_ORCHESTRATOR": "simulation",
            "GPULAUNCH_SIMULATION_SPEED": f"{speed:g}",
            "GPULAUNCH_ADMIN_TOKENS": ADMIN,
            "GPULAUNCH_READ_TOKENS": READER,
            "GPULAUNCH_MASTER_KEY": "master-key-of-the-browser-tests-0123",
        }
        command = [sys.executable, "-m", "devhost", "--app", str(ROOT), "--port", str(port)]
        output = stack.enter_context((folder / "app.log").open("wb"))
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
        stack.callback(process.wait, 15)
        stack.callback(process.terminate)
        app = App(f"http://127.0.0.1:{port}", storage.connection_string)
        deadline = time.monotonic() + START_LIMIT
        while True:
            try:
                app.api("GET", "/api/health")
                break
            except OSError:
                assert process.poll() is None, (folder / "app.log").read_text("utf-8")
                assert time.monotonic() < deadline, "the app does not answer"
                time.sleep(0.2)
        yield app


@contextmanager
def running_browser(program: str) -> Generator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_FLAGS)
        yield browser
        browser.close()
