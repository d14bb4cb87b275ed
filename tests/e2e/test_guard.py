"""Real vLLM behind the guard, started by the real agent: who gets what from an endpoint, and what the guard costs."""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
import statistics
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from shared.agent.node import guard
from shared.agent.node.guard import SERVED
from shared.auth import Deriver
from shared.backends.nodes import total
from shared.model_sources.assignment import node_tls
from tests.e2e.stack import model, vllm
from tests.e2e.stack.assembly import CACHE
from tests.e2e.stack.processes import wait_until
from tests.e2e.stack.vllm import Vllm
from tests.functional.agent.processes import Node, Nodes, free_port
from tests.functional.agent.servers import API_KEY, Store

SERVER_SECONDS = 600
ARGS = ["--enforce-eager", "--max-model-len", "256"]
OWN = {"Authorization": f"Bearer {API_KEY}"}
ROUNDS, TOKENS = 8, 150
PATIENCE = 60
"""Seconds; vLLM needs five for its OpenAPI document on a busy machine."""
DERIVER = Deriver(SecretStr("k" * 32))
TRUSTED = ssl.create_default_context(cadata=DERIVER.authority_certificate())
CLIENT = httpx.Client(timeout=PATIENCE, verify=TRUSTED)
"""One for all: each has a TLS context of its own, which takes longer than a request."""


@dataclass(frozen=True)
class Server:
    port: int
    pid: int | None = None
    """The process that serves HTTP, where it was started by hand: without a certificate."""

    @property
    def url(self) -> str:
        return f"{'https' if self.pid is None else 'http'}://127.0.0.1:{self.port}"

    def connect(self) -> http.client.HTTPConnection:
        if self.pid is None:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=PATIENCE, context=TRUSTED)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def ask(self, method: str, path: str, headers: dict[str, str], **more: Any) -> httpx.Response:
        return CLIENT.request(method, f"{self.url}{path}", headers=headers, **more)

    def stream(self, headers: dict[str, str]) -> tuple[int, float]:
        """Stream one chat; return its tokens and seconds."""
        began, tokens = time.monotonic(), 0
        with CLIENT.stream("POST", f"{self.url}/v1/chat/completions", json=chat(TOKENS), headers=headers) as got:
            assert got.status_code == 200, got.read()
            for line in got.iter_lines():
                tokens += '"delta":{"content"' in line.replace(" ", "")
        return tokens, time.monotonic() - began

    def cpu(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def chat(tokens: int) -> dict[str, Any]:
    return {
        "model": "org/tiny",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": tokens,
        "ignore_eos": True,
        "stream": True,
    }


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    made = Nodes(tmp_path_factory.mktemp("node"))
    yield made
    for node in made.started:
        node.process.terminate()
        node.process.wait(60)


VARIABLES = {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}


def node(nodes: Nodes, environment: Vllm) -> Server:
    """A node of the real agent with real vLLM."""
    tiny = model.make(CACHE / model.NAME, environment.python)
    variables: dict[str, Any] = {**environment.variables(), **VARIABLES, "GPULAUNCH_LEASE_SECONDS": "3600"}
    store = Store()
    files = [store.file(path.name, path.read_bytes()) for path in model.files(tiny)]
    tls = node_tls(DERIVER, "inst-1", 1)
    given = nodes.assignment(files, vllm_args=ARGS, lease_seconds=3600, tls=tls)
    agent = nodes.start(pull=given, GPULAUNCH_VLLM_EXECUTABLE=str(environment.executable), **variables)

    def serving() -> int | None:
        status = agent.status()
        assert status is None or status.phase.value != "failed", status
        return status.port if status is not None and status.phase.value == "serving" else None

    wait_until(serving, seconds=SERVER_SECONDS, what="vLLM behind the guard")
    store.close()
    return Server(serving() or 0)


def by_hand(nodes: Nodes, environment: Vllm, *more: str) -> Server:
    """vLLM without an agent, with further arguments."""
    tiny, port = model.make(CACHE / model.NAME, environment.python), free_port()
    command = [str(environment.executable), "serve", str(tiny), "--served-model-name", "org/tiny", *ARGS, *more]
    own = {"PATH": os.environ["PATH"], "HOME": str(nodes.folder), "PYTHONPATH": str(nodes.folder), guard.KEY: API_KEY}
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        env=environment.variables() | VARIABLES | own,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    nodes.started.append(Node(process, nodes.folder, nodes.folder / "log"))
    wait_until(lambda: answers(port), seconds=SERVER_SECONDS, what="vLLM started by hand")
    return Server(port, process.pid)


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", headers=OWN, timeout=2).is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def environment() -> Vllm:
    return vllm.build(CACHE)


@pytest.fixture(scope="module")
def guarded(nodes: Nodes, environment: Vllm) -> Server:
    return node(nodes, environment)


def handshake(server: Server, path: str, headers: dict[str, str]) -> int:
    """The status of the answer to a websocket's opening handshake."""
    connection = server.connect()
    opening = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    connection.request("GET", path, headers={**opening, "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", **headers})
    status = connection.getresponse().status
    connection.close()
    return status


def test_every_route_of_vllm_should_be_closed_without_the_key(guarded: Server) -> None:
    document = guarded.ask("GET", "/openapi.json", OWN).json()
    paths = {re.sub(r"\{\w+\}", "x", path) for path in document["paths"]}
    assert {"/v1/chat/completions", "/invocations", "/health"} <= paths
    paths |= {
        "/",
        "/docs",
        "/redoc",
        "/openapi.json",
        "/metrics",
        "/metrics/",
        "/nowhere",
        *SERVED["GET"],
        *SERVED["POST"],
    }
    wrong: list[dict[str, str]] = [{}, {"Authorization": f"Bearer {API_KEY}x"}, {"Authorization": "Bearer"}]
    for headers in wrong:
        for path in sorted(paths):
            for method in ("GET", "POST", "OPTIONS", "HEAD", "PUT", "DELETE"):
                assert guarded.ask(method, path, headers).status_code == 401, f"{method} {path}"
            assert handshake(guarded, path, headers) == 401, path
        assert handshake(guarded, "/v1/realtime", headers) == 401
    print(
        f"\n{len(document['paths'])} routes of vLLM's own document and {len(paths)} paths in all: 401 without the key"
    )


def test_with_the_key_what_is_listed_should_be_served_and_nothing_else(guarded: Server) -> None:
    tokens, _ = guarded.stream(OWN)
    assert tokens > TOKENS / 2
    for path in ("/health", "/metrics", "/v1/models", "/version", "/ping"):
        assert guarded.ask("GET", path, OWN).status_code == 200, path
    metrics = guarded.ask("GET", "/metrics", OWN).text
    for name in (
        "num_requests_running",
        "num_requests_waiting",
        "request_success",
        "prompt_tokens",
        "generation_tokens",
    ):
        assert total(metrics, f"vllm:{name}" + ("" if name.startswith("num") else "_total")) is not None, name
    for path in ("/invocations", "/v1/load_lora_adapter", "/scale_elastic_ep", "/inference/v1/generate"):
        assert guarded.ask("POST", path, OWN, json=chat(1)).status_code == 404, path
    assert handshake(guarded, "/elsewhere", OWN) == 404


def test_a_large_body_without_the_key_should_be_refused_before_it_is_read(guarded: Server) -> None:
    connection = guarded.connect()
    connection.putrequest("POST", "/v1/chat/completions")
    connection.putheader("Content-Length", str(2**40))
    connection.endheaders()
    assert connection.getresponse().status == 401
    connection.close()


def test_nobody_should_get_an_answer_in_plain(guarded: Server) -> None:
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{guarded.port}/health", headers=OWN, timeout=PATIENCE)


def checking() -> float:
    """Seconds of CPU that the guard itself takes for a request."""
    os.environ[guard.KEY] = API_KEY
    passed: Any = object()

    def app(scope: guard.Message, receive: guard.Receive, send: guard.Send) -> Any:
        return passed

    guarded = guard.Guard(app)
    headers = [(b"host", b"x"), (b"accept", b"*/*"), (b"authorization", f"Bearer {API_KEY}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers}
    began = time.process_time()
    for _ in range(10_000):
        guarded(scope, passed, passed)
    seconds = (time.process_time() - began) / 10_000
    print(f"\nthe guard takes {seconds * 1e6:.1f} µs of CPU a request, and nothing for a token")
    return seconds


def test_the_guard_should_cost_at_most_a_hundredth_of_a_request(nodes: Nodes, environment: Vllm) -> None:
    (nodes.folder / "its_guard.py").write_text(Path(guard.__file__).read_text())
    pair = [("guarded", by_hand(nodes, environment, "--middleware", "its_guard.Guard"))]
    pair.append(("bare", by_hand(nodes, environment)))
    seconds: dict[str, list[float]] = {"guarded": [], "bare": []}
    cpu: dict[str, float] = {"guarded": 0.0, "bare": 0.0}
    for _, server in pair:
        server.stream(OWN)
    for turn in range(ROUNDS):
        # In turns, first one and then the other: whatever else the machine does hits both.
        for name, server in pair if turn % 2 else reversed(pair):
            before = server.cpu()
            tokens, took = server.stream(OWN)
            assert tokens > TOKENS / 2
            seconds[name].append(took / tokens)
            cpu[name] += (server.cpu() - before) / tokens
    ratio = statistics.median(bare / own for bare, own in zip(seconds["bare"], seconds["guarded"], strict=True))
    shown = {name: f"{1 / statistics.median(values):.1f}" for name, values in seconds.items()}
    used = {name: f"{value / ROUNDS * 1e6:.0f}" for name, value in cpu.items()}
    print(
        f"\ntokens/s {json.dumps(shown)}, ratio {ratio:.4f}; µs of CPU a token in the HTTP process {json.dumps(used)}"
    )
    # The ratio is of a machine that may have other work; what the guard adds to a request is measured by itself.
    assert checking() < cpu["guarded"] / ROUNDS * TOKENS / 100
