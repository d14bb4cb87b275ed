"""A backlog is not a loss: while messages wait for their turn, the sweep adds next to nothing to their queue.

The host takes one message of each queue every so many seconds here; all others wait, as they do under the real one when
thousands of instances are launched at once.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

import azure.functions as func
import pytest

from gpulaunch.models.instances import Phase
from shared.control.sweep import requeue
from shared.lifecycle.resending import FIRST_PAUSE, GRACE, LONGEST_PAUSE
from shared.queues import LAUNCHES, TEARDOWNS
from shared.storage.base import readable
from tests.functional.world import RETRY_SECONDS, SWEEP_SECONDS, World

FUNCTIONS = {LAUNCHES: "provisioning", TEARDOWNS: "teardown"}
MOST = 1.1
"""Messages sent for each step."""


@dataclass
class SlowHost:
    world: World
    tick: float = 10.0
    """Seconds between two messages."""
    steps: int = 0
    """Messages that brought an instance forward."""
    longest_wait: float = 0.0

    def __post_init__(self) -> None:
        self._free_at = self.world.clock.now()

    @property
    def sent(self) -> int:
        return self.world.queues.calls.count("send")

    def run(self, seconds: float) -> None:
        world = self.world
        until = world.clock.now() + timedelta(seconds=seconds)
        while world.clock.now() < until:
            if world.clock.now() >= self._free_at:
                self._free_at = world.clock.now() + timedelta(seconds=self.tick)
                for queue in FUNCTIONS:
                    self._take(queue)
            world.clock.set(min(self._free_at, world.next_sweep_at, until))
            if world.clock.now() >= world.next_sweep_at:
                world.sweep()

    def _take(self, queue: str) -> None:
        since = self.world.queues.waiting_since(queue)
        if since is not None:
            self.longest_wait = max(self.longest_wait, (self.world.clock.now() - since).total_seconds())
        for message in self.world.queues.take(queue, 1, RETRY_SECONDS + self.tick):
            commits = self.world.store.calls.count("commit")
            sent = func.QueueMessage(id=message.id, body=message.body, pop_receipt=message.pop_receipt)
            self.world.functions[FUNCTIONS[queue]].get_user_function()(sent)
            self.world.queues.forget(message)
            self.steps += self.world.store.calls.count("commit") > commits

    def until(self, phase: Phase, count: int, seconds: float = 36_000) -> None:
        for _ in range(int(seconds / SWEEP_SECONDS)):
            if self.phases()[phase] == count:
                return
            self.run(SWEEP_SECONDS)
        raise AssertionError(f"after {seconds:.0f} s: {self.phases()}")

    def phases(self) -> Counter[Phase]:
        return Counter(one.record.phase for one in readable(self.world.store.live()))

    def lose(self, instance_id: str) -> datetime:
        """Take an instance's message out of its queue; when its step was due."""
        (message,) = (one for one in self.world.queues.take(LAUNCHES, 10_000, 0) if instance_id in str(one.body))
        self.world.queues.forget(message)
        found = self.world.store.load(instance_id)
        assert found is not None
        assert found.record.due_at is not None
        return found.record.due_at


@pytest.fixture
def host(world: World) -> SlowHost:
    return SlowHost(world)


LENGTHS = pytest.mark.parametrize(("launches", "tick"), [(1, 1.0), (5, 10.0), (5, 60.0), (20, 30.0), (8, 200.0)])


@LENGTHS
def test_a_backlog_of_any_length_should_add_next_to_nothing_to_itself(
    host: SlowHost, launches: int, tick: float
) -> None:
    host.tick = tick
    for _ in range(launches):
        host.world.launch()
    host.until(Phase.READY, launches)
    assert host.longest_wait >= tick * (launches - 1)
    assert host.sent <= MOST * host.steps + 1


@LENGTHS
def test_a_backlog_of_teardowns_should_not_either(host: SlowHost, launches: int, tick: float) -> None:
    ids = [host.world.launch() for _ in range(launches)]
    host.until(Phase.READY, launches)
    sent, steps, host.tick = host.sent, host.steps, tick
    for instance_id in ids:
        host.world.delete(instance_id)
    host.run(tick * (launches + 1) + 2 * SWEEP_SECONDS)
    assert host.phases().total() == 0
    assert host.sent - sent <= MOST * (host.steps - steps) + 1


def test_deadlines_that_come_together_should_be_sent_once_each(host: SlowHost) -> None:
    for _ in range(8):
        host.world.launch(max_lifetime_minutes=60)
    host.until(Phase.READY, 8)
    host.tick, sent = 60.0, host.sent
    host.run(3600 + 20 * 60)
    assert host.phases().total() == 0
    # The probe of the same sweep ends them, too: one message of the deadline, and one of the teardown.
    assert host.sent - sent <= 2 * 8


def test_the_count_should_notice_a_sweep_that_takes_waiting_for_lost(
    host: SlowHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object) -> bool:
        return True

    monkeypatch.setattr(requeue, "is_lost", lost)
    host.tick = 30.0
    for _ in range(8):
        host.world.launch()
    host.run(600)
    assert host.sent > 2 * (host.steps + 8)


@pytest.mark.parametrize("ahead", [0, 5, 20])
def test_a_message_lost_in_a_backlog_should_be_sent_again_once_those_before_it_are_done(
    host: SlowHost, ahead: int
) -> None:
    for _ in range(ahead):
        host.world.launch()
    lost = host.world.launch()
    host.lose(lost)
    # The backlog goes on: others come as fast as steps are done.
    for _ in range(ahead):
        host.run(host.tick)
        host.world.launch()
    sent = host.sent
    waited = 0.0
    while host.world.show(lost)["phase"] == "queued":
        host.run(SWEEP_SECONDS)
        waited += SWEEP_SECONDS
    # Those before it, those that came in the grace after it, the sweep, and its place in the queue after that.
    assert waited <= 2 * host.longest_wait + GRACE.total_seconds() + 3 * SWEEP_SECONDS
    assert host.sent > sent


def test_a_step_whose_messages_are_all_lost_should_be_sent_again_with_growing_pauses(host: SlowHost) -> None:
    lost = host.world.launch()
    at: list[datetime] = []
    begun = host.world.clock.now()
    while host.world.clock.now() < begun + timedelta(hours=1):
        host.world.clock.advance(SWEEP_SECONDS)
        if host.world.queues.depth(LAUNCHES):
            host.lose(lost)
        host.world.sweep()
        at += [host.world.clock.now()] * host.world.queues.depth(LAUNCHES)
    pauses = [later - earlier for earlier, later in pairwise(at)]
    assert pauses[0] <= FIRST_PAUSE + timedelta(seconds=SWEEP_SECONDS)
    assert pauses == sorted(pauses)
    assert pauses[-1] <= LONGEST_PAUSE + timedelta(seconds=SWEEP_SECONDS)
    assert len(at) < 25


def test_queued_launches_should_cost_the_sweep_the_same_however_many_wait(world: World) -> None:
    def cost() -> int:
        world.store.calls.seen.clear()
        world.queues.calls.seen.clear()
        world.sweep()
        return len(world.store.calls.seen) + len(world.queues.calls.seen)

    costs: list[int] = []
    for _ in range(3):
        for _ in range(15):
            world.launch()
        world.clock.advance(60)
        costs.append(cost())
    # A page of records, the queue, the poison queues, the endpoints and the status; now and then what expires.
    assert max(costs) <= 8
