"""How requests reach nodes: over HTTP with aiohttp, or, for simulated nodes, not at all."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from functools import lru_cache
from typing import Protocol

import aiohttp
from yarl import URL

from gateway.answer import NodeAnswer, Whole
from gateway.late import Late
from gateway.simulated import canned
from gateway.snapshot import Node
from gpulaunch.trust import node_context

CONNECT_SECONDS, HANDSHAKE_SECONDS = 2.0, 5.0
"""Until a node is connected; a TLS handshake waits in vLLM behind what it is doing just then."""
ANSWER_SECONDS = 600.0
"""Until the headers of an answer come: a request that is not streamed is answered when it is done."""
KEEPALIVE_SECONDS = 30.0
"""For which an idle connection is kept; vLLM keeps it for longer (`agent/node/serve.py`)."""
IDLE_SECONDS = 120.0
"""Between two chunks."""
_HOP_BY_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailers", b"trailer",
        b"transfer-encoding", b"upgrade", b"content-length", b"server", b"date",
    }
)  # fmt: skip
"""Headers of a connection, not of an answer; the server in front writes its own."""
_PLAIN = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
_ENCRYPTED = aiohttp.ClientTimeout(total=None, sock_connect=HANDSHAKE_SECONDS)


class UpstreamError(Exception):
    """The node could not be reached, or broke the connection off."""


class UnreachableError(UpstreamError):
    """No connection to the node came about, so it knows nothing of the request."""


class UpstreamTimeoutError(Exception):
    """The node did not answer in time."""


class Upstream(Protocol):
    async def send(self, node: Node, path: str, headers: Mapping[str, str], body: bytes) -> NodeAnswer:
        """Send a request and return once the answer's headers are there. Whoever gets the answer closes it.

        Raises:
            UnreachableError: The request was not sent.
            UpstreamError: Nothing of an answer came.
            UpstreamTimeoutError: The same; the node may be working on it.
        """
        ...


class NodeUpstream:
    """Real nodes by HTTP, simulated ones by canned text."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._late = Late()

    async def send(self, node: Node, path: str, headers: Mapping[str, str], body: bytes) -> NodeAnswer:
        if node.simulated:
            return canned(node, path, body)
        sent = {**headers, "Authorization": f"Bearer {node.key}", "Accept-Encoding": "identity"}
        try:
            tls = True if node.server_name is None else node_context(node.authority)
            with self._late.limit(ANSWER_SECONDS):
                response = await self._session.post(
                    _address(node.base, path),
                    data=aiohttp.BytesPayload(body),
                    headers=sent,
                    timeout=_PLAIN if node.server_name is None else _ENCRYPTED,
                    allow_redirects=False,
                    ssl=tls,
                    server_hostname=node.server_name,
                )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise UnreachableError(str(error) or type(error).__name__) from error
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise UpstreamTimeoutError(str(error)) from error
            raise UpstreamError(str(error) or type(error).__name__) from error
        given = [(name.lower(), value) for name, value in response.raw_headers]
        kept = [(name, value) for name, value in given if name not in _HOP_BY_HOP]
        stream = response.headers.get("Content-Type", "").startswith("text/event-stream")
        content = response.content
        whole = content.is_eof() and content.exception() is None and response.connection is None
        if whole:  # its connection is free again already
            return NodeAnswer(response.status, kept, Whole(content.read_nowait()), stream, is_whole=True)
        return NodeAnswer(response.status, kept, _chunks(response), stream, response.close)


@lru_cache(1024)
def _address(base: str, path: str) -> URL:
    """An address that is taken apart once, not for each request."""
    return URL(f"{base}{path}")


class _Idle:
    """Gives an answer up of which nothing comes. One timer for the whole stream: one for each chunk costs more than
    all else that is done with it."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content
        self._loop = asyncio.get_running_loop()
        self.since: float | None = None
        """Since when it is waited for; None: what came is being passed on."""
        self.time = self._loop.time
        self._timer = self._loop.call_later(IDLE_SECONDS, self._look)

    def _look(self) -> None:
        left = IDLE_SECONDS
        if self.since is not None:
            left -= self.time() - self.since
            if left <= 0:
                self._content.set_exception(TimeoutError())
                return
        self._timer = self._loop.call_later(left, self._look)

    def end(self) -> None:
        self._timer.cancel()


async def _chunks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    content, idle = response.content, _Idle(response.content)
    try:
        while True:
            idle.since = idle.time()
            chunk = await content.readany()
            if not chunk:
                return
            idle.since = None
            yield chunk
    except TimeoutError as error:
        raise UpstreamTimeoutError("no more of the answer came") from error
    except (aiohttp.ClientError, OSError) as error:
        raise UpstreamError(str(error) or type(error).__name__) from error
    finally:
        idle.end()


def session() -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_SECONDS)
    return aiohttp.ClientSession(connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())
