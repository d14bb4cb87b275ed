"""What a connection hands over to the system, and in how many pieces."""

import asyncio
from collections.abc import Callable

import pytest

from gateway.server import MOST_CORKED, Corked

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Wire(asyncio.Transport):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


@pytest.fixture
def wire() -> Wire:
    return Wire()


def write(wire: Wire, *acts: Callable[[Corked], None] | bytes | None) -> None:
    """Let it write, close, or (None) let the loop turn."""

    async def run() -> None:
        corked = Corked(wire, asyncio.get_running_loop())
        for act in acts:
            if act is None:
                await asyncio.sleep(0)
            elif isinstance(act, bytes):
                corked.write(act)
            else:
                act(corked)
        await asyncio.sleep(0)

    asyncio.run(run())


def test_an_answer_should_go_out_in_one_piece(wire: Wire) -> None:
    write(wire, HEAD, b"2\r\n{}\r\n", b"0\r\n\r\n")
    assert wire.written == [HEAD + b"2\r\n{}\r\n0\r\n\r\n"]


def test_what_a_stream_writes_later_should_go_out_as_it_comes(wire: Wire) -> None:
    write(wire, HEAD, b"1\r\na\r\n", None, b"1\r\nb\r\n", b"1\r\nc\r\n")
    assert wire.written == [HEAD + b"1\r\na\r\n", b"1\r\nb\r\n", b"1\r\nc\r\n"]


def test_two_answers_should_keep_their_order(wire: Wire) -> None:
    write(wire, HEAD, b"first", None, HEAD, b"second")
    assert wire.written == [HEAD + b"first", HEAD + b"second"]


def test_what_is_large_should_not_wait(wire: Wire) -> None:
    half = b"a" * (MOST_CORKED // 2)
    seen: list[int] = []
    write(wire, HEAD, half, half, lambda _: seen.append(len(wire.written)), half)
    assert seen == [1]
    assert wire.written == [HEAD + half + half, half]


def test_closing_should_hand_over_what_waits(wire: Wire) -> None:
    write(wire, HEAD, b"last", Corked.close)
    assert wire.written == [HEAD + b"last"]
    assert wire.closed


def test_nothing_should_be_written_to_a_connection_that_is_closed_already(wire: Wire) -> None:
    write(wire, HEAD, lambda _: wire.close(), None)
    assert wire.written == []
