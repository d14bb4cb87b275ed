"""The app under test: the real program on the local host, as a process that can be killed and started again."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.e2e.stack.assembly import Stack
from tests.e2e.stack.azurite import ROOT
from tests.e2e.stack.processes import StackError, free_port, wait_until

TOKEN = "token-of-the-end-to-end-test"
MASTER_KEY = "master-key-of-the-end-to-end-test-0123456789"
# Healthy after 2 s on idle cores; SkyPilot may be at work beside it.
START_SECONDS = 60


@dataclass
class App:
    """The app on `port`; everything a user does goes over HTTP."""

    stack: Stack
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, settings: Mapping[str, str] | None = None) -> None:
        environment = {
            **self.stack.sky.environment(),
            "AZURE_FUNCTIONS_ENVIRONMENT": "Development",
            "AzureWebJobsStorage": self.stack.azurite.connection_string,
            "GPULAUNCH_ORCHESTRATOR": "skypilot",
            "GPULAUNCH_ADMIN_TOKENS": TOKEN,
            "GPULAUNCH_MASTER_KEY": MASTER_KEY,
            "GPULAUNCH_VLLM_EXECUTABLE": str(self.stack.vllm.executable),
            "R2_ENDPOINT": self.stack.s3.endpoint,
            "R2_ACCESS_KEY_ID": self.stack.s3.access_key_id,
            "R2_SECRET_ACCESS_KEY": self.stack.s3.secret_access_key,
            **(settings or {}),
        }
        command = [sys.executable, "-m", "devhost", "--app", str(ROOT), "--port", str(self.port)]
        self._process = self.stack.processes.start("app", command, env=environment, cwd=ROOT)
        wait_until(self._healthy, seconds=START_SECONDS, what="the app to be healthy")

    def _healthy(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise StackError(f"the app ended: {self.stack.processes.log('app')}")
        try:
            return httpx.get(f"{self.url}/api/health", timeout=10).is_success
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        if self._process is not None:
            self.stack.processes.kill(self._process)
            self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self.stack.processes.stop(self._process)
            self._process = None

    def call(self, method: str, path: str, body: object = None, *, status: int = 200) -> Any:
        """Call the interface with the admin token; the JSON answer, whose status has to be `status`."""
        answer = httpx.request(
            method, f"{self.url}{path}", json=body, headers={"X-Admin-Token": TOKEN}, timeout=httpx.Timeout(60)
        )
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def launch(self, **changes: Any) -> str:
        body = {
            "model_name": "tiny-llama",
            "provider": "slurm",
            "region": self.stack.slurm.host,
            "gpu": "A10",
            "model_source": self.stack.model_source,
            "vllm_args": ["--enforce-eager", "--max-model-len", "256"],
            **changes,
        }
        answer = self.call("POST", "/api/instances/launch", body, status=202)
        assert answer["mode"] == "real"
        assert answer["message"] == "Real GPU instance launch initiated via SkyPilot"
        return str(answer["instance_id"])

    def show(self, instance_id: str) -> Any:
        return self.call("GET", f"/api/instances/{instance_id}")

    def events(self, instance_id: str) -> list[Any]:
        return list(self.call("GET", f"/api/instances/{instance_id}/events")["events"])

    def end(self, instance_id: str) -> None:
        self.call("DELETE", f"/api/instances/{instance_id}", status=202)

    def wait(self, instance_id: str, *phases: str, seconds: float) -> Any:
        """Wait until the instance is in one of `phases`; what it shows then. StackError with its story otherwise."""
        deadline = time.monotonic() + seconds
        while True:
            shown = self.show(instance_id)
            if shown["phase"] in phases:
                return shown
            final = shown["phase"] in ("terminated", "failed")
            if final or time.monotonic() > deadline:
                why = "ended" if final else f"did not come there in {seconds:g} s"
                raise StackError(f"waiting for {phases}, the instance {why}:\n{self.story(instance_id)}")
            time.sleep(0.5)

    def story(self, instance_id: str) -> str:
        """The events as lines, for people."""
        lines: list[str] = []
        for event in self.events(instance_id):
            took = event["duration_seconds"] or ""
            lines.append(f"{event['at']} {event['type']:<18}{event['phase']:<16}{took:>8}  {event['message']}")
        logs = self.call("GET", f"/api/instances/{instance_id}/logs")["lines"]
        return "\n".join([*lines, *(f"    | {line}" for line in logs[-20:])])

    def durations(self, instance_id: str) -> dict[str, float]:
        """Seconds spent in each phase, in order; a phase that came twice is added up."""
        spent: dict[str, float] = {}
        for event in self.events(instance_id):
            if event["type"] == "phase":
                name = event["data"]["from"]
                spent[name] = spent.get(name, 0.0) + event["duration_seconds"]
        return spent
