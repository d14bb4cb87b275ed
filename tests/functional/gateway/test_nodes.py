"""The gateway towards nodes over real sockets: streams, a client that leaves, a node that is killed."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from gateway import upstream
from gateway.snapshot import Node, snapshot_of
from gateway.upstream import NodeUpstream, UnreachableError, UpstreamError, UpstreamTimeoutError, session
from shared.auth import Deriver
from shared.certificates import node_name
from tests.standins.certificates import server_context
from tests.twins.clock import START

BODY = json.dumps({"model": "m"}).encode()
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def at(port: int) -> Node:
    return Node(instance_id="inst-1", attempt=1, base=f"http://127.0.0.1:{port}", key="node-key", model="m")


DERIVER = Deriver(SecretStr("k" * 32))


async def serve(handler: Handler, tls: ssl.SSLContext | None = None) -> tuple[web.AppRunner, int]:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", handler)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    port: int = runner.addresses[0][1]
    return runner, port


async def _all(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


def test_a_node_should_get_its_own_key_and_answer_byte_by_byte() -> None:
    async def story() -> None:
        seen: dict[str, str] = {}

        async def handler(request: web.Request) -> web.StreamResponse:
            seen.update(request.headers)
            assert await request.read() == BODY
            answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Of-Node": "1"})
            await answer.prepare(request)
            for number in range(3):
                await answer.write(f"data: {number}\n\n".encode())
            await answer.write_eof()
            return answer

        runner, port = await serve(handler)
        async with session() as client:
            answer = await NodeUpstream(client).send(at(port), "/v1/chat/completions", {"accept": "x"}, BODY)
            assert await _all(answer.chunks) == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
            answer.close()
        await runner.cleanup()
        assert (answer.status, answer.is_stream) == (200, True)
        assert (b"x-of-node", b"1") in answer.headers
        assert not {b"transfer-encoding", b"content-length", b"connection"} & {name for name, _ in answer.headers}
        assert (seen["Authorization"], seen["Accept-Encoding"]) == ("Bearer node-key", "identity")

    asyncio.run(asyncio.wait_for(story(), 10))


def routed(port: int, attempt: int) -> Node:
    """The only node of an endpoint's row, as the control plane writes it."""
    route: dict[str, Any] = {"attempt": attempt, "address": "127.0.0.1", "port": port, "sealed_key": "node-key"}
    route["server_name"] = node_name("inst-1", attempt)
    generation = {"number": 1, "template": {"model_name": "m"}}
    slot = {"instance_id": "inst-1", "generation": 1, "state": "active", "route": route}
    row = {"name": "chat", "replicas": 1, "generations": [generation], "slots": [slot]} | {
        "authority": DERIVER.authority_certificate()
    }
    return snapshot_of([{"doc": json.dumps(row)}], str, START).endpoints["chat"].nodes[0]


@pytest.mark.parametrize("shown", [1, 2])
def test_a_node_should_get_its_key_only_for_its_own_certificate(shown: int, tmp_path: Path) -> None:
    """And connections are used again, though the row is read anew meanwhile."""
    tls = server_context(DERIVER.certificate("inst-1", shown), tmp_path)

    async def story() -> None:
        ports: list[Any] = []

        async def handler(request: web.Request) -> web.StreamResponse:
            assert request.transport is not None
            ports.append(request.transport.get_extra_info("peername")[1])
            return web.json_response({})

        runner, port = await serve(handler, tls)
        async with session() as client:
            for _ in range(3):
                node = routed(port, attempt=1)
                assert node.base == f"https://127.0.0.1:{port}"
                try:
                    answer = await NodeUpstream(client).send(node, "/v1/chat/completions", {}, BODY)
                except UpstreamError:
                    continue
                assert await _all(answer.chunks) == b"{}"
                answer.close()
        await runner.cleanup()
        assert (len(ports), len(set(ports))) == ((3, 1) if shown == 1 else (0, 0))

    asyncio.run(asyncio.wait_for(story(), 10))


def test_a_node_that_never_answers_a_handshake_should_be_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.upstream.HANDSHAKE_SECONDS", 0.1)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            pass
        writer.close()

    async def story() -> None:
        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        async with session() as client:
            with pytest.raises(UpstreamError):
                await NodeUpstream(client).send(routed(server.sockets[0].getsockname()[1], 1), "/v1/x", {}, BODY)
        server.close()

    asyncio.run(asyncio.wait_for(story(), 10))


def test_closing_an_answer_should_end_the_request_on_the_node() -> None:
    async def story() -> None:
        ended = asyncio.Event()

        async def handler(request: web.Request) -> web.StreamResponse:
            answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await answer.prepare(request)
            try:
                while True:
                    await answer.write(b"data: x\n\n")
                    await asyncio.sleep(0.01)
            finally:
                ended.set()

        runner, port = await serve(handler)
        async with session() as client:
            answer = await NodeUpstream(client).send(at(port), "/v1/chat/completions", {}, BODY)
            async for _ in answer.chunks:
                break
            answer.close()
            await asyncio.wait_for(ended.wait(), 2)
        await runner.cleanup()

    asyncio.run(asyncio.wait_for(story(), 10))


def test_a_node_that_dies_should_be_an_error_before_and_in_its_answer() -> None:
    async def story() -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            if (await request.read()) != BODY:
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await answer.prepare(request)
            await answer.write(b"data: 1\n\n")
            assert request.transport is not None
            request.transport.abort()
            return answer

        runner, port = await serve(handler)
        async with session() as client:
            nodes, read = NodeUpstream(client), b""
            answer = await nodes.send(at(port), "/v1/chat/completions", {}, BODY)
            try:
                async for chunk in answer.chunks:
                    read += chunk
            except UpstreamError:
                read += b"broken"
            answer.close()
            assert read == b"data: 1\n\nbroken"
            await runner.cleanup()
            for body in (b"{}", BODY):
                try:
                    await nodes.send(at(port), "/v1/chat/completions", {}, body)
                except UnreachableError:
                    continue
                raise AssertionError("a node that is not there answered")

    asyncio.run(asyncio.wait_for(story(), 10))


@pytest.mark.parametrize("stalls", [True, False])
def test_an_answer_should_be_given_up_that_stops_and_not_one_that_is_slow(
    stalls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "IDLE_SECONDS", 0.2)

    async def story() -> None:
        over = asyncio.Event()

        async def handler(request: web.Request) -> web.StreamResponse:
            answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await answer.prepare(request)
            for _ in range(8):
                await answer.write(b"data: x\n\n")
                await asyncio.sleep(0.05)
            if stalls:
                await over.wait()
            return answer

        runner, port = await serve(handler)
        async with session() as client:
            answer = await NodeUpstream(client).send(at(port), "/v1/chat/completions", {}, BODY)
            await anext(answer.chunks)
            await asyncio.sleep(0.3)  # a client that takes its time is none of the node's fault
            if stalls:
                with pytest.raises(UpstreamTimeoutError):
                    await _all(answer.chunks)
            else:
                assert (await _all(answer.chunks)).endswith(b"data: x\n\n")
            answer.close()
        over.set()
        await runner.cleanup()

    asyncio.run(asyncio.wait_for(story(), 10))
