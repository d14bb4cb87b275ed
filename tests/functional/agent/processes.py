"""Real agents in processes of their own."""

import base64
import gzip
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

import httpx

from gpulaunch.models.requests import Job
from gpulaunch.models.times import iso
from shared.agent.build import agent_program
from shared.domain.node import Assignment, ModelFile, NodeStatus
from tests.functional.agent.servers import AGENT_TOKEN, API_KEY, CLUSTER, INSTANCE, NODE_TOKEN, ControlPlane

HERE = Path(__file__).parent
T = TypeVar("T")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def eventually(look: Callable[[], T | Literal[False, ""] | None], seconds: float = 12.0) -> T:
    """The first truthy result of `look` before the time is over."""
    until = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < until, f"never came: {look}"
        time.sleep(0.02)


@dataclass
class Node:
    process: subprocess.Popen[bytes]
    work: Path
    output: Path
    agent_port: int = 0

    def log(self) -> str:
        return self.output.read_text()

    def wait(self, seconds: float = 12.0) -> int:
        return self.process.wait(seconds)

    def vllm_pid(self) -> int:
        return int(eventually(lambda: (self.work / "vllm.pid").exists() and (self.work / "vllm.pid").read_text()))

    def ask(self, token: str = AGENT_TOKEN) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.get(f"http://127.0.0.1:{self.agent_port}/v1/status", headers=headers, timeout=5)

    def status(self) -> NodeStatus | None:
        try:
            return NodeStatus.model_validate_json(self.ask().content)
        except httpx.TransportError:
            return None

    def reaches(self, phase: str) -> NodeStatus:
        def look() -> NodeStatus | None:
            status = self.status()
            return status if status is not None and status.phase.value == phase else None

        return eventually(look)


@dataclass
class Nodes:
    """Starts agents; the fixture ends them."""

    folder: Path
    started: list[Node] = field(default_factory=list[Node])

    @property
    def program(self) -> Path:
        """The agent as it is shipped."""
        path = self.folder / "agent.pyz"
        if not path.exists():
            path.write_bytes(agent_program())
        return path

    @property
    def vllm(self) -> Path:
        path = self.folder / "bin" / "vllm"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            f"#!{sys.executable}\nimport runpy\nrunpy.run_path({str(HERE / 'fake_vllm.py')!r}, None, '__main__')\n"
        )
        path.chmod(0o755)
        return path

    def assignment(self, files: list[ModelFile], **more: Any) -> Assignment:
        facts: dict[str, Any] = {
            "instance_id": INSTANCE,
            "attempt": 1,
            "model_name": "org/tiny",
            "files": files,
            "vllm_args": [],
            "api_key": API_KEY,
            "port": None,
            "deadline_at": datetime.now(UTC) + timedelta(hours=1),
            "lease_seconds": 60,
        }
        job = more.pop("job", None)
        return Assignment(**(facts | more), job=None if job is None else Job(**job))

    def start(self, *, push: ControlPlane | None = None, pull: Assignment | None = None, **environ: Any) -> Node:
        """Start an agent; further values are its environment over the usual one."""
        number = len(self.started)
        base = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "GPULAUNCH_INSTANCE": INSTANCE,
            "GPULAUNCH_ATTEMPT": "1",
            "GPULAUNCH_CLUSTER": CLUSTER,
            "GPULAUNCH_DEADLINE": iso(datetime.now(UTC) + timedelta(hours=1)),
            "GPULAUNCH_LEASE_SECONDS": "60",
            "GPULAUNCH_VLLM_EXECUTABLE": str(self.vllm),
        }
        port = free_port()
        if push is not None:
            base |= {"GPULAUNCH_URL": push.url, "GPULAUNCH_NODE_TOKEN": NODE_TOKEN}
        if pull is not None:
            packed = base64.b64encode(gzip.compress(pull.model_dump_json().encode())).decode()
            base |= {"GPULAUNCH_ASSIGNMENT": packed, "GPULAUNCH_AGENT_TOKEN": AGENT_TOKEN}
            base["GPULAUNCH_AGENT_PORT"] = str(port)
        output = self.folder / f"agent-{number}.log"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-I", "-u", self.program], env=base | environ, stdout=file, stderr=subprocess.STDOUT
            )
        work = Path(environ.get("GPULAUNCH_WORK_DIR") or self.folder / "gpulaunch" / f"{INSTANCE}-1")
        node = Node(process, work, output, port)
        self.started.append(node)
        return node

    def slurm(self) -> dict[str, Any]:
        """Environment of a Slurm job whose `scancel` writes down what it is asked."""
        tools = self.folder / "tools"
        tools.mkdir(exist_ok=True)
        (tools / "scancel").write_text(f'#!/bin/sh\necho "$@" >>{self.folder}/scancelled\n')
        (tools / "scancel").chmod(0o755)
        path = f"{tools}:{os.environ['PATH']}"
        return {"GPULAUNCH_CLOUD": "slurm", "SLURM_JOB_ID": "4711", "PATH": path}

    def scancelled(self) -> str:
        path = self.folder / "scancelled"
        return path.read_text() if path.exists() else ""
