"""A real agent in its own process, and stand-ins for everything that it talks to."""

import base64
import gzip
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import httpx
from pydantic import BaseModel

from gpulaunch.models.requests import Job
from gpulaunch.models.times import iso
from shared.agent.build import agent_program
from shared.domain.node import Assignment, Heartbeat, JobResult, ModelFile, NodeRegistration, NodeStatus, NoticeReport

HERE = Path(__file__).parent
INSTANCE = "inst-01KG9ZZZZZZZZZZZZZZZZZZZZZ"
CLUSTER = "gl-01kg9zzzzzzzzzzzzzzzzzzzzz-1"
API_KEY, NODE_TOKEN, AGENT_TOKEN, SIGNATURE = "gl-endpoint-key", "node-token-secret", "agent-token-secret", "signed4242"
SECRETS = (API_KEY, NODE_TOKEN, AGENT_TOKEN, SIGNATURE)
Answer = tuple[int, Any]
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


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    answer: Callable[[BaseHTTPRequestHandler], None]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that were killed."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        cast(_Server, self.server).answer(self)

    def do_POST(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class StandIn:
    """An HTTP server on this machine."""

    def __init__(self) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.answer = self.answer
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        raise NotImplementedError

    def send(self, request: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Store(StandIn):
    """Objects with range requests, and troubles on demand."""

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, bytes] = {}
        self.ranges: list[tuple[str, str]] = []
        self.troubles: list[tuple[int, dict[str, str]]] = []
        """Answers given first, each once."""
        self.good_signature = SIGNATURE
        self.hold_after: int | None = None
        """Ranges after that many wait until `resume` is set."""
        self.resume = threading.Event()

    def file(self, path: str, body: bytes, size: int | None = None) -> ModelFile:
        self.objects[f"/{path}"] = body
        return ModelFile(path=path, url=f"{self.url}/{path}?X-Amz-Signature={SIGNATURE}", size=size or len(body))

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path, _, query = request.path.partition("?")
        wanted = request.headers.get("Range", "")
        if query != f"X-Amz-Signature={self.good_signature}":
            return self.send(request, 403, b"expired")
        if self.troubles:
            status, headers = self.troubles.pop(0)
            return self.send(request, status, b"", **headers)
        if self.hold_after is not None and len(self.ranges) >= self.hold_after:
            self.resume.wait(20)
        self.ranges.append((path, wanted))
        body, asked = self.objects[path], re.fullmatch(r"bytes=(\d+)-(\d+)", wanted)
        assert asked is not None
        first, last = int(asked[1]), min(int(asked[2]), len(body) - 1)
        said = f"bytes {first}-{last}/{len(body)}"
        return self.send(request, 206, body[first : last + 1], Content_Range=said, ETag='"1"')


@dataclass
class Call:
    """One call of a node, understood by the program's own models."""

    name: str
    body: BaseModel | None
    token: str


class ControlPlane(StandIn):
    """The node's half of the HTTP interface."""

    MODELS = {
        "progress": NodeStatus,
        "register": NodeRegistration,
        "heartbeat": Heartbeat,
        "notice": NoticeReport,
        "complete": JobResult,
    }

    def __init__(self) -> None:
        super().__init__()
        self.assignment: Assignment | None = None
        self.calls: list[Call] = []
        self.lease: Answer = (200, {"renewed": True, "lease_seconds": 60})
        self.on_assignment: Callable[[], None] = lambda: None

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("Content-Length") or 0)
        text = request.rfile.read(length)
        name = request.path.removeprefix(f"/api/nodes/{INSTANCE}/")
        token = (request.headers.get("Authorization") or "").removeprefix("Bearer ")
        if name == "assignment":
            self.on_assignment()
            self.calls.append(Call(name, None, token))
            if self.assignment is None:
                problem = {"status": 422, "code": "model_fetch_failed", "detail": "there are no files in r2://m/x"}
                return self.send(request, 422, json.dumps(problem).encode())
            return self.send(request, 200, self.assignment.model_dump_json().encode())
        body = self.MODELS[name].model_validate_json(text)
        self.calls.append(Call(name, body, token))
        status, said = self.lease
        return self.send(request, status, json.dumps(said).encode(), Content_Type="application/json")

    def bodies(self, name: str) -> list[Any]:
        return [call.body for call in self.calls if call.name == name]

    def phases(self) -> list[str]:
        """The phases reported, without repetitions."""
        reported = [body.phase.value for body in self.bodies("progress")]
        return [phase for index, phase in enumerate(reported) if index == 0 or reported[index - 1] != phase]


class Metadata(StandIn):
    """Azure's instance metadata service and resource manager in one."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []
        self.requests: list[tuple[str, str, str]] = []
        self.group = f"{CLUSTER}-67706c61-eastus"
        self.delete_status = 202

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        self.requests.append((request.command, request.path, request.headers.get("Authorization") or ""))
        if path.startswith("/metadata/"):
            assert request.headers.get("Metadata") == "true"
        if path == "/metadata/scheduledevents":
            said: Any = {"DocumentIncarnation": 1, "Events": self.events}
        elif path == "/metadata/instance/compute":
            said = {"subscriptionId": "sub-1", "resourceGroupName": self.group, "name": "vm-1"}
        elif path == "/metadata/identity/oauth2/token":
            said = {"access_token": "managed-identity-token"}
        elif request.command == "DELETE":
            return self.send(request, self.delete_status, b"")
        else:
            return self.send(request, 202, b"")
        return self.send(request, 200, json.dumps(said).encode())


@dataclass
class Node:
    """A running agent."""

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
