"""Whether a node lives: when it was heard last, whether it is silent, and whether it does any work."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from gpulaunch.models.instances import Phase, Reason
from shared.domain.instance import AttemptState, Health, InstanceRecord
from shared.domain.node import NodePhase
from shared.domain.provider import Probe
from shared.lifecycle import liveness
from shared.lifecycle.timeouts import Timeouts
from shared.lifecycle.transition import Transition
from tests.twins.clock import START
from tests.twins.factories import make_attempt, make_record

LIMITS = Timeouts()
NOW = START + timedelta(hours=2)
SECOND = 1.0


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def record(
    mode: str = "real", phase: Phase = Phase.READY, health: Health | None = None, **attempt: Any
) -> InstanceRecord:
    made = make_attempt(state=AttemptState.SUBMITTED, **attempt)
    return make_record(mode=mode, phase=phase, health=health, attempts=[made])


def busy(tokens: float | None = 7.0, running: float | None = 1, waiting: float | None = 0) -> Probe:
    return Probe(alive=True, running_requests=running, waiting_requests=waiting, tokens=tokens)


def at_work(seconds_ago: float = LIMITS.stalled, mark: float | None = 7.0) -> Health:
    return Health(state="healthy", since=START, work_mark=mark, work_at=ago(seconds_ago))


class TestHeard:
    @pytest.mark.parametrize(
        ("mode", "heard_at", "noted"),
        [
            ("real", None, True),
            ("real", ago(LIMITS.heard_every), True),
            ("real", ago(LIMITS.heard_every - SECOND), False),
            ("simulation", None, False),
            ("simulation", ago(LIMITS.heard_every), False),
        ],
    )
    def test_a_real_node_should_be_noted_now_and_then(self, mode: str, heard_at: datetime | None, noted: bool) -> None:
        before = record(mode, heard_at=heard_at)
        decision = liveness.heard(Transition(before, NOW), LIMITS)
        assert decision.changed is noted
        assert decision.record.attempts[-1].heard_at == (NOW if noted else heard_at)
        assert decision.record.due_at == before.due_at

    @pytest.mark.parametrize(
        ("seconds", "lately"), [(LIMITS.heard_lately - SECOND, True), (LIMITS.heard_lately, False), (None, False)]
    )
    def test_lately_should_end(self, seconds: float | None, lately: bool) -> None:
        heard_at = None if seconds is None else ago(seconds)
        assert liveness.is_heard(record(heard_at=heard_at), NOW, LIMITS) is lately

    def test_an_earlier_attempt_should_not_be_named_as_the_one_that_fell_silent(self) -> None:
        earlier = make_attempt(state=AttemptState.GONE, gone_at=START, heard_at=START)
        latest = make_attempt(number=2, state=AttemptState.SUBMITTED, heard_at=NOW - timedelta(hours=1))
        found = liveness.problem(make_record(phase=Phase.READY, attempts=[earlier, latest]), busy(), NOW, LIMITS)
        assert found == "it answers, but its agent has been silent since 10:00 UTC; is it another machine?"

    def test_an_earlier_attempt_should_not_be_heard_for_the_latest(self) -> None:
        earlier = make_attempt(state=AttemptState.GONE, gone_at=START, heard_at=ago(SECOND))
        latest = make_attempt(number=2, state=AttemptState.SUBMITTED)
        assert not liveness.is_heard(make_record(attempts=[earlier, latest]), NOW, LIMITS)

    @pytest.mark.parametrize(
        ("phase", "seconds", "silent"),
        [
            (Phase.READY, LIMITS.silent, True),
            (Phase.READY, LIMITS.silent - SECOND, False),
            (Phase.READY, None, False),
            (Phase.REGISTERING, LIMITS.silent, False),
        ],
    )
    def test_a_ready_node_that_was_heard_once_should_become_silent(
        self, phase: Phase, seconds: float | None, silent: bool
    ) -> None:
        heard_at = None if seconds is None else ago(seconds)
        assert liveness.is_silent(record(phase=phase, heard_at=heard_at), NOW, LIMITS) is silent


class TestProblem:
    def test_a_dead_node_should_be_one_in_the_probe_s_words(self) -> None:
        assert liveness.problem(record(), Probe(alive=False, message="no answer"), NOW, LIMITS) == "no answer"

    def test_a_silent_node_should_be_one_although_it_answers(self) -> None:
        found = liveness.problem(record(heard_at=ago(LIMITS.silent)), busy(), NOW, LIMITS)
        assert found is not None
        assert "silent since" in found

    def test_a_busy_node_without_progress_should_be_one(self) -> None:
        found = liveness.problem(record(health=at_work()), busy(), NOW, LIMITS)
        assert found is not None
        assert f"{LIMITS.stalled / 60:.0f} minutes" in found

    @pytest.mark.parametrize(
        ("health", "probe"),
        [
            (None, busy()),
            (Health(state="healthy", since=START), busy()),
            (at_work(), busy(running=0)),
            (at_work(), busy(running=None, waiting=None)),
            (at_work(), busy(tokens=None)),
            (at_work(mark=None), busy(tokens=None)),
            (at_work(), busy(tokens=8)),
            (at_work(), busy(tokens=6)),
            (at_work(LIMITS.stalled - SECOND), busy()),
        ],
    )
    def test_one_that_is_idle_or_moves_or_cannot_tell_should_be_none(self, health: Health | None, probe: Probe) -> None:
        assert liveness.problem(record(health=health), probe, NOW, LIMITS) is None

    @pytest.mark.parametrize(("running", "waiting"), [(1, 0), (0, 1), (None, 1)])
    def test_a_waiting_request_should_be_work_as_a_running_one_is(self, running: float | None, waiting: float) -> None:
        assert (
            liveness.problem(record(health=at_work()), busy(running=running, waiting=waiting), NOW, LIMITS) is not None
        )


class TestWork:
    @pytest.mark.parametrize(
        ("before", "probe", "mark", "at"),
        [
            (Health(state="healthy", since=START), busy(), 7.0, NOW),
            (at_work(LIMITS.heard_every), busy(tokens=8), 8.0, NOW),
            (at_work(LIMITS.heard_every - SECOND), busy(tokens=8), 7.0, ago(LIMITS.heard_every - SECOND)),
            (at_work(LIMITS.stalled), busy(), 7.0, ago(LIMITS.stalled)),
            (at_work(), busy(running=0), None, None),
            (at_work(), busy(tokens=None), None, None),
        ],
    )
    def test_the_mark_should_move_with_the_work_now_and_then_and_go_with_it(
        self, before: Health, probe: Probe, mark: float | None, at: datetime | None
    ) -> None:
        after = liveness.worked(before, probe, NOW, LIMITS)
        assert (after.work_mark, after.work_at) == (mark, at)

    def test_an_idle_node_should_stay_as_it_is(self) -> None:
        before = Health(state="healthy", since=START)
        assert liveness.worked(before, busy(running=0), NOW, LIMITS) is before


class TestNeverReported:
    UP = ago(LIMITS.first_report)

    def test_a_node_that_runs_and_never_reports_should_be_given_up(self) -> None:
        found = liveness.never_reported(record(node_up_at=self.UP), NOW, LIMITS)
        assert found is not None
        assert found.reason is Reason.INSTALL_TIMEOUT
        assert f"{LIMITS.first_report / 60:.0f} minutes" in found.message

    @pytest.mark.parametrize(
        "attempt",
        [
            {"node_up_at": None},
            {"node_up_at": ago(LIMITS.first_report - SECOND)},
            {"node_up_at": UP, "heard_at": UP},
            {"node_up_at": UP, "calls_us": True},
            {"node_up_at": UP, "node_phase": NodePhase.INSTALLING},
        ],
    )
    def test_one_that_is_not_up_for_long_or_that_reports_should_not(self, attempt: dict[str, Any]) -> None:
        assert liveness.never_reported(record(**attempt), NOW, LIMITS) is None


@pytest.mark.parametrize(("stalled", "minutes"), [(1800.0, "30 minutes"), (3600.0, "60 minutes")])
def test_work_without_progress_should_be_told_with_its_time(stalled: float, minutes: str) -> None:
    limits = replace(LIMITS, stalled=stalled)
    found = liveness.problem(record(health=at_work(stalled)), busy(), NOW, limits)
    assert found == f"it answers, but none of its requests has made any progress for {minutes}"
