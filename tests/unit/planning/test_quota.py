"""Which offers a quota rules out, and that what is not known rules nothing out."""

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from gpulaunch.models.offers import Offer
from shared.clouds.azure.quota import needs_of
from shared.domain.quota import QuotaUsage, RegionUsage
from shared.planning.quota import excluded, held, plain, shortage

A10 = "Standard_NV36ads_A10_v5"
A10_FAMILY = "StandardNVADSA10v5Family"


def offer(*, spot: bool = False, kind: str | None = A10, vcpus: float | None = 36, region: str = "eastus") -> Offer:
    return Offer(
        provider="azure",
        region=region,
        instance_type=kind,
        gpu="A10",
        gpu_count=1,
        vcpus=vcpus,
        use_spot=spot,
        price_per_hour=1.0,
    )


def usage(limits: Mapping[str, tuple[int, int]], region: str = "eastus") -> RegionUsage:
    lines = tuple(QuotaUsage(name, used, limit) for name, (used, limit) in limits.items())
    return RegionUsage(region, datetime(2026, 1, 1, tzinfo=UTC), lines)


@pytest.mark.parametrize(
    "spelled", ["Standard NVADSA10v5 Family", "standardNVADSA10v5Family", " STANDARDnvadsa10v5family"]
)
def test_stray_spaces_and_case_should_not_matter(spelled: str) -> None:
    assert plain(spelled) == plain(A10_FAMILY)
    assert shortage(offer(), needs_of(offer()), usage({spelled: (0, 0)})) is not None


@pytest.mark.parametrize(
    ("spot", "limits"),
    [
        (False, {A10_FAMILY: (1, 36), "cores": (0, 500)}),
        (False, {A10_FAMILY: (0, 72), "cores": (480, 500)}),
        (False, {A10_FAMILY: (0, 72), "cores": (0, 500), "virtualMachines": (5, 5)}),
        (True, {"lowPriorityCores": (0, 35)}),
        (True, {"lowPriorityCores": (72, 72)}),
        (True, {"lowPriorityCores": (0, 72), "virtualMachines": (5, 5)}),
        (True, {"lowPriorityCores": (90, 72)}),
    ],
)
def test_too_little_quota_should_strike_an_offer(spot: bool, limits: dict[str, tuple[int, int]]) -> None:
    reason = shortage(offer(spot=spot), needs_of(offer(spot=spot)), usage(limits))
    assert reason is not None
    assert reason.startswith("no quota: eastus")


@pytest.mark.parametrize(
    ("spot", "limits"),
    [
        (False, {A10_FAMILY: (0, 36), "cores": (464, 500)}),
        # Spot machines need none of their family's cores, and on-demand ones no low-priority cores.
        (True, {A10_FAMILY: (0, 0), "cores": (0, 0), "lowPriorityCores": (0, 36)}),
        (False, {A10_FAMILY: (0, 36), "lowPriorityCores": (0, 0)}),
        (False, {"standardNCSv3Family": (0, 0)}),
        (False, {}),
        (True, {}),
    ],
)
def test_enough_or_unknown_quota_should_leave_an_offer_alone(spot: bool, limits: dict[str, tuple[int, int]]) -> None:
    assert shortage(offer(spot=spot), needs_of(offer(spot=spot)), usage(limits)) is None


def test_the_reason_should_name_region_line_and_numbers() -> None:
    assert shortage(offer(), needs_of(offer()), usage({A10_FAMILY: (30, 60)})) == (
        "no quota: eastus has 30 of 60 cores free in StandardNVADSA10v5Family, Standard_NV36ads_A10_v5 needs 36"
    )


@pytest.mark.parametrize("unknown", [offer(vcpus=None), offer(kind="Standard_NEW99_v9"), offer(kind=None)])
def test_a_machine_of_which_little_is_known_should_not_be_struck_for_its_family(unknown: Offer) -> None:
    assert shortage(unknown, needs_of(unknown), usage({A10_FAMILY: (0, 0)})) is None


def test_only_offers_of_regions_without_quota_should_be_struck() -> None:
    here, there, elsewhere = offer(), offer(region="westus"), offer(region="northeurope")
    usages = {"eastus": usage({"cores": (0, 0)}), "westus": usage({"cores": (0, 99)}, "westus")}
    assert list(excluded([here, there, elsewhere], usages, needs_of)) == [here.key]


def test_what_is_held_should_be_counted_by_line() -> None:
    assert held([offer(), offer(spot=True), offer(spot=True)], needs_of) == {
        plain(A10_FAMILY): 36,
        "cores": 36,
        "lowprioritycores": 72,
        "virtualmachines": 3,
    }
    assert needs_of(offer(kind=None)) == []
