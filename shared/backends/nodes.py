"""Call nodes over HTTP: the agent for its report, vLLM for its health and load.

Nodes are not trusted: answers are limited in size and time, redirects are not followed, and junk is an error, not a
crash. Proxies of the environment are ignored: nodes are reached directly or not at all. aiohttp, because a sweep calls
thousands of nodes and httpx needs ten times the processor time per request.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

import aiohttp
from pydantic import ValidationError
from yarl import URL

from gpulaunch.trust import node_context
from shared.agent.task import PROOF_HEADER, Question
from shared.domain.node import NodeStatus
from shared.domain.provider import NodeTarget, NodeUnreachableError, Probe
from shared.domain.text import DETAIL_UNITS, shorten

PROBE_SECONDS = 3.0
"""vLLM answers /health in milliseconds even under load; 3 s allow for one lost packet (retried after 1 s, then 2 s)."""
STATUS_SECONDS = 5.0
"""The agent may be unpacking wheels on every core of a small node meanwhile; a step can wait that long."""
_AT_ONCE = 64
"""Connections open at the same time: a slice of nodes takes one or two rounds, within a worker's socket limits."""
_STATUS_BYTES = 1_000_000
"""A report has at most 200 log lines of 2000 characters."""
_METRICS_BYTES = 4_000_000
"""vLLM's metrics have about 100 KiB; more than this is not vLLM."""
_LARGEST = 2.0**53
"""Of a metric's value: counts are whole numbers, and no sum of them may become infinite."""
_OK = 200
_TOKENS = ("vllm:prompt_tokens_total", "vllm:generation_tokens_total", "vllm:iteration_tokens_total_sum")
"""Counts that go up with all that vLLM does: requests read, tokens written, and steps of either."""

T = TypeVar("T")


class _TooLongError(Exception):
    """An answer is larger than any legitimate one."""


_NO_ANSWER = (aiohttp.ClientError, OSError, TimeoutError, ValueError, _TooLongError)
"""ValueError: malformed address or non-HTTP response."""


def _client() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=_AT_ONCE),
        # The limits below apply to the whole answer, including the connection.
        timeout=aiohttp.ClientTimeout(total=None),
        headers={"Accept-Encoding": "identity"},
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )


def _url(address: str, port: int, path: str, scheme: str = "http") -> URL:
    """Raises ValueError for a malformed address."""
    return URL.build(scheme=scheme, host=address, port=port, path=path)


class HttpNodes:
    """Nodes over HTTP. Keeps no connections between calls, so it is thread-safe."""

    def status(self, target: NodeTarget) -> NodeStatus:
        """See Nodes; within 5 s."""
        found = _ask([target], _status)[target.cluster_name]
        if isinstance(found, NodeUnreachableError):
            raise found
        return found

    def statuses(self, targets: Sequence[NodeTarget]) -> dict[str, NodeStatus]:
        """See Nodes; within 5 s each. A silent agent alone does not mean a dead node: the probe of vLLM decides."""
        found = _ask(targets, _status)
        return {name: answer for name, answer in found.items() if not isinstance(answer, NodeUnreachableError)}

    def probe(self, targets: Sequence[NodeTarget]) -> dict[str, Probe]:
        """See Nodes.

        Takes about 3 s per 64 nodes that do not answer, milliseconds for those that do. Never raises: a node without a
        valid answer is not alive, and its message says why. With unreadable metrics it is alive and its load unknown.
        """
        return _ask(targets, _probe)


def _ask(
    targets: Sequence[NodeTarget], call: Callable[[aiohttp.ClientSession, NodeTarget], Awaitable[T]]
) -> dict[str, T]:
    """Call nodes in parallel; by cluster name."""

    async def gather() -> list[T]:
        places = asyncio.Semaphore(_AT_ONCE)
        async with _client() as client:

            async def one(target: NodeTarget) -> T:
                async with places:
                    return await call(client, target)

            return await asyncio.gather(*map(one, targets))

    if not targets:
        return {}
    return {target.cluster_name: answer for target, answer in zip(targets, asyncio.run(gather()), strict=True)}


async def _status(client: aiohttp.ClientSession, target: NodeTarget) -> NodeStatus | NodeUnreachableError:
    question = Question(target.agent_token, secrets.token_urlsafe(24))
    headers = question.headers if target.proves else {"Authorization": f"Bearer {target.agent_token}"}
    try:
        url = _url(target.address, target.agent_port, "/v1/status")
        code, body, given = await _get(client, url, _STATUS_BYTES, STATUS_SECONDS, headers)
    except _NO_ANSWER as error:
        return NodeUnreachableError(f"The agent on {target.address} did not answer: {_why(error)}")
    if code != _OK:
        return NodeUnreachableError(f"The agent on {target.address} answered {code}")
    if target.proves and not question.is_answered(given, body):
        return NodeUnreachableError(f"What answers on {target.address} does not prove to be the node's agent")
    try:
        return NodeStatus.model_validate_json(body)
    except ValidationError:
        return NodeUnreachableError(f"The agent on {target.address} sent an invalid answer")


async def _probe(client: aiohttp.ClientSession, target: NodeTarget) -> Probe:
    if target.port is None:
        return Probe(alive=False, message="vLLM's port is not known yet")
    headers = {"Authorization": f"Bearer {target.api_key}"}
    try:
        health = _url(target.address, target.port, "/health", "http" if target.server_name is None else "https")
        code, _, _ = await _get(client, health, _STATUS_BYTES, PROBE_SECONDS, headers, target)
    except _NO_ANSWER as error:
        return Probe(alive=False, message=f"vLLM did not answer: {_why(error)}")
    if code != _OK:
        return Probe(alive=False, message=f"vLLM's /health answered {code}")
    try:
        metrics = health.with_path("/metrics")
        code, body, _ = await _get(client, metrics, _METRICS_BYTES, PROBE_SECONDS, headers, target)
    except _NO_ANSWER as error:
        return Probe(alive=True, message=f"no metrics: {_why(error)}")
    if code != _OK:
        return Probe(alive=True, message=f"no metrics: vLLM answered {code}")
    text = body.decode(errors="replace")
    running, waiting = total(text, "vllm:num_requests_running"), total(text, "vllm:num_requests_waiting")
    message = "" if running is not None and waiting is not None else "vLLM's metrics don't show its requests"
    counts = [count for name in _TOKENS if (count := total(text, name)) is not None]
    return Probe(
        alive=True,
        message=message,
        running_requests=running,
        waiting_requests=waiting,
        finished_requests=total(text, "vllm:request_success_total"),
        tokens=sum(counts) if counts else None,
    )


async def _get(
    client: aiohttp.ClientSession,
    url: URL,
    most: int,
    seconds: float,
    headers: dict[str, str] | None = None,
    shown_by: NodeTarget | None = None,
) -> tuple[int, bytes, str]:
    """Return status, body and the proof of who answers, if there is one.

    `shown_by`: whose certificate has to be shown. Compression is declined, so that a small answer cannot unpack into a
    large one.
    """
    name = None if shown_by is None else shown_by.server_name
    tls = True if shown_by is None or name is None else node_context(shown_by.authority)
    call = client.get(url, headers=headers, allow_redirects=False, ssl=tls, server_hostname=name)
    async with asyncio.timeout(seconds), call as response:
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > most:
                raise _TooLongError(f"more than {most} bytes")
        return response.status, bytes(body), response.headers.get(PROOF_HEADER, "")


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "what answers there shows another certificate"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "no connection"
    # Such as a status line that the node made up.
    return shorten(str(error), DETAIL_UNITS) or type(error).__name__


def total(metrics: str, name: str) -> float | None:
    """Return the sum of a metric over all labels, from Prometheus' text format; None if it is absent."""
    found: list[float] = []
    for rest in _samples(metrics, name):
        if rest[:1] != "{" and not rest[:1].isspace():
            continue
        try:
            # A label's value may contain any character, so the labels end at the last brace.
            value = float(rest.rpartition("}")[2].split()[0])
        except (IndexError, ValueError):
            continue
        if 0 <= value <= _LARGEST:
            found.append(value)
    return sum(found) if found else None


def _samples(metrics: str, name: str) -> Iterator[str]:
    """Return what follows the name in each line that starts with it.

    Searched by `find`, since most of 100 KiB are other lines: a regular expression takes 0.5 ms per node and metric.
    """
    at = metrics.find(name)
    while at >= 0:
        end = metrics.find("\n", at)
        end = len(metrics) if end < 0 else end
        if at == 0 or metrics[at - 1] == "\n":
            yield metrics[at + len(name) : end]
        at = metrics.find(name, end)
