"""Expected times per phase, and an instance's progress."""

from datetime import timedelta
from typing import Any

import pytest

from gpulaunch.models.instances import EventType, Phase
from shared.api.views import step_views
from shared.backends.base import Backend
from shared.control.phase_estimates import PhaseEstimates, PhaseSpan, durations
from shared.domain.instance import Event, InstanceRecord
from tests.functional.world import World
from tests.twins.clock import START
from tests.twins.factories import make_attempt, make_event, make_instance_id, make_offer, make_record


def phase_events(*phases: tuple[Phase, float]) -> list[Event]:
    events, before, at = [make_event(0)], Phase.QUEUED, 0.0
    for number, (phase, seconds) in enumerate(phases, 1):
        at += seconds
        events.append(
            make_event(
                number,
                at=START + timedelta(seconds=at),
                type=EventType.PHASE,
                phase=phase,
                duration_seconds=seconds,
                data={"from": before.value, "to": phase.value},
            )
        )
        before = phase
    return events


WAY = ((Phase.VALIDATING, 1.0), (Phase.PROVISIONING, 5.0), (Phase.INSTALLING, 200.0))
REST = ((Phase.LOADING_MODEL, 90.0), (Phase.STARTING_SERVER, 60.0), (Phase.REGISTERING, 50.0), (Phase.READY, 4.0))


def test_a_step_should_last_until_the_next_one() -> None:
    took = durations(phase_events(*WAY, *REST))
    assert took[Phase.PROVISIONING] == 200.0
    assert took[Phase.REGISTERING] == 4.0


def test_going_back_should_forget_the_times_of_the_earlier_attempt() -> None:
    took = durations(phase_events(*WAY, (Phase.PROVISIONING, 30.0)))
    assert took == {Phase.QUEUED: 1.0, Phase.VALIDATING: 5.0}


@pytest.mark.parametrize(
    ("phase", "way", "states"),
    [
        (Phase.QUEUED, (), "now waiting waiting waiting waiting waiting waiting"),
        (Phase.INSTALLING, WAY, "done done done now waiting waiting waiting"),
        (Phase.READY, (*WAY, *REST), "done done done done done done done"),
        (Phase.TERMINATING, (*WAY, (Phase.TERMINATING, 9.0)), "done done done stopped waiting waiting waiting"),
        (Phase.TERMINATED, (*WAY, *REST, (Phase.TERMINATING, 9.0)), "done done done done done done done"),
    ],
)
def test_progress_should_show_the_current_step(phase: Phase, way: Any, states: str) -> None:
    record = make_record(phase=phase)
    made = step_views(record, phase_events(*way), {Phase.INSTALLING: PhaseSpan(60, 840)}, START + timedelta(seconds=30))
    assert " ".join(step.state for step in made) == states
    assert (made[3].least_seconds, made[3].most_seconds) == (60, 840)


def earlier(number: int, seconds: float, **given: Any) -> tuple[InstanceRecord, list[Event]]:
    instance_id = make_instance_id(number)
    attempts = [make_attempt(instance_id, ready_at=START)]
    fields: dict[str, Any] = {"instance_id": instance_id, "mode": "real", "phase": Phase.READY, "attempts": attempts}
    events = phase_events(*WAY, (Phase.LOADING_MODEL, seconds), *REST[1:])
    return make_record(**(fields | given), event_count=len(events)), events


def test_earlier_launches_alike_should_replace_the_ranges(world: World) -> None:
    now = make_record(instance_id=make_instance_id(99), mode="real")
    real = Backend(world.simulation.provider, world.simulation.nodes)
    known = PhaseEstimates(world.store, lambda _: real, world.clock)
    assert known.of(now)[Phase.INSTALLING] == PhaseSpan(60, 840)
    for number, seconds in enumerate((100.0, 300.0, 110.0), 1):
        world.store.create(*earlier(number, seconds), None)
    world.store.create(*earlier(4, 1.0, mode="simulation"), None)
    world.store.create(*earlier(5, 2.0, attempts=[]), None)
    bigger = [
        make_attempt(make_instance_id(6), ready_at=START, offer=make_offer(instance_type="Standard_NV72ads_A10_v5"))
    ]
    world.store.create(*earlier(6, 3.0, attempts=bigger), None)
    world.store.calls.seen.clear()
    assert known.of(now)[Phase.INSTALLING] == PhaseSpan(60, 840), "kept for ten minutes"
    assert world.store.calls.seen == []
    world.clock.advance(601)
    assert known.of(now)[Phase.INSTALLING] == PhaseSpan(110, 110)
    assert world.store.calls.count("events") == 3


def test_a_simulation_should_be_known_exactly(world: World) -> None:
    found = world.app.estimates.of(make_record(mode="simulation"))
    assert found[Phase.LOADING_MODEL] == PhaseSpan(20, 20)
    assert sum(span.most for span in found.values()) == 82
