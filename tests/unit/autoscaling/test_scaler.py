"""How many replicas an endpoint needs: what runs calls for them, what waits is worked off, and noise moves nothing."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.autoscaling.figures import Figures
from shared.autoscaling.scaler import Capacity, Scaled, scale
from shared.domain.scaling import Peak, ScalerState, Scaling

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=1)
BUSY = ScalerState(service_seconds=10.0, first_at=LONG_AGO)
"""Traffic since yesterday, ten seconds for a request: a replica for ten at once works off one a second."""


def bounds(least: int = 0, most: int = 30, preset: str = "balanced") -> Scaling:
    return Scaling(min_replicas=least, max_replicas=most, preset=preset)


def figures(
    rate: float = 0.0, running: float = 0.0, held: int = 0, *, complete: bool = True, seconds: float | None = None
) -> Figures:
    arrivals = {window: round(rate * window) for window in (30, 60, 120, 240)}
    return Figures(
        arrivals=arrivals,
        running=running,
        running_mean=running,
        held=held,
        complete=complete,
        service_seconds=seconds,
    )


def capacity(ready: int = 0, *ages: float, start: float = 240.0) -> Capacity:
    return Capacity(ready=ready, start_ages=ages, start_seconds=start, concurrency=10.0)


def decided(
    seen: Figures, there: Capacity, state: ScalerState = BUSY, asked: Scaling | None = None, before: int = 0
) -> Scaled:
    return scale(asked or bounds(), state, seen, there, before, NOW)


class TestLoad:
    @pytest.mark.parametrize(("running", "replicas"), [(0.5, 1), (10.9, 1), (11.1, 2), (30.9, 3), (31.1, 4)])
    def test_what_runs_should_be_divided_by_what_fits_with_a_tolerance(self, running: float, replicas: int) -> None:
        assert decided(figures(running=running), capacity(1)).replicas == replicas

    @pytest.mark.parametrize(("rate", "replicas"), [(0.1, 1), (1.05, 1), (1.2, 2), (5.0, 5)])
    def test_a_rate_should_be_divided_by_what_a_replica_works_off(self, rate: float, replicas: int) -> None:
        assert decided(figures(rate=rate), capacity(1)).replicas == replicas

    def test_requests_that_take_longer_should_call_for_more(self) -> None:
        longer = BUSY.model_copy(update={"service_seconds": 20.0})
        assert decided(figures(rate=3.0), capacity(3), longer).replicas == 6
        assert decided(figures(rate=3.0), capacity(3)).replicas == 3

    def test_a_service_time_that_is_new_should_count_at_once_and_a_change_a_tenth_at_a_time(self) -> None:
        seen = figures(rate=3.0, seconds=20.0)
        assert decided(seen, capacity(3), ScalerState(first_at=LONG_AGO)).state.service_seconds == 20.0
        assert decided(seen, capacity(3)).state.service_seconds == pytest.approx(11.0)

    def test_one_request_should_keep_one_replica_and_none_should_keep_none(self) -> None:
        assert decided(figures(running=0.01), capacity(1)).replicas == 1
        assert decided(figures(), capacity(1)).replicas == 0

    def test_a_window_should_not_be_longer_than_there_has_been_traffic(self) -> None:
        # 60 requests in the 20 s since the first one: three a second, not one.
        seen = Figures(arrivals=dict.fromkeys((30, 60, 120, 240), 60), running=1, running_mean=1, held=0)
        young = BUSY.model_copy(update={"first_at": NOW - timedelta(seconds=20)})
        assert decided(seen, capacity(1), young).replicas == 3
        assert decided(seen, capacity(1)).replicas == 2

    def test_bounds_should_hold(self) -> None:
        assert decided(figures(rate=50.0), capacity(3), asked=bounds(most=4)).replicas == 4
        assert decided(figures(), capacity(3), asked=bounds(least=2)).replicas == 2


class TestWaiting:
    def test_the_first_request_should_start_one_replica_however_many_wait_for_it(self) -> None:
        # A replica works off 10/10 a second: thirty are done in the thirty seconds after it is up.
        for held in (1, 10, 30):
            assert decided(figures(held=held), capacity(0), ScalerState()).replicas == 1

    def test_a_queue_should_not_be_taken_for_load_while_starts_are_on_their_way(self) -> None:
        """Six replicas are enough for five a second, and the queue is soon worked off by those that are nearly up."""
        there = capacity(0, *[200.0] * 6)
        assert decided(figures(rate=5.0, held=200), there).replicas == 8
        assert decided(figures(rate=5.0, held=100), there).replicas == 6

    @pytest.mark.parametrize(("age", "more"), [(100.0, False), (470.0, False), (490.0, True)])
    def test_nothing_should_be_expected_of_a_start_that_is_long_overdue(self, age: float, *, more: bool) -> None:
        assert (decided(figures(held=25), capacity(0, age)).replicas > 1) is more

    def test_a_hurried_preset_should_start_more_for_the_same_queue(self) -> None:
        asked = [bounds(preset=one) for one in ("thrifty", "balanced", "quick")]
        found = [decided(figures(held=120), capacity(0), asked=one).replicas for one in asked]
        assert found == [1, 4, 8]

    def test_a_preset_of_a_later_version_should_be_balanced(self) -> None:
        later, known = bounds(preset="frugal"), bounds()
        assert decided(figures(held=120), capacity(0), asked=later) == decided(
            figures(held=120), capacity(0), asked=known
        )


class TestWorkingOff:
    """Six replicas, full of requests that had waited; one a second comes, for which one replica is enough."""

    WAITED = BUSY.model_copy(update={"planned": [Peak(replicas=6, until=NOW - timedelta(seconds=60))]})

    def test_requests_that_had_waited_should_not_be_taken_for_load_that_lasts(self) -> None:
        seen = figures(rate=1.0, running=80.0)
        assert decided(seen, capacity(6), self.WAITED).replicas == 2
        assert decided(seen, capacity(6), BUSY).replicas == 8

    def test_replicas_should_not_be_given_up_while_requests_wait(self) -> None:
        assert decided(figures(rate=1.0, running=80.0, held=50), capacity(6), self.WAITED).replicas >= 6

    def test_no_more_than_runs_should_be_taken_for_load(self) -> None:
        assert decided(figures(rate=1.0, running=4.0), capacity(6), self.WAITED).replicas == 1

    def test_requests_past_the_gateways_should_be_load_since_their_arrivals_are_not_counted(self) -> None:
        seen = replace(figures(rate=1.0, running=80.0), direct=45.0)
        assert decided(seen, capacity(6), self.WAITED).replicas == 6

    def test_a_queue_of_long_ago_should_change_nothing(self) -> None:
        long_ago = BUSY.model_copy(update={"planned": [Peak(replicas=6, until=NOW - timedelta(seconds=241))]})
        forgotten = decided(figures(rate=1.0, running=8.0), capacity(6), long_ago).state
        assert decided(figures(rate=1.0, running=80.0), capacity(6), forgotten).replicas == 8


class TestGivingUp:
    def after(self, seconds: float, preset: str = "balanced") -> int:
        """Replicas for one that is enough now, `seconds` after three were."""
        state = BUSY.model_copy(update={"steady": [Peak(replicas=3)]})
        asked = bounds(preset=preset)
        first = scale(asked, state, figures(running=5), capacity(3), 3, NOW)
        later = NOW + timedelta(seconds=seconds)
        return scale(asked, first.state, figures(running=5), capacity(3), first.replicas, later).replicas

    @pytest.mark.parametrize(("preset", "quiet"), [("thrifty", 180), ("balanced", 600), ("quick", 900)])
    def test_replicas_should_be_kept_for_the_presets_quiet_time_and_no_longer(self, preset: str, quiet: int) -> None:
        assert self.after(quiet, preset) == 3
        assert self.after(quiet + 1, preset) == 1

    def test_figures_that_are_missing_should_never_lead_to_fewer_and_may_lead_to_more(self) -> None:
        assert decided(figures(complete=False), capacity(3), before=3).replicas == 3
        assert decided(figures(complete=False, held=2000), capacity(3), before=3).replicas > 3

    def test_starts_should_be_given_up_only_beyond_what_lately_waited(self) -> None:
        waited = BUSY.model_copy(update={"planned": [Peak(replicas=4, until=NOW - timedelta(seconds=200))]})
        assert decided(figures(running=5), capacity(1, 100, 100, 100, 10, 10), waited).state.releasable == 2
        assert decided(figures(running=5), capacity(1, 100, 100, 100, 10, 10)).state.releasable == 5


class TestMemory:
    @pytest.mark.parametrize("seen", [figures(), figures(rate=2.0, running=14.0, seconds=10.0)])
    def test_the_same_load_should_change_nothing_however_long_it_lasts(self, seen: Figures) -> None:
        first = decided(seen, capacity(2), before=2)
        for seconds in (30, 3600, 90_000):
            now = NOW + timedelta(seconds=seconds)
            again = scale(bounds(), first.state, seen, capacity(2), first.replicas, now)
            assert again.state == first.state

    def test_what_is_too_old_should_be_forgotten(self) -> None:
        old = [Peak(replicas=9, until=NOW - timedelta(hours=1)), Peak(replicas=3, until=NOW - timedelta(minutes=4))]
        found = decided(figures(running=5), capacity(1), BUSY.model_copy(update={"steady": old})).state.steady
        assert [one.replicas for one in found] == [3, 1]


class TestReason:
    @pytest.mark.parametrize(
        ("found", "reason"),
        [
            (decided(figures(), capacity()), "no request runs, waits or has come lately"),
            (decided(figures(held=1), capacity()), "1 request waits, and a start takes about 240 s"),
            (decided(figures(held=7), capacity()), "7 requests wait, and a start takes about 240 s"),
            (
                decided(figures(rate=0.5, running=14), capacity(2), before=2),
                "14.0 requests run at once, 0.50 come each second, 10 fit on a replica",
            ),
            (
                decided(figures(running=50), capacity(2), asked=bounds(most=3), before=2),
                "50.0 requests run at once, 0.00 come each second, 10 fit on a replica; `max_replicas` is 3",
            ),
            (
                decided(figures(rate=1.0, running=80), capacity(2), TestWorkingOff.WAITED, before=2),
                "15.0 requests run at once beside those that had waited, 1.00 come each second, 10 fit on a replica",
            ),
            (
                decided(figures(), capacity(1), asked=bounds(least=1)),
                "no request runs, waits or has come lately; `min_replicas` is 1",
            ),
            (
                decided(figures(complete=False), capacity(1), before=1),
                "a gateway has not reported for a minute, so none is given up",
            ),
            (
                decided(figures(), capacity(1), BUSY.model_copy(update={"steady": [Peak(replicas=1)]}), before=1),
                "the load of the last minutes called for as many",
            ),
        ],
    )
    def test_it_should_name_the_figures_that_decided(self, found: Scaled, reason: str) -> None:
        assert found.reason == reason


loads = st.builds(
    figures,
    rate=st.floats(0, 50),
    running=st.floats(0, 300),
    held=st.integers(0, 2000),
    complete=st.booleans(),
    seconds=st.one_of(st.none(), st.floats(0.1, 300)),
)
stocks = st.builds(
    Capacity,
    ready=st.integers(0, 30),
    start_ages=st.lists(st.floats(0, 2000), max_size=10),
    start_seconds=st.floats(5, 1200),
    concurrency=st.just(10.0),
)


def waited(replicas: int, age: int) -> ScalerState:
    """A queue that called for so many has been worked off for so many seconds."""
    earlier = Peak(replicas=replicas, until=NOW - timedelta(seconds=age))
    return BUSY.model_copy(update={"planned": [earlier, Peak(replicas=0)]})


memories = st.builds(waited, st.integers(1, 30), st.integers(0, 400))


class TestProperties:
    @given(loads, stocks, st.integers(0, 30))
    def test_bounds_should_hold_whatever_is_seen(self, seen: Figures, there: Capacity, before: int) -> None:
        found = decided(seen, there, asked=bounds(least=1, most=20), before=before)
        assert 1 <= found.replicas <= 20
        assert 0 <= found.state.releasable <= there.total

    @given(loads, stocks, st.just(BUSY) | memories, st.integers(1, 500))
    def test_more_that_wait_should_never_lead_to_fewer(
        self, seen: Figures, there: Capacity, state: ScalerState, more: int
    ) -> None:
        greater = replace(seen, held=seen.held + more)
        assert decided(seen, there, state).replicas <= decided(greater, there, state).replicas

    @given(loads, stocks, st.just(BUSY) | memories, st.floats(0, 20))
    def test_more_that_come_should_never_lead_to_fewer(
        self, seen: Figures, there: Capacity, state: ScalerState, more: float
    ) -> None:
        arrivals = {window: count + round(more * window) for window, count in seen.arrivals.items()}
        greater = replace(seen, arrivals=arrivals)
        assert decided(seen, there, state).replicas <= decided(greater, there, state).replicas

    @given(loads, stocks, st.just(BUSY) | memories)
    def test_more_that_run_should_never_lead_to_fewer(self, seen: Figures, there: Capacity, state: ScalerState) -> None:
        greater = replace(seen, running=seen.running + 20, running_mean=seen.running_mean + 20)
        assert decided(seen, there, state).replicas <= decided(greater, there, state).replicas
