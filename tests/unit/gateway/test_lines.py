"""Lines of the log are whole, in order, and written together."""

import asyncio
import io
import logging
import re

import pytest

from gateway import lines
from gateway.lines import Lines


class Written(io.StringIO):
    """Counts how often it is made to write."""

    def __init__(self) -> None:
        super().__init__()
        self.flushed = 0

    def flush(self) -> None:
        self.flushed += 1


@pytest.fixture
def stream() -> Written:
    return Written()


def test_lines_should_look_like_those_of_the_logging_module(stream: Written) -> None:
    handler = Lines(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    handler.line("chat answered 200")
    handler.handle(
        logging.makeLogRecord({"name": "gpulaunch.gateway", "levelname": "INFO", "msg": "chat answered 200"})
    )
    shown = stream.getvalue().splitlines()
    stamp = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO gpulaunch\.gateway chat answered 200$")
    assert len(shown) == 2
    assert all(stamp.match(one) for one in shown), shown


def test_many_lines_in_a_loop_should_be_written_together(stream: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "TOGETHER_SECONDS", 0.01)
    handler = Lines(stream)

    async def story() -> None:
        for number in range(100):
            handler.line(f"line {number}")
        assert stream.flushed == 0
        while not stream.flushed:
            await asyncio.sleep(0.001)
        handler.line("later")
        while stream.flushed < 2:
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(story(), 10))
    assert [one.split(" line ")[-1] for one in stream.getvalue().splitlines()][:100] == [str(n) for n in range(100)]


def test_what_waits_when_the_loop_ends_should_be_written_at_the_end(stream: Written) -> None:
    handler = Lines(stream)

    async def story() -> None:
        handler.line("the last one")

    asyncio.run(story())
    handler.flush()
    assert stream.flushed == 0
    handler.close()
    assert stream.flushed == 1


def test_outside_a_loop_a_line_should_be_written_at_once(stream: Written) -> None:
    Lines(stream).line("at the end")
    assert stream.flushed == 1
