from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpulaunch.models.offers import Offer
from gpulaunch.models.requests import LaunchRequest
from shared.catalog.snapshot import snapshot
from shared.domain.catalog import ANY_REGION, CatalogMismatch, FieldProblem
from shared.planning.matching import match, nearest

CATALOG = snapshot()
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


class TestRegion:
    def test_none_is_any(self) -> None:
        assert {offer.region for offer in found(instance_type=SEED_TYPE)} == {
            "eastus",
            "eastus2",
            "northcentralus",
            "southcentralus",
            "westus",
            "westus2",
            "westus3",
        }

    def test_several(self) -> None:
        assert {offer.region for offer in found(instance_type=SEED_TYPE, region=["westus3", "eastus"])} == {
            "eastus",
            "westus3",
        }

    @pytest.mark.parametrize("region", ["EastUS", "EASTUS", "eastus"])
    def test_case_is_put_aside(self, region: str) -> None:
        assert {offer.region for offer in found(instance_type=SEED_TYPE, region=region)} == {"eastus"}

    @pytest.mark.parametrize(
        ("region", "first"),
        [("East-US", "eastus"), ("east_us_2", "eastus2"), ("eastsu", "eastus"), ("westus9", "westus")],
    )
    def test_unknown_names_the_nearest(self, region: str, first: str) -> None:
        problem = only(instance_type=SEED_TYPE, region=region)
        assert problem.field == "region"
        assert region in problem.message
        assert problem.nearest[0] == first

    def test_unknown_and_like_nothing_names_all_that_have_the_machine(self) -> None:
        problem = only(gpu="A100:8", region="xyz")
        assert set(problem.nearest) == {"eastus", "westus2", "southcentralus"}

    def test_unknown_is_a_problem_beside_a_known_one(self) -> None:
        assert only(instance_type=SEED_TYPE, region=["eastus", "nowhere"]).field == "region"

    def test_two_unknown_are_two_entries(self) -> None:
        with pytest.raises(CatalogMismatch) as caught:
            found(instance_type=SEED_TYPE, region=["nowhere", "neverland"])
        assert [problem.field for problem in caught.value.problems] == ["region", "region"]

    def test_right_type_elsewhere_names_where_cheapest_first(self) -> None:
        problem = only(instance_type="Standard_ND96asr_v4", region="westus3")
        assert problem.field == "region"
        assert problem.nearest == ["eastus", "westus2", "southcentralus"]
        assert "Standard_ND96asr_v4 is not offered in westus3" in problem.message

    def test_one_of_several_that_has_it_is_enough(self) -> None:
        offers = found(instance_type="Standard_ND96asr_v4", region=["westus3", "westus2"])
        assert {offer.region for offer in offers} == {"westus2"}

    def test_a_region_with_cpu_machines_only_has_nothing_for_us(self) -> None:
        assert only(instance_type=SEED_TYPE, region="westcentralus").field == "region"


class TestInstanceType:
    def test_case_is_put_aside_and_the_offer_has_the_right_spelling(self) -> None:
        assert {offer.instance_type for offer in found(instance_type=SEED_TYPE.lower())} == {SEED_TYPE}

    @pytest.mark.parametrize("wrong", ["Standard_NV36ads_A10_v4", "NV36ads_A10_v5", "Standard_NV36adsA10_v5"])
    def test_unknown_names_the_nearest(self, wrong: str) -> None:
        problem = only(instance_type=wrong)
        assert problem.field == "instance_type"
        assert problem.nearest[0] == SEED_TYPE

    def test_retired_says_so_and_names_living_ones(self) -> None:
        problem = only(instance_type="standard_nc6s_v3")
        assert "the NCv3 (V100) series was retired on 2025-09-30" in problem.message
        assert not set(problem.nearest) & set(CATALOG.listing("azure").excluded)

    def test_a_part_of_a_gpu_says_so(self) -> None:
        problem = only(instance_type="Standard_NV18ads_A10_v5")
        assert "half an A10" in problem.message
        assert SEED_TYPE in problem.nearest

    def test_no_gpu_says_so(self) -> None:
        assert "no GPU" in only(instance_type="Standard_D4s_v5").message

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
    def test_another_cloud_s_type(self, foreign: str, whose: str, like: str) -> None:
        problem = only(provider="azure", instance_type=foreign)
        assert problem.field == "instance_type"
        assert f"looks like a machine type of {whose}, and the provider is azure" in problem.message
        assert problem.nearest[0] == like

    def test_an_azure_name_on_azure_looks_like_no_other_cloud_s(self) -> None:
        assert "looks like" not in only(instance_type="Standard_NX99").message


class TestGpu:
    def test_one_means_one_whole_gpu(self) -> None:
        assert {(offer.gpu, offer.gpu_count) for offer in found(gpu="A10")} == {("A10", 1)}
        assert {offer.instance_type for offer in found(gpu="A10")} == {SEED_TYPE, "Standard_NV36adms_A10_v5"}

    def test_the_count_is_exact(self) -> None:
        assert {offer.instance_type for offer in found(gpu="A100-80GB:2")} == {"Standard_NC48ads_A100_v4"}

    def test_one_after_a_colon_is_the_same(self) -> None:
        assert found(gpu="A10:1") == found(gpu="A10")

    def test_case_is_put_aside(self) -> None:
        assert found(gpu="a10") == found(gpu="A10")
        assert found(gpu="a100-80gb") == found(gpu="A100-80GB")

    def test_unknown_names_the_nearest(self) -> None:
        problem = only(gpu="V100")
        assert problem.field == "gpu"
        assert problem.nearest[0] == "V100-32GB"

    def test_unknown_and_like_nothing_names_all(self) -> None:
        assert only(gpu="xyzzy").nearest == list(CATALOG.listing("azure").gpus)

    def test_a_count_not_offered_names_other_counts_and_relatives(self) -> None:
        problem = only(gpu="A100")
        assert problem.field == "gpu"
        assert problem.nearest == ["A100:8", "A100-80GB"]
        assert "by 8 on a machine, not by 1" in problem.message

    def test_the_nearest_count_comes_first_and_no_other_gpu_is_taken_for_a_relative(self) -> None:
        assert only(gpu="A10:3").nearest == ["A10:2", "A10"]

    def test_the_corrected_count_holds(self) -> None:
        assert {offer.instance_type for offer in found(gpu="H100:8")} == {"Standard_ND96isr_H100_v5"}
        assert only(gpu="H100:12").nearest[0] == "H100:8"


class TestSpot:
    def test_spot_brings_both_kinds(self) -> None:
        assert {offer.use_spot for offer in found(gpu="A10", use_spot=True)} == {True, False}

    def test_without_fallback_only_spot(self) -> None:
        assert {offer.use_spot for offer in found(gpu="A10", use_spot=True, spot_fallback=False)} == {True}

    @pytest.mark.parametrize("fallback", [True, False])
    def test_without_spot_only_on_demand(self, fallback: bool) -> None:
        assert {offer.use_spot for offer in found(gpu="A10", use_spot=False, spot_fallback=fallback)} == {False}

    def test_no_spot_price_and_no_fallback_is_a_problem(self) -> None:
        problem = only(gpu="H100", use_spot=True, spot_fallback=False)
        assert problem.field == "use_spot"
        assert "from 6.98 USD" in problem.message

    def test_no_spot_price_with_fallback_is_none(self) -> None:
        assert {offer.use_spot for offer in found(gpu="H100", use_spot=True)} == {False}


class TestPrice:
    def test_below_everything_names_the_cheapest(self) -> None:
        problem = only(gpu="A10", region="eastus", max_hourly_cost=0.5)
        assert problem.field == "max_hourly_cost"
        assert f"azure/eastus/{SEED_TYPE}x1/spot, costs 0.8 USD" in problem.message
        assert problem.nearest == ["0.8"]

    def test_spot_ruled_out_does_not_count(self) -> None:
        assert "3.2 USD" in only(gpu="A10", region="eastus", use_spot=False, max_hourly_cost=1).message

    def test_exactly_the_price_is_enough(self) -> None:
        assert found(gpu="A10", region="eastus", max_hourly_cost=0.8)


class TestAllAtOnce:
    def test_region_type(self) -> None:
        assert set(problems(region="nowhere", instance_type="g5.xlarge")) == {"region", "instance_type"}

    def test_region_gpu(self) -> None:
        assert set(problems(region="nowhere", gpu="xyzzy")) == {"region", "gpu"}

    def test_region_price(self) -> None:
        assert set(problems(region="nowhere", gpu="A10", max_hourly_cost=0.1)) == {"region", "max_hourly_cost"}

    def test_wrong_place_and_price(self) -> None:
        assert set(problems(region="westus3", gpu="A100:8", max_hourly_cost=0.1)) == {"region", "max_hourly_cost"}

    def test_no_spot_and_price(self) -> None:
        fields = problems(gpu="H100", region="eastus", use_spot=True, spot_fallback=False, max_hourly_cost=1)
        assert set(fields) == {"use_spot"}


class TestOwnInfrastructure:
    @pytest.mark.parametrize("provider", ["slurm", "kubernetes"])
    def test_any_gpu_at_no_price_and_never_spot(self, provider: str) -> None:
        (offer,) = found(provider=provider, gpu="A10", use_spot=True, spot_fallback=False, max_hourly_cost=0.01)
        assert (offer.region, offer.use_spot, offer.price_per_hour) == (ANY_REGION, False, 0)
        assert (offer.gpu, offer.gpu_count, offer.instance_type, offer.gpu_memory_gib) == ("A10", 1, None, 24)

    def test_any_region_and_count_as_written(self) -> None:
        offers = found(provider="slurm", gpu="h100:3", region=["Host-1", "host-2", "Host-1"])
        assert [offer.key for offer in offers] == [
            "slurm/Host-1/H100x3/on-demand",
            "slurm/host-2/H100x3/on-demand",
        ]

    def test_a_machine_type_is_refused_and_the_gpu_in_it_named(self) -> None:
        problem = only(provider="slurm", instance_type="Standard_NC48ads_A100_v4")
        assert problem.field == "instance_type"
        assert "set `gpu` instead, such as A100-80GB:2" in problem.message
        assert "looks like a machine type of Azure" in problem.message

    def test_an_unheard_of_machine_type_is_refused_as_well(self) -> None:
        problem = only(provider="kubernetes", instance_type="big-one")
        assert problem.message == "kubernetes has no machine types; set `gpu` instead"

    def test_unknown_gpu_names_the_nearest(self) -> None:
        problem = only(provider="slurm", gpu="RTX4091")
        assert problem.field == "gpu"
        assert "RTX4090" in problem.nearest


class TestNotCatalogued:
    @pytest.mark.parametrize("provider", ["aws", "gcp"])
    def test_the_provider_is_the_problem(self, provider: str) -> None:
        problem = only(provider=provider, gpu="A10")
        assert problem.field == "provider"
        assert "set provider to azure" in problem.message
        assert problem.nearest == ["azure", "kubernetes", "slurm"]

    def test_its_own_type_is_no_second_problem(self) -> None:
        assert only(provider="aws", instance_type="g5.xlarge").field == "provider"

    def test_another_cloud_s_type_is(self) -> None:
        fields = problems(provider="aws", instance_type=SEED_TYPE)
        assert set(fields) == {"provider", "instance_type"}
        assert "looks like a machine type of Azure" in fields["instance_type"].message


class TestNearest:
    def test_names_that_people_write(self) -> None:
        regions = CATALOG.listing("azure").regions
        assert nearest("East US", regions)[0] == "eastus"
        assert nearest("East US 2", regions)[0] == "eastus2"
        assert nearest("South Central US", regions)[0] == "southcentralus"

    def test_what_begins_alike_comes_before_what_is_as_long(self) -> None:
        assert nearest("A100", ["A10", "H100", "A100-80GB"])[0] == "A100-80GB"

    def test_nothing_alike_is_empty(self) -> None:
        assert nearest("qqqq", CATALOG.listing("azure").regions) == []
        assert nearest("---", CATALOG.listing("azure").regions) == []

    def test_at_most_as_many_as_asked(self) -> None:
        assert len(nearest("eastus", CATALOG.listing("azure").regions, limit=2)) == 2


REGIONS = st.sampled_from([*CATALOG.listing("azure").regions, "westcentralus", "nowhere", "EastUS", "host"])
TYPES = st.sampled_from(
    [*CATALOG.listing("azure").instance_types, *CATALOG.listing("azure").excluded, "g5.xlarge", "nonsense"]
)
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
