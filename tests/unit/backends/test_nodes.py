"""Nodes asked over real HTTP on this machine."""

import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from shared.agent.node.log import Log
from shared.agent.node.proof import NONCE_HEADER, PROOF_HEADER, authorization, proof
from shared.agent.node.report import StatusServer
from shared.agent.node.state import State
from shared.auth import Deriver
from shared.backends.nodes import HttpNodes, total
from shared.certificates import node_name
from shared.domain.node import NodePhase, NodeStatus
from shared.domain.provider import NodeTarget, NodeUnreachableError
from tests.standins.certificates import server_context
from tests.standins.http import HttpServer, Request, Response

METRICS = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a}b \\" {c"} 2.0
vllm:num_requests_running{engine="1",model_name="m"} 1.0
vllm:num_requests_waiting{engine="0",model_name="m"} 4.0
vllm:num_requests_waiting_by_reason{engine="0",reason="x"} 99.0
vllm:num_requests_swapped 7
"""

DERIVER = Deriver(SecretStr("k" * 32))
Page = tuple[int, bytes] | Callable[[BaseHTTPRequestHandler], None]


class Node:
    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.pages: dict[str, Page] = {"/health": (200, b""), "/metrics": (200, METRICS.encode())}
        self.authorizations: list[str | None] = []
        self.encodings: list[str | None] = []
        self.prove: Callable[[str], dict[str, str]] = lambda _: {}
        self.server = HttpServer(self._answer, tls=tls).__enter__()
        self.port = self.server.port

    def _answer(self, request: Request) -> Response | None:
        self.authorizations.append(request.headers.get("Authorization"))
        self.encodings.append(request.headers.get("Accept-Encoding"))
        page = self.pages.get(request.target, (404, b""))
        if callable(page):
            assert request.connection is not None
            page(request.connection)
            return None
        proof = self.prove(request.headers.get(NONCE_HEADER, ""))
        return Response(page[0], page[1], {"Location": "/health"} if page[0] == 302 else proof)

    def target(self, name: str = "gl-1", port: int | None = -1) -> NodeTarget:
        return NodeTarget(
            instance_id="inst-1",
            cluster_name=name,
            attempt=1,
            address="127.0.0.1",
            port=self.port if port == -1 else port,
            agent_port=self.port,
            agent_token="agent-token",
            api_key="gl-key",
        )

    def close(self) -> None:
        self.server.__exit__()


@pytest.fixture
def node() -> Iterator[Node]:
    node = Node()
    yield node
    node.close()


def test_the_agent_s_account_is_read_with_its_token(node: Node) -> None:
    node.pages["/v1/status"] = (200, json.dumps({"phase": "loading_model", "fetched_bytes": 3}).encode())
    status = HttpNodes().status(node.target())
    assert (status.phase, status.fetched_bytes) == (NodePhase.LOADING_MODEL, 3)
    assert node.authorizations == ["Bearer agent-token"]


@pytest.mark.parametrize(
    ("code", "body", "said"),
    [
        (401, b"", "answered 401"),
        (302, b"", "answered 302"),
        (200, b"not json", "invalid answer"),
        (200, b"{}", "invalid answer"),
        (200, b'{"phase": "dancing"}', "invalid answer"),
        (200, b'{"phase": "serving", "port": 99999999}', "invalid answer"),
        (200, b" " * 1_000_001, "more than"),
    ],
)
def test_an_account_that_is_none_is_unreachable(node: Node, code: int, body: bytes, said: str) -> None:
    node.pages["/v1/status"] = (code, body)
    with pytest.raises(NodeUnreachableError, match=said):
        HttpNodes().status(node.target())


class Agent:
    """A real agent's status server, with a token of its own."""

    def __init__(self, token: str = "agent-token") -> None:
        self.renewals = 0
        self.server = StatusServer(0, token, State(Log()), self._renew)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _renew(self) -> None:
        self.renewals += 1

    def ask(self, *, proves: bool = True, token: str = "agent-token") -> NodeStatus:
        port = int(self.server.server_address[1])
        target = NodeTarget(
            instance_id="inst-1",
            cluster_name="gl-1",
            attempt=1,
            address="127.0.0.1",
            port=None,
            agent_port=port,
            agent_token=token,
            api_key="gl-key",
            proves=proves,
        )
        return HttpNodes().status(target)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def agent() -> Iterator[Agent]:
    made = Agent()
    yield made
    made.close()


@pytest.mark.parametrize("proves", [True, False])
def test_an_agent_answers_whoever_has_its_token(agent: Agent, proves: bool) -> None:
    assert agent.ask(proves=proves).phase is NodePhase.INSTALLING
    assert agent.renewals == 1


@pytest.mark.parametrize("proves", [True, False])
def test_an_agent_with_another_token_is_not_the_node(proves: bool) -> None:
    stranger = Agent("another-token")
    try:
        with pytest.raises(NodeUnreachableError, match="401"):
            stranger.ask(proves=proves)
        assert stranger.renewals == 0
    finally:
        stranger.close()


@pytest.mark.parametrize("proof_of", [None, "another-token"])
def test_whatever_answers_without_the_proof_is_not_the_node_and_learns_no_token(
    node: Node, proof_of: str | None
) -> None:
    body = json.dumps({"phase": "serving", "port": 8000}).encode()
    node.pages["/v1/status"] = (200, body)
    if proof_of is not None:
        node.prove = lambda nonce: {PROOF_HEADER: proof(proof_of, nonce, body)}
    with pytest.raises(NodeUnreachableError, match="does not prove"):
        HttpNodes().status(replace(node.target(), proves=True))
    assert "agent-token" not in str(node.authorizations)


def test_an_answer_to_another_question_proves_nothing(node: Node) -> None:
    body = json.dumps({"phase": "serving", "port": 8000}).encode()
    node.pages["/v1/status"] = (200, body)
    node.prove = lambda nonce: {PROOF_HEADER: proof("agent-token", "x" * len(nonce), body)}
    with pytest.raises(NodeUnreachableError, match="does not prove"):
        HttpNodes().status(replace(node.target(), proves=True))
    node.prove = lambda nonce: {PROOF_HEADER: proof("agent-token", nonce, body)}
    assert HttpNodes().status(replace(node.target(), proves=True)).port == 8000


@pytest.mark.parametrize(("nonce", "status"), [("n" * 32, 200), ("n" * 15, 401), ("n" * 65, 401), ("", 401)])
def test_a_question_counts_once(agent: Agent, nonce: str, status: int) -> None:
    url = f"http://127.0.0.1:{agent.server.server_address[1]}/v1/status"
    headers = {"Authorization": authorization("agent-token", nonce), NONCE_HEADER: nonce}
    assert [httpx.get(url, headers=headers).status_code for _ in range(2)] == [status, 401]
    assert agent.renewals == (status == 200)


def test_many_agents_are_asked_side_by_side_and_silent_ones_left_out(node: Node) -> None:
    node.pages["/v1/status"] = (200, json.dumps({"phase": "serving", "job": {"exit_code": 3}}).encode())
    gone = Node()
    silent = gone.target("gl-silent")
    gone.close()
    found = HttpNodes().statuses([node.target("gl-1"), silent, node.target("gl-2")])
    assert set(found) == {"gl-1", "gl-2"}
    assert found["gl-1"].job is not None
    assert found["gl-1"].job.exit_code == 3
    assert HttpNodes().statuses([]) == {}


def test_tokens_are_counted_over_all_that_vllm_does(node: Node) -> None:
    counted = METRICS + 'vllm:prompt_tokens_total{engine="0"} 5.0\nvllm:generation_tokens_total{engine="0"} 2.0\n'
    counted += 'vllm:iteration_tokens_total_sum{engine="0"} 1.0\nvllm:iteration_tokens_total_count{engine="0"} 90.0\n'
    node.pages["/metrics"] = (200, counted.encode())
    assert HttpNodes().probe([node.target()])["gl-1"].tokens == 8.0
    node.pages["/metrics"] = (200, METRICS.encode())
    assert HttpNodes().probe([node.target()])["gl-1"].tokens is None


def test_finished_requests_are_counted_over_all_reasons(node: Node) -> None:
    counted = METRICS + 'vllm:request_success_total{finished_reason="stop"} 5.0\n'
    counted += 'vllm:request_success_total{finished_reason="length"} 2.0\n'
    node.pages["/metrics"] = (200, counted.encode())
    assert HttpNodes().probe([node.target()])["gl-1"].finished_requests == 7.0


def test_a_node_that_is_gone_is_unreachable() -> None:
    gone = Node()
    target = gone.target()
    gone.close()
    with pytest.raises(NodeUnreachableError, match="no connection"):
        HttpNodes().status(target)


def test_an_address_that_is_none_is_unreachable(node: Node) -> None:
    target = NodeTarget(
        instance_id="inst-1",
        cluster_name="gl-1",
        attempt=1,
        address="not a host",
        port=8000,
        agent_port=8001,
        agent_token="t",
        api_key="k",
    )
    with pytest.raises(NodeUnreachableError):
        HttpNodes().status(target)
    assert not HttpNodes().probe([target])["gl-1"].alive


def test_a_healthy_node_says_what_it_does(node: Node) -> None:
    probe = HttpNodes().probe([node.target()])["gl-1"]
    assert (probe.alive, probe.running_requests, probe.waiting_requests, probe.message) == (True, 3.0, 4.0, "")
    assert node.authorizations == ["Bearer gl-key", "Bearer gl-key"]


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[Node]:
    """With the certificate of the instance's second attempt."""
    node = Node(server_context(DERIVER.certificate("inst-1", 2), tmp_path))
    yield node
    node.close()


def trusting(node: Node, deriver: Deriver, attempt: int) -> NodeTarget:
    name = node_name("inst-1", attempt)
    return replace(node.target(), server_name=name, authority=deriver.authority_certificate())


def test_a_node_that_shows_its_certificate_should_be_asked_by_tls(encrypted: Node) -> None:
    target = trusting(encrypted, DERIVER, 2)
    probe = HttpNodes().probe([target])["gl-1"]
    assert (probe.alive, probe.running_requests) == (True, 3.0)
    assert encrypted.authorizations == ["Bearer gl-key", "Bearer gl-key"]


@pytest.mark.parametrize(
    ("deriver", "attempt"), [(DERIVER, 1), (Deriver(SecretStr("l" * 32)), 2)], ids=["next", "strange"]
)
def test_whatever_shows_another_certificate_should_not_get_the_key(
    encrypted: Node, deriver: Deriver, attempt: int
) -> None:
    """As when the address was given to somebody else, or to the next attempt."""
    target = trusting(encrypted, deriver, attempt)
    probe = HttpNodes().probe([target])["gl-1"]
    assert (probe.alive, "another certificate" in probe.message) == (False, True)
    assert encrypted.authorizations == []


def test_whatever_answers_in_plain_should_not_get_the_key(node: Node) -> None:
    target = trusting(node, DERIVER, 1)
    assert not HttpNodes().probe([target])["gl-1"].alive
    assert node.authorizations == []


def test_the_secrets_of_a_target_should_not_be_in_what_is_printed_of_it(node: Node) -> None:
    assert not re.search("agent-token|gl-key", repr(node.target()))


@pytest.mark.parametrize("code", [302, 401, 404, 500, 503])
def test_a_node_whose_health_is_not_200_is_not_alive(node: Node, code: int) -> None:
    node.pages["/health"] = (code, b"")
    probe = HttpNodes().probe([node.target()])["gl-1"]
    assert not probe.alive
    assert str(code) in probe.message


@pytest.mark.parametrize("metrics", [(404, b""), (200, b"\xff\xfe junk"), (200, b""), (200, b"x" * 4_000_001)])
def test_a_node_without_readable_metrics_is_alive_and_its_load_unknown(node: Node, metrics: tuple[int, bytes]) -> None:
    node.pages["/metrics"] = metrics
    probe = HttpNodes().probe([node.target()])["gl-1"]
    assert (probe.alive, probe.running_requests, probe.waiting_requests) == (True, None, None)
    assert probe.message


def test_one_silent_node_does_not_hold_up_the_others(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.backends.nodes.PROBE_SECONDS", 0.3)
    released = threading.Event()
    silent = Node()

    def wait(_: BaseHTTPRequestHandler) -> None:
        released.wait(10)

    silent.pages["/health"] = wait
    try:
        targets = [silent.target(f"silent-{number}") for number in range(20)] + [node.target("good")]
        started = time.monotonic()
        probes = HttpNodes().probe(targets)
        assert time.monotonic() - started < 3.0
        assert probes["good"].alive
        assert [probes[f"silent-{number}"].alive for number in range(20)] == [False] * 20
        assert "in time" in probes["silent-0"].message
    finally:
        released.set()
        silent.close()


def test_a_node_that_drips_is_cut_off(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.backends.nodes.PROBE_SECONDS", 0.3)
    released = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
        handler.wfile.flush()
        while not released.wait(0.05):
            try:
                handler.wfile.write(b".")
                handler.wfile.flush()
            except OSError:
                return

    node.pages["/health"] = drip
    assert not HttpNodes().probe([node.target()])["gl-1"].alive
    released.set()


def test_a_port_that_is_not_known_is_not_asked(node: Node) -> None:
    assert not HttpNodes().probe([node.target(port=None)])["gl-1"].alive
    assert node.authorizations == []


def test_no_node_no_probe() -> None:
    assert HttpNodes().probe([]) == {}


def test_the_environment_s_proxy_is_no_way_to_a_node(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert HttpNodes().probe([node.target()])["gl-1"].alive


def test_answers_are_not_compressed_so_that_a_small_one_can_t_unpack_into_a_large_one(node: Node) -> None:
    HttpNodes().probe([node.target()])
    assert node.encodings == ["identity", "identity"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("m 1", 1.0),
        ("m 1 1700000000000", 1.0),
        ("m{} 2", 2.0),
        ("m 1\nm 2", 3.0),
        ("m NaN", None),
        ("m +Inf", None),
        ("m -1", None),
        ("m", None),
        ("m ", None),
        ("m{unclosed 4", None),
        ("mm 4", None),
        ("m4 4", None),
        ("# m 4", None),
    ],
)
def test_metrics(line: str, expected: float | None) -> None:
    assert total(line, "m") == expected
