from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpulaunch.models.offers import Offer
from gpulaunch.models.requests import LaunchRequest, ProviderName
from shared.catalog.snapshot import snapshot
from shared.domain.catalog import ANY_REGION, CatalogMismatch, CloudsByProvider, FieldProblem, Listing
from shared.planning.matching import match, nearest
from tests.twins.factories import make_offer

CATALOG = snapshot()
AZURE = CATALOG.listing("azure")
SEED_TYPE = "Standard_NV36ads_A10_v5"


def ask(**fields: Any) -> LaunchRequest:
    return LaunchRequest.model_validate({"model_name": "meta-llama/Llama-3.1-8B-Instruct", **fields})


def found(**fields: Any) -> list[Offer]:
    return match(ask(**fields), CATALOG)


def problems(**fields: Any) -> dict[str, FieldProblem]:
    with pytest.raises(CatalogMismatch) as caught:
        found(**fields)
    listed = caught.value.problems
    assert len({problem.field for problem in listed}) == len(listed)
    for problem in listed:
        assert f"{problem.field}: {problem.message}" in str(caught.value)
    return {problem.field: problem for problem in listed}


def only(**fields: Any) -> FieldProblem:
    (problem,) = problems(**fields).values()
    return problem


def test_the_seed() -> None:
    offers = found(provider="azure", region="eastus", instance_type=SEED_TYPE, use_spot=True)
    assert {(offer.use_spot, offer.price_per_hour) for offer in offers} == {(True, 0.8), (False, 3.2)}
    assert {(offer.region, offer.instance_type, offer.gpu, offer.gpu_count) for offer in offers} == {
        ("eastus", SEED_TYPE, "A10", 1)
    }


def values(name: str, **fields: Any) -> set[Any]:
    return {getattr(offer, name) for offer in found(**fields)}


@pytest.mark.parametrize(
    ("name", "expected", "fields"),
    [
        (
            "region",
            {"eastus", "eastus2", "northcentralus", "southcentralus", "westus", "westus2", "westus3"},
            {"instance_type": SEED_TYPE},
        ),
        ("region", {"eastus", "westus3"}, {"instance_type": SEED_TYPE, "region": ["westus3", "eastus"]}),
        ("region", {"eastus"}, {"instance_type": SEED_TYPE, "region": "EastUS"}),
        ("region", {"eastus"}, {"instance_type": SEED_TYPE, "region": "EASTUS"}),
        ("region", {"westus2"}, {"instance_type": "Standard_ND96asr_v4", "region": ["westus3", "westus2"]}),
        ("instance_type", {SEED_TYPE}, {"instance_type": SEED_TYPE.lower()}),
        ("instance_type", {SEED_TYPE, "Standard_NV36adms_A10_v5"}, {"gpu": "A10"}),
        ("instance_type", {"Standard_NC48ads_A100_v4"}, {"gpu": "A100-80GB:2"}),
        ("instance_type", {"Standard_ND96isr_H100_v5"}, {"gpu": "H100:8"}),
        ("use_spot", {True, False}, {"gpu": "A10", "use_spot": True}),
        ("use_spot", {True}, {"gpu": "A10", "use_spot": True, "spot_fallback": False}),
        ("use_spot", {False}, {"gpu": "A10", "use_spot": False}),
        ("use_spot", {False}, {"gpu": "A10", "use_spot": False, "spot_fallback": False}),
        ("use_spot", {False}, {"gpu": "H100", "use_spot": True}),
        ("gpu", {"A10"}, {"gpu": "A10", "region": "eastus", "max_hourly_cost": 0.8}),  # exactly the price is enough
    ],
)
def test_offers_should_be_those_asked_for(name: str, expected: set[Any], fields: dict[str, Any]) -> None:
    assert values(name, **fields) == expected


@pytest.mark.parametrize(("one", "other"), [("A10:1", "A10"), ("a10", "A10"), ("a100-80gb", "A100-80GB")])
def test_spellings_of_a_gpu_should_mean_the_same(one: str, other: str) -> None:
    assert found(gpu=one) == found(gpu=other)


@pytest.mark.parametrize(
    ("fields", "field", "message", "nearest_first"),
    [
        ({"instance_type": SEED_TYPE, "region": "East-US"}, "region", "East-US", "eastus"),
        ({"instance_type": SEED_TYPE, "region": "east_us_2"}, "region", "east_us_2", "eastus2"),
        ({"instance_type": SEED_TYPE, "region": "eastsu"}, "region", "eastsu", "eastus"),
        ({"instance_type": SEED_TYPE, "region": "westus9"}, "region", "westus9", "westus"),
        ({"instance_type": SEED_TYPE, "region": ["eastus", "nowhere"]}, "region", "nowhere", None),
        ({"instance_type": SEED_TYPE, "region": "westcentralus"}, "region", "", None),  # it has no GPUs
        ({"instance_type": "Standard_NV36ads_A10_v4"}, "instance_type", "", SEED_TYPE),
        ({"instance_type": "NV36ads_A10_v5"}, "instance_type", "", SEED_TYPE),
        ({"instance_type": "Standard_NV36adsA10_v5"}, "instance_type", "", SEED_TYPE),
        ({"instance_type": "Standard_D4s_v5"}, "instance_type", "no GPU", None),
        (
            {"instance_type": "Standard_ND96asr_v4", "region": "westus3"},
            "region",
            "Standard_ND96asr_v4 is not offered in westus3",
            "eastus",
        ),
        ({"gpu": "V100"}, "gpu", "", "V100-32GB"),
        ({"gpu": "A100"}, "gpu", "by 8 on a machine, not by 1", "A100:8"),
        ({"gpu": "H100:12"}, "gpu", "", "H100:8"),
        (
            {"gpu": "H100", "use_spot": True, "spot_fallback": False},
            "use_spot",
            "for H100 there; on-demand costs from 6.98 USD",
            None,
        ),
        (
            {"gpu": "A10", "region": "eastus", "max_hourly_cost": 0.5},
            "max_hourly_cost",
            f"azure/eastus/{SEED_TYPE}x1/spot, costs 0.8 USD",
            "0.8",
        ),
        ({"gpu": "A10", "use_spot": False, "max_hourly_cost": 1}, "max_hourly_cost", "3.2 USD", None),
        ({"provider": "kubernetes", "instance_type": "big-one"}, "instance_type", "no machine types; set `gpu`", None),
        ({"provider": "aws", "gpu": "A10"}, "provider", "set provider to azure", "azure"),
        ({"provider": "gcp", "gpu": "A10"}, "provider", "set provider to azure", "azure"),
        ({"provider": "aws", "instance_type": "g5.xlarge"}, "provider", "", "azure"),
    ],
)
def test_a_problem_should_name_its_field_and_the_nearest_value(
    fields: dict[str, Any], field: str, message: str, nearest_first: str | None
) -> None:
    problem = only(**fields)
    assert problem.field == field
    assert message in problem.message
    assert nearest_first is None or problem.nearest[0] == nearest_first


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"gpu": "A100:8", "region": "xyz"}, ["eastus", "westus2", "southcentralus"]),
        ({"instance_type": "Standard_ND96asr_v4", "region": "westus3"}, ["eastus", "westus2", "southcentralus"]),
        ({"gpu": "xyzzy"}, list(AZURE.gpus)),
        ({"gpu": "A100"}, ["A100:8", "A100-80GB"]),
        ({"gpu": "A10:3"}, ["A10:2", "A10"]),  # no other GPU is taken for a relative
        ({"provider": "aws", "gpu": "A10"}, ["azure", "kubernetes", "slurm"]),
    ],
)
def test_all_that_comes_near_should_be_named_in_order(fields: dict[str, Any], expected: list[str]) -> None:
    assert only(**fields).nearest == expected


def test_two_unknown_regions_should_be_two_entries() -> None:
    with pytest.raises(CatalogMismatch) as caught:
        found(instance_type=SEED_TYPE, region=["nowhere", "neverland"])
    assert [problem.field for problem in caught.value.problems] == ["region", "region"]


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("standard_nc6s_v3", "the NCv3 (V100) series was retired on 2025-09-30"),
        ("Standard_NV18ads_A10_v5", "half an A10"),
    ],
)
def test_an_excluded_type_should_say_why_and_name_types_that_are_not(wrong: str, why: str) -> None:
    problem = only(instance_type=wrong)
    assert why in problem.message
    assert problem.nearest
    assert not set(problem.nearest) & set(AZURE.excluded)


@pytest.mark.parametrize(
    ("foreign", "whose", "like"),
    [
        ("g5.xlarge", "AWS", SEED_TYPE),
        ("p4d.24xlarge", "AWS", "Standard_ND96asr_v4"),
        ("p4de.24xlarge", "AWS", "Standard_NC24ads_A100_v4"),
        ("g4dn.metal", "AWS", "Standard_NC4as_T4_v3"),
        ("a2-ultragpu-1g", "Google Cloud", "Standard_NC24ads_A100_v4"),
        ("n1-standard-8", "Google Cloud", "Standard_NC4as_T4_v3"),
        ("g2-standard-4", "Google Cloud", "Standard_NC4as_T4_v3"),
    ],
)
def test_another_cloud_s_type_should_be_said_to_be_one(foreign: str, whose: str, like: str) -> None:
    problem = only(provider="azure", instance_type=foreign)
    assert problem.field == "instance_type"
    assert f"looks like a machine type of {whose}, and the provider is azure" in problem.message
    assert problem.nearest[0] == like
    assert "looks like" not in only(instance_type="Standard_NX99").message


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"region": "nowhere", "instance_type": "g5.xlarge"}, {"region", "instance_type"}),
        ({"region": "nowhere", "gpu": "xyzzy"}, {"region", "gpu"}),
        ({"region": "nowhere", "gpu": "A10", "max_hourly_cost": 0.1}, {"region", "max_hourly_cost"}),
        ({"region": "westus3", "gpu": "A100:8", "max_hourly_cost": 0.1}, {"region", "max_hourly_cost"}),
        (
            {"gpu": "H100", "region": "eastus", "use_spot": True, "spot_fallback": False, "max_hourly_cost": 1},
            {"use_spot"},
        ),
        ({"provider": "aws", "instance_type": SEED_TYPE}, {"provider", "instance_type"}),
    ],
)
def test_all_problems_should_be_said_at_once(fields: dict[str, Any], expected: set[str]) -> None:
    assert set(problems(**fields)) == expected


class TestOwnInfrastructure:
    @pytest.mark.parametrize("provider", ["slurm", "kubernetes"])
    def test_any_gpu_at_no_price_and_never_spot(self, provider: str) -> None:
        (offer,) = found(provider=provider, gpu="A10", use_spot=True, spot_fallback=False, max_hourly_cost=0.01)
        assert (offer.region, offer.use_spot, offer.price_per_hour) == (ANY_REGION, False, 0)
        assert (offer.gpu, offer.gpu_count, offer.instance_type, offer.gpu_memory_gib) == ("A10", 1, None, 24)

    def test_any_region_and_count_as_written(self) -> None:
        offers = found(provider="slurm", gpu="h100:3", region=["Host-1", "host-2", "Host-1"])
        assert [offer.key for offer in offers] == ["slurm/Host-1/H100x3/on-demand", "slurm/host-2/H100x3/on-demand"]

    def test_a_machine_type_is_refused_and_the_gpu_in_it_named(self) -> None:
        problem = only(provider="slurm", instance_type="Standard_NC48ads_A100_v4")
        assert problem.field == "instance_type"
        assert "set `gpu` instead, such as A100-80GB:2" in problem.message
        assert "looks like a machine type of Azure" in problem.message

    def test_the_gpu_in_a_machine_type_is_named_whichever_cloud_has_no_prices(self) -> None:
        class Backwards:
            clouds: CloudsByProvider = dict(reversed(list(CATALOG.clouds.items())))

            def listing(self, provider: ProviderName) -> Listing:
                return CATALOG.listing(provider)

        assert list(Backwards.clouds).index("aws") < list(Backwards.clouds).index("azure")
        with pytest.raises(CatalogMismatch, match="such as A100-80GB:2"):
            match(ask(provider="slurm", instance_type="Standard_NC48ads_A100_v4"), Backwards())

    def test_gpus_with_a_price_of_their_own_cost_as_much_each(self) -> None:
        own = make_offer(provider="kubernetes", instance_type=None, use_spot=False, price_per_hour=2.5)
        (offer,) = match(ask(provider="kubernetes", gpu="A10:4"), Small([own]))
        assert (offer.gpu_count, offer.price_per_hour) == (4, 10.0)

    def test_unknown_gpu_names_the_nearest(self) -> None:
        problem = only(provider="slurm", gpu="RTX4091")
        assert problem.field == "gpu"
        assert "RTX4090" in problem.nearest


class TestNearest:
    def test_names_that_people_write(self) -> None:
        regions = AZURE.regions
        assert nearest("East US", regions)[0] == "eastus"
        assert nearest("East US 2", regions)[0] == "eastus2"
        assert nearest("South Central US", regions)[0] == "southcentralus"

    def test_what_begins_alike_comes_before_what_is_as_long(self) -> None:
        assert nearest("A100", ["A10", "H100", "A100-80GB"])[0] == "A100-80GB"

    def test_nothing_alike_is_empty(self) -> None:
        assert nearest("qqqq", AZURE.regions) == []
        assert nearest("---", AZURE.regions) == []

    def test_six_tenths_alike_is_enough(self) -> None:
        assert nearest("abcde", ["abcxy", "abxyz"]) == ["abcxy"]

    def test_what_is_equally_alike_is_sorted_by_name(self) -> None:
        assert nearest("westus", ["westus3", "westus2"]) == ["westus2", "westus3"]

    def test_at_most_as_many_as_asked(self) -> None:
        assert len(nearest("eastus", AZURE.regions, limit=2)) == 2


REGIONS = st.sampled_from([*AZURE.regions, "westcentralus", "nowhere", "EastUS", "host"])
TYPES = st.sampled_from([*AZURE.instance_types, *AZURE.excluded, "g5.xlarge", "nonsense"])
NAMES = st.sampled_from(["A10", "a100", "A100-80GB", "H100", "T4", "V100", "L4", "nope"])


@st.composite
def gpus(draw: st.DrawFn) -> str:
    name, count = draw(NAMES), draw(st.integers(0, 12))
    return f"{name}:{count}" if count else name


@st.composite
def requests(draw: st.DrawFn) -> LaunchRequest:
    return ask(
        provider=draw(st.sampled_from(["azure", "aws", "gcp", "kubernetes", "slurm"])),
        region=draw(st.none() | REGIONS | st.lists(REGIONS, min_size=1, max_size=4)),
        use_spot=draw(st.booleans()),
        spot_fallback=draw(st.booleans()),
        max_hourly_cost=draw(st.none() | st.floats(0.01, 120)),
        **({"gpu": draw(gpus())} if draw(st.booleans()) else {"instance_type": draw(TYPES)}),
    )


@settings(deadline=None, max_examples=150)
@given(requests())
def test_offers_that_fit_or_problems_that_say_why(request: LaunchRequest) -> None:
    try:
        offers = match(request, CATALOG)
    except CatalogMismatch as mismatch:
        assert mismatch.problems
        assert {problem.field for problem in mismatch.problems} <= {
            "provider",
            "region",
            "instance_type",
            "gpu",
            "use_spot",
            "max_hourly_cost",
        }
        return
    assert offers
    asked = {region.casefold() for region in request.regions}
    for offer in offers:
        assert offer.provider == request.provider
        assert not asked or offer.region.casefold() in asked
        assert request.use_spot or not offer.use_spot
        if request.gpu is None:
            assert (offer.instance_type or "").casefold() == (request.instance_type or "").casefold()
        else:
            assert (offer.gpu.casefold(), offer.gpu_count) == ((request.gpu_name or "").casefold(), request.gpu_count)


@settings(deadline=None, max_examples=100)
@given(requests())
def test_a_nearest_value_heals_its_problem(request: LaunchRequest) -> None:
    try:
        match(request, CATALOG)
    except CatalogMismatch as mismatch:
        for problem in mismatch.problems:
            if not problem.nearest:
                continue
            again = LaunchRequest.model_validate(request.model_dump() | {problem.field: problem.nearest[0]})
            try:
                match(again, CATALOG)
            except CatalogMismatch as other:
                assert problem not in other.problems


def test_a_number_of_gpus_that_is_not_offered_should_name_the_siblings_that_are() -> None:
    counts = {(offer.gpu, offer.gpu_count) for offer in AZURE.offers}
    gpu, sibling, count = next(
        (gpu, sibling, count)
        for sibling, count in sorted(counts)
        for gpu in sorted({name for name, _ in counts})
        if gpu != sibling and gpu.split("-")[0] == sibling.split("-")[0] and (gpu, count) not in counts
    )
    near = only(provider="azure", gpu=f"{gpu}:{count}").nearest
    assert {sibling, f"{sibling}:{count}"} & set(near)
    assert any(name.startswith(f"{gpu}:") for name in near)


class Small:
    """A catalog with one listing, whatever the provider."""

    clouds: CloudsByProvider = CATALOG.clouds

    def __init__(self, offers: list[Offer]) -> None:
        self._offers = offers

    def listing(self, provider: str) -> Listing:
        return replace(AZURE, offers=self._offers)


def nearest_of(offers: list[Offer], **fields: Any) -> list[str]:
    with pytest.raises(CatalogMismatch) as caught:
        match(ask(provider="azure", **fields), Small(offers))
    (problem,) = caught.value.problems
    return problem.nearest


def test_the_family_of_a_gpu_should_be_what_stands_before_its_memory() -> None:
    offers = [make_offer(gpu=gpu, gpu_count=count) for gpu, count in (("A100-80GB", 2), ("A100", 8), ("L40-80GB", 8))]
    assert nearest_of(offers, gpu="A100-80GB:8") == ["A100-80GB:2", "A100:8"]


def test_a_misspelled_region_should_name_only_those_that_have_the_machine() -> None:
    offers = [make_offer(instance_type=name, region=f"eastus{name}") for name in "23"]
    assert nearest_of(offers, region="eastus4", instance_type="2") == ["eastus2"]
    assert nearest_of(offers, region="nowhere", instance_type="2") == ["eastus2"]


def test_the_three_cheapest_machines_with_its_gpu_should_be_named_for_another_clouds_machine() -> None:
    kinds = [("dear", "A10", 4.0), ("fair", "A10", 3.0), ("cheap", "A10", 1.0), ("good", "A10", 2.0), ("t4", "T4", 0.1)]
    offers = [make_offer(instance_type=name, gpu=gpu, price_per_hour=price) for name, gpu, price in kinds]
    assert nearest_of(offers, instance_type="g5.xlarge") == ["cheap", "good", "fair"]


def test_a_machine_that_is_rented_with_several_gpus_should_be_asked_for_by_its_gpu() -> None:
    offers = [make_offer(instance_type="n1-standard-8", gpu=gpu) for gpu in ("T4", "V100")]
    with pytest.raises(CatalogMismatch, match="n1-standard-8 is rented with any of these GPUs: T4, V100; set `gpu`"):
        match(ask(instance_type="n1-standard-8"), Small(offers))
