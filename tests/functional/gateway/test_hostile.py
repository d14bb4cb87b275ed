"""Clients that mean harm: none makes the gateway fail, and none makes it keep what it sent."""

import asyncio
import gc
import json
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

import pytest
import uvicorn

from gateway import server
from gateway.server import MOST_HEADERS, LimitedProtocol
from tests.functional.gateway.desk import CHAT, KEY, Called, Desk, endpoint, node, play, settle

POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + KEY.encode() + b"\r\n"


def over_sockets(story: Callable[[Desk, int], Awaitable[None]]) -> None:
    async def run() -> None:
        desk = Desk()
        desk.list(endpoint(node(1)))
        given = {"http": LimitedProtocol, "lifespan": "off", "ws": "none", "log_level": "critical", "port": 0}
        front = uvicorn.Server(uvicorn.Config(desk.gateway, **given))  # pyright: ignore[reportArgumentType]
        serving = asyncio.create_task(front.serve())
        while not front.started and not serving.done():
            await asyncio.sleep(0.001)
        await asyncio.wait_for(story(desk, front.servers[0].sockets[0].getsockname()[1]), 10)
        front.should_exit = True
        await serving
        desk.assert_at_rest()

    asyncio.run(run())


async def answer_to(port: int, *parts: bytes) -> bytes:
    """What the gateway answers until it closes the connection; a client that is cut off goes on sending in vain."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        while chunk := await reader.read(65536):
            answer += chunk
    except ConnectionError:
        pass
    finally:
        writer.close()
    return answer


@pytest.mark.parametrize("flood", [b"X-%d: " + b"a" * 1000 + b"\r\n", b"a"])
def test_headers_without_an_end_should_close_the_connection(flood: bytes) -> None:
    async def story(desk: Desk, port: int) -> None:
        lines = [flood.replace(b"%d", str(number).encode()) for number in range(5 * MOST_HEADERS // len(flood))]
        parts = [b"".join(lines)] if len(flood) > 1 else [b"X: " + b"".join(lines)]
        answer = await answer_to(port, POST, *parts)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 431")
        assert desk.upstream.sent == []
        assert sum(desk.gateway.counts.answers.values()) == 0

    over_sockets(story)


def test_many_headers_within_the_limit_and_a_second_request_should_be_answered() -> None:
    async def story(desk: Desk, port: int) -> None:
        body = json.dumps(CHAT | {"text": "a" * 2 * MOST_HEADERS}).encode()
        filled = b"X: " + b"a" * (MOST_HEADERS // 2) + b"\r\n"
        one = POST + filled + b"Content-Length: %d\r\n" % len(body)
        answer = await answer_to(port, one + b"\r\n" + body + one + b"Connection: close\r\n\r\n", body)
        assert answer.count(b"HTTP/1.1 200") == 2

    over_sockets(story)


def test_a_body_that_does_not_come_should_be_a_408_and_hold_no_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODY_SECONDS", 0.05)

    async def story(desk: Desk, port: int) -> None:
        slow = POST + b"Content-Length: 100\r\nConnection: close\r\n\r\n{"
        answers = await asyncio.gather(*(answer_to(port, slow) for _ in range(20)))
        assert {one.split(b" ")[1] for one in answers} == {b"408"}
        assert {json.loads(one.partition(b"\r\n\r\n")[2])["error"]["code"] for one in answers} == {"timeout"}
        assert desk.upstream.sent == []

    over_sockets(story)


def test_a_body_that_does_not_come_after_its_answer_should_close_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "BODY_SECONDS", 0.05)

    async def story(desk: Desk, port: int) -> None:
        del desk
        answer = await answer_to(port, POST.replace(KEY.encode(), b"wrong") + b"Content-Length: 100\r\n\r\n{")
        assert answer.startswith(b"HTTP/1.1 401")
        assert answer.count(b"HTTP/1.1") == 1

    over_sockets(story)


def test_a_request_behind_one_that_is_being_answered_should_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODY_SECONDS", 0.05)

    async def story(desk: Desk, port: int) -> None:
        body = json.dumps(CHAT).encode()
        desk.upstream.acts["inst-1"] = [[b"data: 1\n\n", later := asyncio.Event(), b"data: 2\n\n"]]
        asyncio.get_running_loop().call_later(0.2, later.set)
        first = POST + b"Content-Length: %d\r\n\r\n" % len(body) + body
        second = POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        # Its body is there, and is not read before the first answer is complete.
        answer = await answer_to(port, first, second, body)
        assert b"data: 2" in answer
        assert answer.count(b"HTTP/1.1 200") == 2

    over_sockets(story)


@pytest.mark.parametrize("begun", [b"", POST, POST + b"X: a"])
def test_headers_that_do_not_come_should_close_the_connection(begun: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEADER_SECONDS", 0.05)

    async def story(desk: Desk, port: int) -> None:
        assert (await answer_to(port, begun)).startswith(b"HTTP/1.1 408")
        assert desk.upstream.sent == []

    over_sockets(story)


def test_an_answer_that_takes_longer_than_headers_may_should_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEADER_SECONDS", 0.05)

    async def story(desk: Desk, port: int) -> None:
        body = json.dumps(CHAT).encode()
        desk.upstream.acts["inst-1"] = [[b"data: 1\n\n", later := asyncio.Event(), b"data: 2\n\n"]]
        asyncio.get_running_loop().call_later(0.15, later.set)
        asked = POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        assert b"data: 2" in await answer_to(port, asked)

    over_sockets(story)


def test_wrong_keys_at_speed_should_all_be_refused_and_leave_nothing_behind() -> None:
    async def story(desk: Desk) -> None:
        desk.list(endpoint(node(1)))

        async def guess(count: int) -> None:
            for number in range(count):
                sent = {"Authorization": f"Bearer gl-{number}-{'x' * 200}"}
                called = Called(desk.gateway, "/v1/chat/completions", b"{}", sent, "POST")
                await called.task
                assert called.status == 401

        await guess(50)
        gc.collect()
        tracemalloc.start()
        await guess(1000)
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert kept < 50_000
        assert dict(desk.gateway.counts.answers) == {("", 401): 1050}
        assert (await desk.call()).status == 200

    play(story)


def test_streams_that_clients_break_off_should_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.app.LEFT_AFTER", 0.0)
    monkeypatch.setattr("gateway.late.PRECISION_SECONDS", 0.0)
    body = json.dumps(CHAT | {"stream": True}).encode()
    asked = POST + b"Content-Length: %d\r\n\r\n" % len(body) + body

    async def story(desk: Desk, port: int) -> None:
        async def break_off() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(asked)
            await reader.readuntil(b"data: 1")
            writer.transport.abort()

        async def many(rounds: int) -> None:
            for _ in range(rounds):
                desk.upstream.acts["inst-1"] = [[b"data: 1\n\n", asyncio.Event()] for _ in range(20)]
                await asyncio.gather(*(break_off() for _ in range(20)))
                while desk.upstream.closed < desk.upstream.open:
                    await asyncio.sleep(0.001)
            desk.upstream.sent.clear()
            gc.collect()

        await many(3)
        tracemalloc.start()
        await many(20)
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert kept < 100_000, "a hundred streams' worth of anything would be more"
        assert desk.gateway.counts.client_aborts["chat"] == 23 * 20

    over_sockets(story)


class Counted(list[bytes]):
    """Chunks, of which is known how many were asked for."""

    taken = 0

    def __iter__(self) -> Iterator[bytes]:
        for one in super().__iter__():
            self.taken += 1
            yield one


def test_a_client_that_does_not_read_should_not_have_its_stream_kept_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.app.LEFT_AFTER", 0.0)
    monkeypatch.setattr("gateway.late.PRECISION_SECONDS", 0.0)
    body = json.dumps(CHAT | {"stream": True}).encode()
    chunks = Counted([b"data: " + b"a" * 65536 + b"\n\n"] * 10_000)  # 650 MB, were it all kept

    async def story(desk: Desk, port: int) -> None:
        desk.upstream.acts["inst-1"] = [chunks]
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        before = -1
        while chunks.taken != before or not before:
            before = chunks.taken
            await asyncio.sleep(0.05)
        assert chunks.taken < 1000, "more than the system's own buffers take"
        writer.transport.abort()
        while desk.upstream.closed < desk.upstream.open:
            await asyncio.sleep(0.001)

    over_sockets(story)


def test_held_bodies_should_be_limited_by_their_bytes() -> None:
    async def story(desk: Desk) -> None:
        desk.gateway.bodies.most = 1000
        desk.list(endpoint(starting=1))
        large = CHAT | {"text": "a" * 400}
        held = [desk.begin(large) for _ in range(2)]
        await settle()
        refused = await desk.call(large)
        assert (refused.status, refused.code) == (429, "too_many_bytes")
        assert 0 < int(refused.headers["retry-after"]) <= 120
        held[0].left.set()
        await held[0].task
        last = desk.begin(large)
        await settle()
        assert not last.task.done()
        desk.list(endpoint(node(1)))
        await asyncio.gather(held[1].task, last.task)
        assert (held[1].status, last.status) == (200, 200)

    play(story)


@pytest.mark.parametrize("replicas", [1, 2])
def test_four_requests_may_wait_for_each_that_nodes_work_on_and_no_more(replicas: int) -> None:
    async def story(desk: Desk) -> None:
        desk.list(replace(endpoint(starting=1, replicas=replicas), slots=2))
        held = [desk.begin() for _ in range(8 * replicas)]
        await settle()
        assert [one.status for one in held] == [0] * (8 * replicas)
        refused = await desk.call()
        assert (refused.status, refused.code) == (503, "unavailable")
        assert 0 < int(refused.headers["retry-after"]) <= 120
        desk.list(endpoint(node(1), replicas=replicas))
        await asyncio.gather(*(one.task for one in held))
        assert {one.status for one in held} == {200}

    play(story)
