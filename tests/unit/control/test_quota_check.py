"""The quota preflight: which regions are asked, how often, and what is excluded."""

from collections.abc import Sequence
from typing import Any, cast

import pytest

from shared.clouds.registry import CHECKABLE
from shared.control.quota_check import QuotaCheck
from shared.domain.provider import ProviderUnavailableError
from shared.domain.quota import QuotaNeed, QuotaUsage, RegionUsage
from shared.planning.launch_plan import Candidates
from shared.redaction import Redactor
from tests.twins.clock import START
from tests.twins.factories import make_offer, make_request
from tests.twins.store import MemoryInstanceStore
from tests.unit.control.doubles import CloudDouble

REGIONS = [f"region{number:02d}" for number in range(40)]
SECRET = "a-secret-of-the-tests"


class Cloud(CloudDouble):
    """A cloud with room for a machine in some regions; others do not answer."""

    def __init__(self, room: Sequence[str], silent: Sequence[str] = ()) -> None:
        super().__init__()
        self.room, self.silent = room, silent
        self.asked: list[str] = []

    def usage(self, region: str) -> RegionUsage:
        self.asked.append(region)
        if region in self.silent:
            raise ProviderUnavailableError(f"no answer, {SECRET}")
        return RegionUsage(region, START, (QuotaUsage("cores", 0, 36 if region in self.room else 35),))

    def quota_needs(self, offer: Any) -> Sequence[QuotaNeed]:
        return [QuotaNeed("cores", 36, "cores")]


def check(cloud: Cloud | None) -> QuotaCheck:
    clouds = {} if cloud is None else {"azure": cloud}
    return QuotaCheck(cast("Any", clouds), CHECKABLE, MemoryInstanceStore(), Redactor([SECRET]))


def candidates() -> Candidates:
    """An offer in each region, the first one the cheapest; more than one plan has."""
    offers = [
        make_offer(region=region, use_spot=False, price_per_hour=1.0 + number / 100)
        for number, region in enumerate(REGIONS)
    ]
    return Candidates(request=make_request(region=None, use_spot=False), offers=offers)


def test_regions_that_take_the_place_of_excluded_ones_should_be_checked_as_well() -> None:
    given = candidates()
    first = {offer.region for offer in given.planned()}
    assert len(first) < len(REGIONS), "the others take their place"
    cloud = Cloud(room=REGIONS[-1:])
    found = check(cloud).preflight("real", given)
    assert sorted(cloud.asked) == REGIONS, "each once"
    assert {offer.region for offer in given.planned(found.excluded)} == {REGIONS[-1]}
    assert len(found.excluded) == len(found.warnings) == len(REGIONS) - 1


def test_where_there_is_room_only_the_plan_should_be_checked() -> None:
    cloud = Cloud(room=REGIONS)
    given = candidates()
    found = check(cloud).preflight("real", given)
    assert sorted(cloud.asked) == sorted({offer.region for offer in given.planned()})
    assert (found.excluded, found.warnings) == ({}, [])


def test_a_region_that_does_not_answer_should_exclude_nothing_and_be_asked_once() -> None:
    cloud = Cloud(room=[], silent=REGIONS[:1])
    given = candidates()
    found = check(cloud).preflight("real", given)
    assert sorted(cloud.asked) == REGIONS
    assert {offer.region for offer in given.planned(found.excluded)} == {REGIONS[0]}
    (unchecked,) = (line for line in found.warnings if "was not checked" in line)
    assert REGIONS[0] in unchecked
    assert SECRET not in unchecked


@pytest.mark.parametrize(("mode", "cloud", "warned"), [("simulation", Cloud([]), 0), ("real", None, 1)])
def test_a_simulation_and_a_cloud_that_is_not_configured_should_ask_nobody(
    mode: Any, cloud: Cloud | None, warned: int
) -> None:
    found = check(cloud).preflight(mode, candidates())
    assert (found.excluded, len(found.warnings), cloud.asked if cloud else []) == ({}, warned, [])
