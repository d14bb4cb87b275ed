"""An instance's progress, from its events."""

from datetime import UTC, datetime

from gpulaunch.cli.watch import Progress
from gpulaunch.models.instances import STARTING, EventType, Phase
from gpulaunch.models.responses import EventView

AT = datetime(2026, 1, 31, 9, tzinfo=UTC)


def event(phase: Phase, seconds: float | None = None, kind: EventType = EventType.PHASE) -> EventView:
    return EventView(
        sequence=0,
        at=AT,
        type=kind,
        phase=phase,
        message="",
        reason=None,
        attempt=None,
        duration_seconds=seconds,
        data={},
    )


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def states(progress: Progress) -> str:
    return " ".join(row.state[0] for row in progress.rows.values())


def test_a_phase_should_last_as_the_app_says_and_the_current_one_go_on() -> None:
    time = Time()
    progress = Progress(time)
    assert states(progress) == "w w w w w w w"
    progress.feed(event(Phase.QUEUED, kind=EventType.ACCEPTED), 40)
    progress.feed(event(Phase.VALIDATING, 1.5), 38)
    progress.feed(event(Phase.PROVISIONING, 2.5), 36)
    time.now += 10
    assert states(progress) == "d d r w w w w"
    assert [progress.elapsed(phase) for phase in STARTING[:4]] == [1.5, 2.5, 46.0, None]


def test_a_failover_should_reset_the_phases_from_there_on() -> None:
    progress = Progress(Time())
    for phase in (*STARTING[1:5], Phase.PROVISIONING):
        progress.feed(event(phase, 3), 0)
    assert states(progress) == "w d r w w w w"
    progress.feed(event(Phase.PROVISIONING, 5, EventType.ATTEMPT_FAILED), 0)
    assert states(progress) == "w d r w w w w"


def test_ready_should_complete_all_and_an_end_should_fail_the_current_phase() -> None:
    progress = Progress(Time())
    progress.feed(event(Phase.QUEUED, kind=EventType.ACCEPTED), 0)
    for phase in (*STARTING[1:], Phase.READY):
        progress.feed(event(phase, 1), 0)
    assert states(progress) == "d d d d d d d"
    progress.feed(event(Phase.RECOVERING, 60), 0)
    progress.feed(event(Phase.PROVISIONING, 1), 0)
    progress.feed(event(Phase.TERMINATING, 7), 0)
    assert states(progress) == "d d f w w w w"
    assert progress.elapsed(Phase.PROVISIONING) == 7


def test_a_clock_behind_the_app_should_not_give_negative_times() -> None:
    progress = Progress(Time())
    progress.feed(event(Phase.QUEUED, kind=EventType.ACCEPTED), -30)
    assert progress.elapsed(Phase.QUEUED) == 0
