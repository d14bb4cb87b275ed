"""Which alerts are put into the queue, for whom, and what happens where storage refuses one."""

from collections.abc import Callable
from typing import Any

import pytest

from gpulaunch.models.instances import EventType, Phase
from shared.domain.instance import RELEASE_ALERT
from shared.domain.messages import AccessNotice, AlertMessage, BudgetNotice, GarbageNotice, UnreadableNotice
from shared.errors import StoreUnavailableError
from shared.queues import ALERTS
from shared.webhooks.announcements import AlertQueue
from tests.twins.clock import START, ManualClock
from tests.twins.factories import make_event, make_instance_id, make_record
from tests.twins.queues import MemoryQueues

AWAY = StoreUnavailableError("no answer")
GARBAGE = GarbageNotice(at=START, reason="waiting", count=1, message="a node waits")
UNREADABLE = UnreadableNotice(at=START, instance_id=make_instance_id(), message="it cannot be read")
ACCESS = AccessNotice(at=START, source="203.0.113.7", message="too many failures")
BUDGET = BudgetNotice(
    at=START, month="2026-01", mode="real", label=None, budget_usd=1, used_usd=1, asked_usd=1, message="no room"
)
RAISED = make_event(7, type=EventType.ALERT)
"""An event that is an alert."""

SWALLOWED: dict[str, Callable[[AlertQueue], Any]] = {
    "committed": lambda queue: queue.committed(make_record(), make_record(), [RAISED]),
    "admitted": lambda queue: queue.admitted(make_record(), [RAISED]),
    "refused": lambda queue: queue.refused(make_record(), BUDGET),
    "garbage": lambda queue: queue.garbage(GARBAGE),
    "access": lambda queue: queue.access(ACCESS),
}
"""The change that they are about is written and matters more, or the caller learns of it by the answer."""
RAISED_ALL: dict[str, Callable[[AlertQueue], Any]] = {
    "unreadable": lambda queue: queue.unreadable(UNREADABLE),
    "burning": lambda queue: queue.burning(make_record(), 7),
    "staying": lambda queue: queue.staying(GARBAGE),
}
"""The sweep sends them, and must learn that one was refused."""


class Queueing:
    def __init__(self, *wanted: str, receivers: int = 2) -> None:
        self.queues = MemoryQueues(ManualClock())
        self.queue = AlertQueue(self.queues, receivers, wanted or ("alert",))

    @property
    def sent(self) -> list[AlertMessage]:
        return [AlertMessage.model_validate_json(body) for body in self.queues.bodies(ALERTS)]

    @property
    def hooks(self) -> list[int]:
        return [message.hook for message in self.sent]


@pytest.mark.parametrize("name", [*SWALLOWED, *RAISED_ALL])
@pytest.mark.parametrize("receivers", [0, 1, 3])
def test_every_receiver_should_get_it_once(name: str, receivers: int) -> None:
    queueing = Queueing(receivers=receivers)
    (SWALLOWED | RAISED_ALL)[name](queueing.queue)
    assert queueing.hooks == list(range(receivers))


@pytest.mark.parametrize("name", [*SWALLOWED, *RAISED_ALL])
def test_where_alerts_are_not_chosen_there_should_be_none(name: str) -> None:
    queueing = Queueing("phase")
    (SWALLOWED | RAISED_ALL)[name](queueing.queue)
    assert queueing.sent == []


@pytest.mark.parametrize("name", SWALLOWED)
def test_one_that_is_refused_should_stop_neither_the_caller_nor_the_other_receivers(name: str) -> None:
    queueing = Queueing(receivers=3)
    queueing.queues.calls.fail_next("send", AWAY)
    SWALLOWED[name](queueing.queue)
    assert queueing.hooks == [1, 2]


@pytest.mark.parametrize("name", RAISED_ALL)
def test_one_of_the_sweep_should_be_raised_so_that_it_is_sent_again(name: str) -> None:
    queueing = Queueing()
    queueing.queues.calls.fail_next("send", AWAY)
    with pytest.raises(StoreUnavailableError):
        RAISED_ALL[name](queueing.queue)


def test_whether_all_receivers_got_one_about_garbage_should_be_known() -> None:
    queueing = Queueing()
    assert queueing.queue.garbage(GARBAGE) is True
    queueing.queues.calls.fail_next("send", AWAY)
    assert queueing.queue.garbage(GARBAGE) is False
    assert Queueing("phase").queue.garbage(GARBAGE) is True, "there is nothing to send again"


def test_the_alert_of_a_release_should_be_left_to_the_sweep() -> None:
    queueing = Queueing(receivers=1)
    release = make_event(3, type=EventType.ALERT, data={"alert": RELEASE_ALERT})
    queueing.queue.committed(make_record(), make_record(), [release, RAISED])
    assert [message.sequence for message in queueing.sent] == [7]


def test_each_event_should_be_sent_as_that_of_the_record_after_it() -> None:
    queueing = Queueing("alert", "failed", receivers=1)
    failed = make_event(8, phase=Phase.FAILED)
    after = make_record(epoch=4)
    queueing.queue.committed(make_record(), after, [make_event(6), RAISED, failed])
    assert [(one.instanceId, one.epoch, one.sequence) for one in queueing.sent] == [
        (after.instance_id, 4, 7),
        (after.instance_id, 4, 8),
    ]
