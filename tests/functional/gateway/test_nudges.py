"""A gateway asks the control plane for a replica when a request waits: at once, and then now and then."""

import asyncio
import base64
import json
from typing import Any

import pytest
from azure.core.exceptions import AzureError
from azure.storage.queue import QueueClient

from gateway.connect import QUEUE_URI, STORAGE, nudge_of
from gateway.nudge import EVERY_SECONDS, QUEUE
from gateway.report import Reports
from gpulaunch.models.gateways import EndpointMessage, GatewayReport
from shared.domain.messages import LaunchMessage, read_message
from shared.queues import LAUNCHES
from tests.functional.gateway.desk import Desk, endpoint, node, play
from tests.twins.clock import START

CONNECTION = "DefaultEndpointsProtocol=https;AccountName=acct;AccountKey=a2V5;EndpointSuffix=core.windows.net"


class _Row:
    def __init__(self) -> None:
        self.written: list[GatewayReport] = []

    def write(self, report: GatewayReport) -> None:
        self.written.append(report)

    def remove(self) -> None:
        pass


class Asking:
    """A gateway that reports, and what it asks for."""

    def __init__(self, desk: Desk) -> None:
        self.desk, self.row = desk, _Row()
        self.asked: list[str] = []
        self.error: Exception | None = None
        self.reports = Reports(desk.gateway, "gateway-1", self.row, self._nudge, lambda: START)

    def _nudge(self, name: str) -> None:
        assert self.row.written[-1].endpoints[0].held, "it is reported before it is asked about"
        self.asked.append(name)
        if self.error is not None:
            raise self.error

    async def turn(self, seconds: float = 2.0) -> list[str]:
        """What `poll` does every two seconds; the endpoints that were asked for."""
        self.desk.now += seconds
        self.asked.clear()
        await self.reports.renew()
        return list(self.asked)


async def waiting(desk: Desk) -> Any:
    called = desk.begin()
    while not desk.gateway.room.held("chat"):
        await asyncio.sleep(0)
    return called


def test_the_first_request_that_waits_should_be_told_at_once_and_others_not_again() -> None:
    async def story(desk: Desk) -> None:
        desk.list(endpoint(scales=True))
        asking = Asking(desk)
        assert await asking.turn() == []
        called = await waiting(desk)
        assert await asking.turn() == ["chat"]
        assert await asking.turn() == []
        desk.begin()
        assert await asking.turn(EVERY_SECONDS - 4) == []
        assert await asking.turn() == ["chat"], "nothing may have come of the first"
        desk.list(endpoint(node(1), scales=True))
        await called.task
        await asyncio.sleep(0)
        assert await asking.turn(EVERY_SECONDS) == []

    play(story)


@pytest.mark.parametrize("given", [{"scales": False}, {"scales": False, "starting": 1}])
def test_nobody_should_be_asked_where_people_decide(given: dict[str, Any]) -> None:
    async def story(desk: Desk) -> None:
        desk.list(endpoint(**given))
        asking = Asking(desk)
        called = await waiting(desk)
        assert await asking.turn() == []
        desk.list(endpoint(node(1)))
        await called.task

    play(story)


@pytest.mark.parametrize("error", [AzureError("no queue"), TimeoutError()])
def test_a_message_that_cannot_be_sent_should_cost_itself_alone(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(desk: Desk) -> None:
        desk.list(endpoint(scales=True))
        asking = Asking(desk)
        asking.error = error
        called = await waiting(desk)
        await asking.turn()
        assert "left to the control plane's sweep" in caplog.text
        desk.list(endpoint(node(1), scales=True))
        await called.task

    play(story)


def test_the_message_should_be_one_that_the_control_plane_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []

    def send(_: QueueClient, content: str) -> None:
        sent.append(content)

    monkeypatch.setattr(QueueClient, "send_message", send)
    nudge = nudge_of({STORAGE: CONNECTION})
    assert nudge is not None
    nudge("chat")
    body = base64.b64decode(sent[0])
    assert json.loads(body) == {"endpoint": "chat", "step": "reconcile"}
    assert read_message(LaunchMessage, body).root == EndpointMessage(endpoint="chat")
    assert QUEUE == LAUNCHES


def test_without_a_queue_the_sweep_should_have_to_do_and_no_token_go_out_in_plain() -> None:
    assert nudge_of({}) is None
    assert nudge_of({QUEUE_URI: "https://acct.queue.core.windows.net"}) is not None
    with pytest.raises(ValueError, match="has to begin with https://"):
        nudge_of({QUEUE_URI: "http://acct.queue.core.windows.net"})
    with pytest.raises(ValueError, match="not a storage connection string"):
        nudge_of({STORAGE: "nonsense"})
