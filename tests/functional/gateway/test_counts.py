"""What a request costs beside its time: copies of each chunk, operations on the table."""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway import table
from gateway.report import Reports
from gpulaunch.models.gateways import GatewayReport
from tests.functional.gateway.desk import CHAT, Desk, endpoint, node, play

CHUNKS = [
    f'data: {{"choices": [{{"index": 0, "delta": {{"content": "{number}"}}}}]}}\n\n'.encode() for number in range(100)
]


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}])
def test_a_chunk_of_whole_events_should_be_passed_on_in_one_piece_and_uncopied(options: dict[str, Any]) -> None:
    async def story(desk: Desk) -> None:
        desk.list(endpoint(node(1)))
        desk.upstream.acts = {"inst-1": [list(CHUNKS)]}
        called = await desk.call(CHAT | {"stream": True} | options)
        sent = [one["body"] for one in called.messages[1:] if one["body"]]
        assert len(sent) == len(CHUNKS)
        assert all(one is chunk for one, chunk in zip(sent, CHUNKS, strict=True))

    play(story)


def test_an_answer_should_be_passed_on_in_one_piece_and_uncopied() -> None:
    async def story(desk: Desk) -> None:
        body = b'{"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}'
        desk.list(endpoint(node(1)))
        desk.upstream.bodies = {"inst-1": [[body]]}
        called = await desk.call()
        [sent] = [one["body"] for one in called.messages[1:] if one["body"]]
        assert sent is body

    play(story)


class Row:
    def __init__(self) -> None:
        self.writes = 0

    def write(self, report: GatewayReport) -> None:
        self.writes += 1

    def remove(self) -> None: ...


def test_a_minute_should_take_thirty_reads_of_the_table_and_seven_writes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story(desk: Desk) -> None:
        row, reads, over = Row(), 0, asyncio.Event()

        def read() -> Iterable[Mapping[str, Any]]:
            nonlocal reads
            reads += 1
            desk.now += table.EVERY_SECONDS
            return ()

        async def next_reading(seconds: float) -> None:
            assert seconds == table.EVERY_SECONDS
            if desk.now >= 60:
                over.set()
                await asyncio.Event().wait()

        monkeypatch.setattr(table.asyncio, "sleep", next_reading)
        reports = Reports(desk.gateway, "gateway-1", row, now=lambda: datetime(2026, 11, 27, tzinfo=UTC))
        polling = asyncio.create_task(table.poll(desk.gateway, read, str, reports))
        await over.wait()
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
        assert (reads, row.writes) == (30, 7)

    play(story)
