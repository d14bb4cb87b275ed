"""What a plan is refused for, and what the deployment adds to a request."""

from collections.abc import Mapping
from typing import Any

import pytest

from gpulaunch.models.instances import Reason
from gpulaunch.models.requests import LaunchRequest, ProviderName
from shared.billing.limits import AdmissionLimits
from shared.catalog.snapshot import snapshot
from shared.control.launch_arguments import LaunchArguments
from shared.control.launch_planner import LaunchDefaults, LaunchPlanner
from shared.control.offer_memory import OfferMemory
from shared.domain.catalog import Listing, NotCataloguedError
from shared.domain.cloud import CloudTraits
from shared.domain.errors import AdmissionRefusedError, InvalidFieldsError
from shared.domain.instance import AttemptState, Failure
from shared.redaction import Redactor
from tests.twins.clock import START, ManualClock
from tests.twins.factories import make_attempt, make_record, make_request
from tests.twins.store import MemoryInstanceStore

CHEAPEST = make_request(spot_fallback=True)


class Unpriced:
    """A catalog without any prices."""

    @property
    def clouds(self) -> Mapping[ProviderName, CloudTraits]:
        return snapshot().clouds

    def listing(self, provider: ProviderName) -> Listing:
        raise NotCataloguedError(f"there are no prices of {provider}", ["kubernetes", "slurm"])


def planner(catalog: Any = None, *, idle: int | None = None, simulated: bool = False, **limits: Any) -> LaunchPlanner:
    clock = ManualClock()
    return LaunchPlanner(
        catalog or snapshot(),
        AdmissionLimits(**limits),
        LaunchDefaults(lifetime_minutes=720, idle_minutes=idle, simulated=simulated),
        OfferMemory(MemoryInstanceStore(), clock),
        clock,
        LaunchArguments(Redactor([]), set()),
    )


def test_an_offer_should_be_what_the_deployment_allows_at_the_price_that_is_asked_for() -> None:
    """Spot in eastus costs 0.80 an hour, in westus 1.04."""
    request = make_request(region=["eastus", "westus"], max_hourly_cost=0.9)
    assert {offer.region for offer in planner().plan(request).offers} == {"eastus"}
    assert {offer.region for offer in planner(regions=("eastus",)).plan(request).offers} == {"eastus"}
    for asked in (planner(regions=("westus",)).plan, planner(regions=("westus",)).candidates):
        with pytest.raises(InvalidFieldsError) as caught:
            asked(request)
        (problem,) = caught.value.errors
        assert (problem.field, "allow more of them" in problem.message) == ("body", True)


@pytest.mark.parametrize(("regions", "refused"), [(("westus",), True), (("eastus", "westus"), False)])
def test_what_the_deployment_does_not_allow_should_be_refused(regions: tuple[str, ...], *, refused: bool) -> None:
    planning = planner(regions=regions)
    if not refused:
        assert planning.candidates(make_request()).offers
        return
    with pytest.raises(AdmissionRefusedError):
        planning.candidates(make_request())


def test_a_provider_without_prices_should_be_refused_with_those_that_have_some() -> None:
    with pytest.raises(InvalidFieldsError) as caught:
        planner(Unpriced()).candidates(make_request())
    (problem,) = caught.value.errors
    assert (problem.field, problem.message, problem.nearest) == (
        "provider",
        "there are no prices of azure",
        ["kubernetes", "slurm"],
    )


def test_what_does_not_exist_should_be_refused_with_what_is_like_it() -> None:
    with pytest.raises(InvalidFieldsError) as caught:
        planner().candidates(make_request(region="eastus9"))
    (problem,) = caught.value.errors
    assert (problem.field, "eastus" in problem.nearest, problem.message != "") == ("region", True, True)


@pytest.mark.parametrize("simulated", [False, True])
def test_an_offer_that_failed_lately_should_be_planned_last_unless_everything_is_simulated(*, simulated: bool) -> None:
    planning = planner(simulated=simulated)
    first, *others = planning.plan(CHEAPEST).offers
    failure = Failure(reason=Reason.NO_CAPACITY, message="no room")
    failed = make_attempt(offer=first, state=AttemptState.GONE, gone_at=START, failure=failure)
    planning.memory.committed(make_record(mode="real"), make_record(mode="real", attempts=[failed]), [])
    assert planning.plan(CHEAPEST).offers == ([first, *others] if simulated else [*others, first])


@pytest.mark.parametrize(
    ("longest", "asked", "planned"), [(None, None, 720), (721, None, 720), (60, None, 60), (60, 60, 60), (None, 90, 90)]
)
def test_a_lifetime_should_be_what_is_asked_for_or_the_default_within_the_limit(
    longest: int | None, asked: int | None, planned: int
) -> None:
    found = planner(lifetime_minutes=longest).plan(make_request(max_lifetime_minutes=asked))
    assert (found.request.max_lifetime_minutes, found.estimate.lifetime_minutes) == (planned, planned)


def test_a_longer_one_should_be_refused() -> None:
    with pytest.raises(AdmissionRefusedError):
        planner(lifetime_minutes=60).plan(make_request(max_lifetime_minutes=61))


@pytest.mark.parametrize(
    ("default", "asked", "planned"), [(None, None, None), (30, None, 30), (30, 10, 10), (None, 10, 10)]
)
def test_an_idle_time_should_be_what_is_asked_for_or_the_default(
    default: int | None, asked: int | None, planned: int | None
) -> None:
    request: LaunchRequest = planner(idle=default).candidates(make_request(idle_minutes=asked)).request
    assert request.idle_minutes == planned


@pytest.mark.parametrize(("idle", "refused"), [(30, True), (None, False)])
def test_arguments_should_be_checked_with_the_deployment_s_defaults(idle: int | None, *, refused: bool) -> None:
    request = make_request(vllm_args=["--disable-log-stats"])
    if not refused:
        assert planner(idle=idle).candidates(request).offers
        return
    with pytest.raises(InvalidFieldsError):
        planner(idle=idle).candidates(request)
