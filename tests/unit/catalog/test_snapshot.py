import csv
import hashlib
import json
from pathlib import Path

import pytest

from gpulaunch.models.offers import Offer
from gpulaunch.models.requests import LaunchRequest, ProviderName
from shared.catalog.corrections import ExcludedRow, correct
from shared.catalog.snapshot import DATA, SnapshotCatalog, read_rows, rented_listing, snapshot
from shared.clouds.azure.corrections import CORRECTIONS
from shared.domain.catalog import ANY_REGION, Catalog, NotCataloguedError, Prices
from shared.planning.matching import match

CATALOG: Catalog = snapshot()


def azure(instance_type: str, region: str | None = None) -> list[Offer]:
    return [
        offer
        for offer in CATALOG.listing("azure").offers
        if offer.instance_type == instance_type and region in (None, offer.region)
    ]


def test_the_files_are_those_that_the_snapshot_names() -> None:
    facts = json.loads((DATA / "snapshot.json").read_text("utf-8"))
    for source in facts["sources"]:
        assert hashlib.sha256((DATA / source["file"]).read_bytes()).hexdigest() == source["sha256"]
    listed = {source["file"] for source in facts["sources"]} | {"snapshot.json"}
    assert {path.relative_to(DATA).as_posix() for path in DATA.rglob("*") if path.is_file()} == listed


def test_every_rule_of_the_corrections_is_told() -> None:
    facts = json.loads((DATA / "snapshot.json").read_text("utf-8"))
    with (DATA / "azure" / "vms.csv").open(encoding="utf-8", newline="") as file:
        rows = read_rows(csv.DictReader(file))
    applied: set[str] = set()
    for row in rows:
        outcome = correct(row, CORRECTIONS)
        if isinstance(outcome, ExcludedRow):
            applied.add(outcome.rule)
        elif outcome.gpu_count != row.gpu_count:
            applied.add("gpu-count")
        elif outcome.spot_price != row.spot_price:
            applied.add("no-spot-price")
    assert {"retired", "no-gpu", "gpu-count", "no-spot-price"} <= applied <= set(facts["corrections"])
    assert set(facts["corrections"].values()) <= set(CATALOG.listing("azure").notes)


def test_the_age_is_told_and_no_day_is_made_up() -> None:
    assert "20291d7e" in CATALOG.listing("azure").prices.as_of
    assert "no day known" in CATALOG.listing("azure").prices.as_of


def test_a_whole_row_becomes_an_on_demand_and_a_spot_offer() -> None:
    offers = azure("Standard_NV36ads_A10_v5", "eastus")
    assert [(offer.use_spot, offer.price_per_hour) for offer in offers] == [(False, 3.2), (True, 0.8)]
    assert offers[0] == Offer(
        provider="azure",
        region="eastus",
        instance_type="Standard_NV36ads_A10_v5",
        gpu="A10",
        gpu_count=1,
        gpu_memory_gib=24,
        vcpus=36,
        memory_gib=440,
        use_spot=False,
        price_per_hour=3.2,
    )


def test_every_remaining_price_is_the_source_s() -> None:
    with (DATA / "azure" / "vms.csv").open(encoding="utf-8", newline="") as file:
        source = {(row["InstanceType"], row["Region"]): row for row in csv.DictReader(file)}
    offers = CATALOG.listing("azure").offers
    assert len(offers) == len({offer.key for offer in offers}) == 179
    for offer in offers:
        row = source[str(offer.instance_type), offer.region]
        assert offer.price_per_hour == float(row["SpotPrice" if offer.use_spot else "Price"]) > 0


def test_h100_count_is_corrected_and_only_there() -> None:
    assert {offer.gpu_count for offer in azure("Standard_ND96isr_H100_v5")} == {8}
    assert {offer.gpu_count for offer in azure("Standard_NC80adis_H100_v5")} == {2}


def test_h100_has_no_spot_offer_and_others_do() -> None:
    kinds = {(offer.gpu, offer.use_spot) for offer in CATALOG.listing("azure").offers}
    assert ("H100", True) not in kinds
    assert {("H100", False), ("A10", True), ("A100-80GB", True), ("T4", True)} <= kinds
    assert any("H100 rows have a spot price equal" in note for note in CATALOG.listing("azure").notes)


def test_a_spot_price_is_below_the_on_demand_price() -> None:
    on_demand = {
        (offer.instance_type, offer.region): offer.price_per_hour
        for offer in CATALOG.listing("azure").offers
        if not offer.use_spot
    }
    spot = [offer for offer in CATALOG.listing("azure").offers if offer.use_spot]
    assert spot
    assert all(offer.price_per_hour < on_demand[offer.instance_type, offer.region] for offer in spot)


@pytest.mark.parametrize(
    ("instance_type", "reason"),
    [
        ("Standard_NC6", "2023-09-06"),
        ("Standard_NC24r_Promo", "2023-09-06"),
        ("Standard_NV12_Promo", "2023-09-06"),
        ("Standard_NC12s_v3", "2025-09-30"),
        ("Standard_NV24s_v3", "2026-09-30"),
        ("Standard_NV32as_v4", "2026-09-30"),
        ("Standard_NV6ads_A10_v5", "a sixth of an A10"),
        ("Standard_NV4as_v4", "an eighth"),
        ("Standard_D4s_v5", "no GPU"),
    ],
)
def test_left_out_with_a_reason(instance_type: str, reason: str) -> None:
    assert not azure(instance_type)
    assert instance_type not in CATALOG.listing("azure").instance_types
    assert reason in CATALOG.listing("azure").excluded[instance_type]


def test_what_is_offered_is_not_left_out() -> None:
    assert not set(CATALOG.listing("azure").instance_types) & set(CATALOG.listing("azure").excluded)
    assert "Standard_NC4as_T4_v3" in CATALOG.listing("azure").instance_types


def test_the_lists_are_those_of_the_offers() -> None:
    assert list(CATALOG.listing("azure").gpus) == ["A10", "A100", "A100-80GB", "H100", "T4", "V100-32GB"]
    assert list(CATALOG.listing("azure").regions) == sorted({offer.region for offer in CATALOG.listing("azure").offers})
    assert "westcentralus" not in CATALOG.listing("azure").regions


def test_a_row_without_a_price_gives_no_offer_but_its_type_stays_where_it_has_one() -> None:
    lines = [
        "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,SpotPrice,Region,Generation",
        'Standard_X,T4,1,4.0,28,T4,,,westus,"V1,V2"',
        'Standard_X,T4,1,4.0,28,T4,1.5,,eastus,"V1,V2"',
        'Standard_Y,T4,1,,,T4,,,westus,"V1,V2"',
        'Standard_Z,A10,0.5,18,220,A10,1.6,0.4,eastus,"V1,V2"',
    ]
    listing = rented_listing("azure", read_rows(csv.DictReader(lines)), Prices("snapshot", "now"), [])
    assert [offer.key for offer in listing.offers] == ["azure/eastus/Standard_Xx1/on-demand"]
    assert "Standard_X" not in listing.excluded
    assert "no price" in listing.excluded["Standard_Y"]
    assert "0.5 A10" in listing.excluded["Standard_Z"]


@pytest.mark.parametrize("provider", ["slurm", "kubernetes"])
def test_infrastructure_of_one_s_own_has_any_gpu_at_no_price(provider: ProviderName) -> None:
    offers = CATALOG.listing(provider).offers
    assert {offer.gpu for offer in offers} >= {"A10", "H100", "RTX4090"}
    assert {(offer.price_per_hour, offer.use_spot, offer.gpu_count, offer.region) for offer in offers} == {
        (0.0, False, 1, ANY_REGION)
    }
    assert all(offer.instance_type is None for offer in offers)
    assert list(CATALOG.listing(provider).gpus) == [offer.gpu for offer in offers]
    assert not CATALOG.listing(provider).regions
    assert not CATALOG.listing(provider).instance_types
    assert not CATALOG.listing(provider).excluded
    assert CATALOG.listing(provider).notes


def test_a_price_for_the_slurm_cluster_counts_by_gpu(tmp_path: Path) -> None:
    (tmp_path / "common").mkdir()
    (tmp_path / "slurm").mkdir()
    (tmp_path / "common" / "accelerators.csv").write_bytes((DATA / "common" / "accelerators.csv").read_bytes())
    (tmp_path / "snapshot.json").write_bytes((DATA / "snapshot.json").read_bytes())
    (tmp_path / "slurm" / "pricing.csv").write_text(
        "Region,Zone,PricePerVCPU,PricePerMemoryGB,AcceleratorName,PricePerAccelerator\n"
        ",,0.0,0.0,,0.5\n,,0.0,0.0,H100,2.0\nhost,,0.0,0.0,A10,9.0\n"
    )
    catalog = SnapshotCatalog(tmp_path)
    prices = {offer.gpu: offer.price_per_hour for offer in catalog.listing("slurm").offers}
    assert (prices["H100"], prices["A10"], prices["T4"]) == (2.0, 0.5, 0.5)
    assert {offer.price_per_hour for offer in catalog.listing("kubernetes").offers} == {0.0}
    request = LaunchRequest(model_name="m", provider="slurm", gpu="H100:3")
    assert [offer.price_per_hour for offer in match(request, catalog)] == [6.0]


def test_a_tpu_is_no_gpu() -> None:
    assert not [name for name in CATALOG.listing("kubernetes").gpus if name.startswith("tpu")]


@pytest.mark.parametrize("provider", ["aws", "gcp"])
def test_without_prices_the_question_is_refused(provider: ProviderName) -> None:
    with pytest.raises(NotCataloguedError, match=f"no {provider} prices.*set provider to azure") as caught:
        CATALOG.listing(provider)
    assert caught.value.nearest == ["azure", "kubernetes", "slurm"]


def test_nothing_is_read_before_the_first_question_and_then_once(tmp_path: Path) -> None:
    catalog = SnapshotCatalog(tmp_path)
    for name in ("azure/vms.csv", "snapshot.json"):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((DATA / name).read_bytes())
    first = catalog.listing("azure").offers
    (tmp_path / "azure" / "vms.csv").unlink()
    assert catalog.listing("azure").offers is first


def test_one_for_the_process() -> None:
    assert snapshot() is snapshot()


def test_the_readme_s_prices_should_be_the_catalog_s() -> None:
    offers = [offer for offer in CATALOG.listing("azure").offers if offer.instance_type == "Standard_NV36ads_A10_v5"]
    spot, on_demand = ({o.region: o.price_per_hour for o in offers if o.use_spot is kind} for kind in (True, False))
    text = " ".join((DATA.parents[2] / "README.md").read_text("utf-8").split())
    assert f"costs **{spot['eastus']:.2f} on spot and {on_demand['eastus']:.2f} on demand** in eastus" in text
    ranges = " and ".join(f"{min(each.values()):.2f} to {max(each.values()):.2f}" for each in (spot, on_demand))
    assert f"({ranges} over its seven US regions)" in text
    assert len(spot) == len(on_demand) == 7
    assert "0.30 USD an hour on spot and 1.20 on demand" in text
    more = f"{spot['eastus'] - 0.30:.2f} and {on_demand['eastus'] - 1.20:.2f} more an hour"
    assert f"{more}, {on_demand['eastus'] / 1.20:.1f} times as much" in text
