"""The load of an endpoint, from what its gateways tell: sums, means by weight, and what is too old to be believed."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpulaunch.models.gateways import ARRIVAL_WINDOWS, EndpointReport, GatewayReport
from shared.autoscaling.figures import FRESH, GIVEN_UP, Figures, figures_of
from tests.twins.clock import START


def report(name: str, age: timedelta = timedelta(0), endpoint_id: str = "ep-1", **figures: Any) -> GatewayReport:
    one = EndpointReport(endpoint_id=endpoint_id, version=1, **figures)
    return GatewayReport(gateway_id=name, at=START - age, endpoints=[one])


def seen(*reports: GatewayReport | None, probed: float = 0.0) -> Figures:
    return figures_of("ep-1", {str(number): one for number, one in enumerate(reports)}, START, probed)


def test_what_each_gateway_tells_should_be_added_up() -> None:
    arrivals = {30: 1, 60: 2, 120: 3, 240: 4}
    found = seen(
        report("a", arrivals=arrivals, running=3, running_mean=2.5, held=1),
        report("b", arrivals=arrivals, running=1, running_mean=1.0, held=2),
        report("c", endpoint_id="ep-2", arrivals=arrivals, running=9, running_mean=9.0, held=9),
    )
    assert found.arrivals == {30: 2, 60: 4, 120: 6, 240: 8}
    assert (found.running, found.running_mean, found.held, found.complete) == (4, 3.5, 3, True)


def test_durations_should_weigh_as_many_requests_as_they_are_of() -> None:
    found = seen(report("a", timed=30, service_seconds=2.0), report("b", timed=10, service_seconds=6.0), report("c"))
    assert found.service_seconds == pytest.approx(3.0)
    assert seen(report("a")).service_seconds is None


def test_requests_that_only_probes_found_should_count_and_those_of_the_gateway_not_twice() -> None:
    assert seen(probed=4.0).running_mean == 4.0
    assert seen(report("a", running=5, running_mean=5.0), probed=4.0).running_mean == 5.0


@pytest.mark.parametrize(
    ("age", "counts", "complete"),
    [
        (FRESH, True, True),
        (FRESH + timedelta(seconds=1), False, False),
        (GIVEN_UP, False, False),
        (GIVEN_UP + timedelta(seconds=1), False, True),
    ],
)
def test_an_old_report_should_tell_nothing_and_be_missed_until_its_gateway_is_given_up(
    age: timedelta, *, counts: bool, complete: bool
) -> None:
    found = seen(report("a", held=1), report("b", age, held=2))
    assert (found.held, found.complete) == (3 if counts else 1, complete)


def test_one_that_cannot_be_read_should_be_missed_and_none_at_all_should_be_no_traffic() -> None:
    assert not seen(report("a"), None).complete
    assert seen().complete
    assert seen().quiet


@pytest.mark.parametrize("figures", [{"running": 1}, {"held": 1}, {"arrivals": {60: 1, 120: 1, 240: 1}}])
def test_any_request_should_end_the_quiet(figures: dict[str, Any]) -> None:
    assert not seen(report("a", **figures)).quiet


def test_requests_of_more_than_a_minute_ago_should_not() -> None:
    assert seen(report("a", arrivals={30: 0, 60: 0, 120: 5, 240: 5})).quiet


@st.composite
def reports(draw: st.DrawFn) -> GatewayReport:
    running, held, came = draw(st.integers(0, 100)), draw(st.integers(0, 100)), draw(st.integers(0, 1000))
    figures: dict[str, Any] = {"running": running, "running_mean": float(running), "held": held}
    return report(str(draw(st.uuids())), arrivals=dict.fromkeys(ARRIVAL_WINDOWS, came), **figures)


@given(st.lists(reports(), max_size=5), st.randoms())
def test_the_order_of_reports_should_not_matter(some: list[GatewayReport], random: Any) -> None:
    shuffled = list(some)
    random.shuffle(shuffled)
    assert seen(*some) == seen(*shuffled)
