"""A process may die before or after any call to storage, queues or a cloud: what follows makes good what it left.

Each story is told once undisturbed, which counts its calls; then once for each call and side of it, with a process that
dies there and another one that takes over. So the order of acts counts: intent is written before the act, and a record
says done only afterwards.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

import pytest

from shared.backends.simulation.cloud import SimulatedNode
from shared.domain.instance import instance_of
from shared.domain.messages import AlertMessage
from shared.lifecycle.garbage import GRACE
from shared.queues import ALERTS
from shared.storage import rows
from shared.storage.base import ORPHAN, Marker
from tests.contract.test_unreadable_rows import later_phase, rewrite
from tests.functional.world import SEED, SWEEP_SECONDS, World, settings
from tests.twins.clock import START
from tests.twins.factories import DEPLOYMENT, make_ended
from tests.twins.faults import Calls

T = TypeVar("T")
Story = Callable[["Mortal"], None]
LEASE = 300.0
"""Until another process may take over a submission that was in progress, and for the rest of the way."""
LATE = 20.0
"""How late a step may be before the sweep sends it again."""
STRAY = "gl-01k0000000000000000000000a-01"
QUICK = {"GPULAUNCH_MONTHLY_BUDGET_USD": "1000", "GPULAUNCH_SIMULATION_SPEED": "20"}
HOOK = {"GPULAUNCH_WEBHOOK_URLS": "slack|https://hooks.example.com/x", "GPULAUNCH_WEBHOOK_EVENTS": "alert"}


class DiedError(BaseException):
    """The process is no more; no handler of the program catches this."""


@dataclass
class Death:
    """Comes at one call of many, before or after its effect."""

    at: int | None = None
    after: bool = False
    begun: bool = False
    """The story has come to where it matters."""
    running: bool = False
    """The program runs, and not the test's own questions."""
    calls: list[str] = field(default_factory=list[str])

    @contextmanager
    def around(self, operation: str) -> Generator[None]:
        counts = self.begun and self.running
        mine = counts and len(self.calls) == self.at
        if counts:
            self.calls.append(operation)
        if mine and not self.after:
            raise DiedError(operation)
        yield
        if mine:
            raise DiedError(operation)


class Mortal(World):
    """A world whose process dies once, and is followed by another one that remembers nothing."""

    def __init__(self, death: Death) -> None:
        super().__init__(given=settings(**QUICK, **HOOK))
        self.death = death
        self.most_nodes = 0

    def outlived(self, act: Callable[[], T]) -> T:
        """An act that its caller repeats when the process died in it."""
        try:
            self.death.running = True
            return act()
        except DiedError:
            self.rebuild()
            return act()
        finally:
            self.death.running = False

    def live(self, seconds: float) -> None:
        until = self.clock.now() + timedelta(seconds=seconds)
        while self.clock.now() < until:
            step = min(10.0, (until - self.clock.now()).total_seconds())
            self.outlived(lambda step=step: self.run(step))
            self.most_nodes = max(self.most_nodes, len(self.cloud.nodes()))

    def until(self, holds: Callable[[], bool], seconds: float) -> None:
        """Live until it holds: at once where no process dies, and within `seconds` in any case."""
        end = self.clock.now() + timedelta(seconds=seconds)
        while not holds():
            assert self.clock.now() < end
            self.live(10)

    def phase(self, instance_id: str) -> str:
        return str(self.show(instance_id)["phase"])

    def alerts(self) -> set[str]:
        """The ids of the alerts in the queue: one that is sent twice has the same id."""
        return {AlertMessage.model_validate_json(body).webhook_id for body in self.queues.bodies(ALERTS)}


def launched_and_terminated(world: Mortal) -> None:
    """One node, paid for once, and none afterwards."""
    world.death.begun = True
    headers = {"Idempotency-Key": "one"}
    launch = world.outlived(lambda: world.call("POST", "/api/instances/launch", SEED, headers=headers))
    instance_id = launch.json["instance_id"]
    world.until(lambda: world.phase(instance_id) == "ready", LEASE)
    assert len(list(world.store.live())) == len(world.cloud.nodes()) == world.most_nodes == 1
    assert world.outlived(lambda: world.delete(instance_id)).status == 202
    world.until(lambda: world.phase(instance_id) == "terminated", 2 * SWEEP_SECONDS + LATE)
    assert len(world.show(instance_id)["attempts"]) == 1
    assert world.cloud.nodes() == []
    (account,) = [one for key, one in world.store.ledger().ledger.accounts.items() if key.endswith("/simulation")]
    assert (account.reserved, account.spent > 0) == (0, True)
    assert len(world.store.costs(world.clock.now().date())) == 1


def failed_over(world: Mortal) -> None:
    """The refused attempt is over before the next one begins."""
    instance_id = world.launch(labels={"simulate.no-capacity": "1"})
    world.death.begun = True
    world.until(lambda: world.phase(instance_id) == "ready", LEASE)
    assert [attempt["state"] for attempt in world.show(instance_id)["attempts"]] == ["gone", "submitted"]
    assert len(world.cloud.nodes()) == world.most_nodes == 1


def unreadable_row_terminated(world: Mortal) -> None:
    """A DELETE that was answered ends the node and closes the row, and its alert is sent."""
    instance_id = world.to_ready()
    rewrite(world.store, rows.record_key(instance_id, ended=False), later_phase)
    world.death.begun = True
    world.outlived(lambda: world.delete(instance_id))
    world.until(lambda: not list(world.store.live()), 2 * SWEEP_SECONDS + LATE)
    assert world.cloud.nodes() == []


def unreadable_row_reported(world: Mortal) -> None:
    instance_id = world.to_ready()
    rewrite(world.store, rows.record_key(instance_id, ended=False), later_phase)
    world.death.begun = True
    world.until(lambda: bool(world.alerts()), 2 * SWEEP_SECONDS + LATE)
    assert world.alerts() == {f"{instance_id}-unreadable-{START:%Y%m%dT%H}"}
    assert len(world.cloud.nodes()) == 1


def orphan_collected(world: Mortal) -> None:
    """Not before it was marked for a while, and then for good."""
    now = world.clock.now()
    stray = SimulatedNode(
        cluster_name=STRAY,
        instance_id=instance_of(STRAY),
        attempt=1,
        labels={},
        started_at=now,
        created_at=now,
        deployment=DEPLOYMENT,
    )
    world.cloud.add(stray)
    world.store.create(make_ended(STRAY), [], None)
    world.live(360)
    world.death.begun = True
    world.live(60)
    (marker,) = world.store.markers(ORPHAN)
    world.live((marker.at + GRACE - world.clock.now()).total_seconds() - 1)
    assert [node.cluster_name for node in world.cloud.nodes()] == [STRAY]
    world.live(420)
    assert world.cloud.nodes() == []
    assert world.store.markers(ORPHAN) == []


def late_release_reported(world: Mortal) -> None:
    instance_id = world.to_ready(labels={"simulate.teardown-tries": "100"})
    world.delete(instance_id)
    world.run(590)
    world.death.begun = True
    world.until(lambda: bool(world.alerts()), 3 * SWEEP_SECONDS + LATE)
    (number,) = [event["sequence"] for event in world.events(instance_id) if event["type"] == "alert"]
    assert world.alerts() == {f"{instance_id}-{number}"}


def orphan_that_stays_reported(world: Mortal) -> None:
    drop = world.store.drop_marker

    def drop_others(kind: str, key: str) -> None:
        if kind != ORPHAN:  # it is listed all the while
            drop(kind, key)

    world.store.drop_marker = drop_others
    now = world.clock.now()
    world.store.put_marker(Marker(kind=ORPHAN, key=STRAY, at=now - timedelta(hours=1), text="simulation"))
    world.run(580)
    world.death.begun = True
    world.until(lambda: bool(world.alerts()), 660)
    assert {one.split("-")[1] for one in world.alerts()} == {"staying"}


STORIES: dict[Story, int] = {
    launched_and_terminated: 40,
    failed_over: 20,
    unreadable_row_terminated: 5,
    unreadable_row_reported: 5,
    orphan_collected: 10,
    late_release_reported: 5,
    orphan_that_stays_reported: 3,
}
"""Each story, and how many calls it takes at least."""


@pytest.fixture
def death(monkeypatch: pytest.MonkeyPatch) -> Death:
    made = Death()
    call = Calls.call

    @contextmanager
    def around(self: Calls, operation: str) -> Generator[None]:
        with made.around(operation), call(self, operation):
            yield

    monkeypatch.setattr(Calls, "call", around)
    return made


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_whenever_a_process_dies_another_one_should_make_it_good(death: Death, story: Story) -> None:
    story(Mortal(death))
    calls = list(death.calls)
    assert len(calls) >= STORIES[story]
    for at, operation in enumerate(calls):
        for after in (False, True):
            death.at, death.after, death.begun = at, after, False
            death.calls.clear()
            world = Mortal(death)
            try:
                story(world)
            except Exception as error:
                error.add_note(f"the process died {'after' if after else 'before'} {operation}, call {at}")
                raise
            assert world.errors == []
