"""From which earlier launches expected times are taken, and for how long they are kept."""

from datetime import timedelta
from typing import Any

import pytest

from gpulaunch.models.instances import Phase
from gpulaunch.models.offers import Offer
from shared.backends.base import Backend
from shared.control.phase_estimates import PhaseEstimates, PhaseSpan
from tests.functional.web.test_expected import earlier
from tests.twins.clock import START, ManualClock
from tests.twins.factories import make_attempt, make_instance_id, make_offer, make_record, make_request
from tests.twins.store import MemoryInstanceStore
from tests.unit.control.doubles import ProviderDouble

UNKNOWN = PhaseSpan(60, 840)
KEPT = timedelta(minutes=10)


class Estimating:
    def __init__(self) -> None:
        self.store, self.clock = MemoryInstanceStore(), ManualClock()
        provider = ProviderDouble()
        self.estimates = PhaseEstimates(self.store, lambda _: Backend(provider, provider), self.clock)

    def took(self, number: int, seconds: float, **given: Any) -> None:
        self.store.create(*earlier(number, seconds, **given), None)

    def installing(self, number: int = 900, **given: Any) -> PhaseSpan:
        return self.estimates.of(make_record(instance_id=make_instance_id(number), mode="real", **given))[
            Phase.INSTALLING
        ]


@pytest.fixture
def estimating() -> Estimating:
    return Estimating()


@pytest.mark.parametrize(("age", "known"), [(KEPT, False), (KEPT + timedelta(seconds=1), True)])
def test_what_was_read_should_be_kept_for_ten_minutes(estimating: Estimating, age: timedelta, *, known: bool) -> None:
    assert estimating.installing() == UNKNOWN
    estimating.took(1, 300.0)
    estimating.clock.set(START + age)
    assert estimating.installing() == (PhaseSpan(300, 300) if known else UNKNOWN)


def test_launches_elsewhere_should_not_displace_those_that_are_alike(estimating: Estimating) -> None:
    estimating.took(1, 300.0)
    for number in range(2, 60):
        estimating.took(number, 1.0, request=make_request(provider="aws", region="us-east-1"))
    assert estimating.installing() == PhaseSpan(300, 300)


def of(offer: Offer) -> dict[str, Any]:
    return {"attempts": [make_attempt(ready_at=START, offer=offer)], "offers": [offer]}


@pytest.mark.parametrize(
    "other",
    [
        {"mode": "simulation"},
        {"attempts": []},
        {"attempts": [make_attempt()]},
        {"request": make_request(model_name="org/other")},
        of(make_offer(instance_type="Standard_NV72ads_A10_v5")),
        of(make_offer(instance_type=None, gpu_count=2)),
    ],
)
def test_only_launches_that_are_alike_and_got_ready_should_count(estimating: Estimating, other: dict[str, Any]) -> None:
    estimating.took(1, 300.0, **other)
    assert estimating.installing() == UNKNOWN
    estimating.took(2, 200.0)
    estimating.clock.set(START + KEPT * 2)
    assert estimating.installing() == PhaseSpan(200, 200)


def test_an_instance_should_not_be_measured_by_itself(estimating: Estimating) -> None:
    estimating.took(1, 300.0)
    assert estimating.installing(1) == UNKNOWN


def test_the_five_latest_should_count_by_their_median(estimating: Estimating) -> None:
    for number, seconds in enumerate((1.0, 1.0, 10.0, 20.0, 30.0, 40.0, 50.0), 1):
        estimating.took(number, seconds)
    assert estimating.installing() == PhaseSpan(30, 30)


def test_machines_of_two_types_should_be_kept_apart(estimating: Estimating) -> None:
    bigger = make_offer(instance_type="Standard_NV72ads_A10_v5")
    estimating.took(1, 300.0)
    estimating.took(2, 100.0, **of(bigger))
    found: list[PhaseSpan] = [estimating.installing(), estimating.installing(offers=[bigger])]
    assert found == [PhaseSpan(300, 300), PhaseSpan(100, 100)]
