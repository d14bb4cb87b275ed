import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

import pytest

from gpulaunch.models.offers import Offer
from gpulaunch.models.requests import LaunchRequest, ProviderName
from shared.catalog.live import KEPT, ListingError, LiveCatalog, PriceList, pack, read_listing, unpack
from shared.catalog.snapshot import snapshot
from shared.domain.catalog import NotCataloguedError
from shared.planning.matching import match
from tests.standins.sky_server import price_list
from tests.twins.clock import START, ManualClock


def listed(provider: ProviderName, value: object = None) -> PriceList:
    return read_listing(provider, START, price_list(provider) if value is None else value)


def offers(provider: ProviderName, value: object = None) -> list[Offer]:
    return list(listed(provider, value).listing.offers)


def test_a_real_server_s_azure_list_gives_the_offers_of_the_file_that_it_read() -> None:
    assert sorted(offers("azure"), key=lambda one: one.key) == sorted(
        snapshot().listing("azure").offers, key=lambda one: one.key
    )


def test_the_known_oddities_are_corrected_as_in_the_snapshot() -> None:
    raw = price_list("azure")["H100"]
    assert {row[3] for row in raw if row[1] == "Standard_ND96isr_H100_v5"} == {12.0}
    assert all(row[7] == row[8] for row in raw)
    h100 = [offer for offer in offers("azure") if offer.gpu == "H100"]
    assert {offer.gpu_count for offer in h100 if offer.instance_type == "Standard_ND96isr_H100_v5"} == {8}
    assert {offer.use_spot for offer in h100} == {False}


def test_aws_has_whole_gpus_with_both_prices_and_no_parts() -> None:
    found = {offer.key: offer for offer in offers("aws")}
    assert sorted(found) == [
        "aws/us-east-1/g5g.16xlargex2/on-demand",
        "aws/us-east-1/g5g.16xlargex2/spot",
        "aws/us-east-1/g5g.4xlargex1/on-demand",
        "aws/us-east-1/g5g.4xlargex1/spot",
        "aws/us-west-2/g5g.4xlargex1/on-demand",
        "aws/us-west-2/g5g.4xlargex1/spot",
    ]
    one = found["aws/us-west-2/g5g.4xlargex1/spot"]
    assert (one.gpu, one.vcpus, one.memory_gib, one.gpu_memory_gib, one.price_per_hour) == ("T4g", 16, 32, 16, 0.3141)
    assert "vLLM needs whole GPUs" in listed("aws").listing.excluded["g6f.2xlarge"]


def test_gcp_has_gpus_in_machines_and_no_tpus() -> None:
    found = [offer for offer in offers("gcp") if not offer.use_spot]
    assert [offer.key for offer in found] == [
        "gcp/us-central1/a2-highgpu-1g+A100x1/on-demand",
        "gcp/asia-southeast1/a2-highgpu-1g+A100x1/on-demand",
        "gcp/us-central1/n1-highmem-8+P4x1/on-demand",
        "gcp/us-central1/n1-highmem-8+T4x1/on-demand",
    ]


def test_memory_that_we_don_t_know_is_taken_from_the_list() -> None:
    row = ["AWS", "p6-b200.48xlarge", "B200", 8.0, 192.0, 178.5, 2048.0, 113.9, None, "us-east-1"]
    assert {offer.gpu_memory_gib for offer in offers("aws", {"B200": [row]})} == {178.5}


GOOD: list[Any] = ["AWS", "g6.xlarge", "L4", 1.0, 4.0, 22.3, 16.0, 0.8, 0.3, "us-east-1"]


def changed(place: int, value: object) -> list[Any]:
    return [*GOOD[:place], value, *GOOD[place + 1 :]]


@pytest.mark.parametrize(
    "row",
    [
        changed(7, None),
        changed(7, 0.0),
        changed(7, -1.0),
        changed(7, float("nan")),
        changed(7, 1e9),
        changed(3, float("nan")),
        changed(3, 0.0),
        changed(1, "g6 xlarge; rm"),
        changed(1, None),
        changed(2, "<b>L4</b>"),
        changed(9, ""),
    ],
)
def test_a_row_that_makes_no_sense_is_left_out_and_others_stay(row: list[Any]) -> None:
    other = changed(9, "us-west-2")
    assert {offer.region for offer in offers("aws", {"L4": [row, other]})} == {"us-west-2"}


@pytest.mark.parametrize("price", [None, 0.0, -0.1, float("nan"), 0.8, 1e9])
def test_a_spot_price_that_makes_no_sense_is_none(price: float | None) -> None:
    assert [offer.use_spot for offer in offers("aws", {"L4": [changed(8, price)]})] == [False]


@pytest.mark.parametrize(
    "value",
    [None, [], "x", {}, {"L4": []}, {"L4": [GOOD[:9]]}, {"L4": [[*GOOD, 1]]}, {"L4": [changed(3, "one")]}, {"L4": {}}],
)
def test_a_list_of_another_shape_or_without_offers_is_not_believed(value: object) -> None:
    with pytest.raises(ListingError):
        read_listing("aws", START, value)


def test_what_is_packed_is_small_and_comes_back() -> None:
    value = price_list("azure")
    text = pack(value)
    assert unpack(text) == value
    assert len(text) < len(json.dumps(value)) / 4


@pytest.mark.parametrize("text", ["", "%", "AAAA", pack({"L4": [GOOD]})[:-8]])
def test_what_is_stored_in_pieces_is_said_to_be_unreadable(text: str) -> None:
    with pytest.raises(ListingError):
        unpack(text)


class Shelf:
    """Stands for the table."""

    def __init__(self, *lists: PriceList) -> None:
        self.lists = list(lists)
        self.reads = 0

    def __call__(self, known: Mapping[ProviderName, PriceList]) -> Iterable[PriceList]:
        self.reads += 1
        return [one for one in self.lists if one is not known.get(one.provider)]


def test_a_live_list_is_shown_for_a_day_and_then_the_snapshot() -> None:
    clock = ManualClock()
    cheap = listed(
        "azure", {"A10": [["Azure", "Standard_NV36ads_A10_v5", "A10", 1, 36, None, 440, 3.0, 0.5, "eastus"]]}
    )
    catalog = LiveCatalog(snapshot(), Shelf(cheap), clock)
    assert [offer.price_per_hour for offer in catalog.listing("azure").offers] == [3.0, 0.5]
    assert catalog.listing("azure").prices.source == "live"
    assert f"{START:%Y-%m-%d %H:%M} UTC" in catalog.listing("azure").prices.as_of
    assert catalog.listing("azure").regions == ["eastus"]
    clock.advance(KEPT.total_seconds() - 1)
    assert catalog.listing("azure").prices.source == "live"
    clock.advance(1)
    assert catalog.listing("azure").prices == snapshot().listing("azure").prices
    assert catalog.listing("azure").offers == snapshot().listing("azure").offers
    assert catalog.listing("azure").notes == snapshot().listing("azure").notes


def test_a_cloud_that_the_snapshot_lacks_is_there_while_its_list_is() -> None:
    clock = ManualClock()
    shelf = Shelf()
    catalog = LiveCatalog(snapshot(), shelf, clock)
    with pytest.raises(NotCataloguedError, match="has given no aws prices in the last day"):
        catalog.listing("aws")
    catalog.take(listed("aws"))
    assert catalog.listing("aws").gpus == ["T4g"]
    assert catalog.listing("aws").instance_types == ["g5g.16xlarge", "g5g.4xlarge"]
    request = LaunchRequest(model_name="m", provider="aws", gpu="T4g:2")
    assert {offer.instance_type for offer in match(request, catalog)} == {"g5g.16xlarge"}


def test_what_another_process_stored_is_seen_within_five_minutes_and_not_read_at_every_question() -> None:
    clock = ManualClock()
    shelf = Shelf()
    catalog = LiveCatalog(snapshot(), shelf, clock)
    for _ in range(20):
        assert catalog.listed("aws") is None
    assert shelf.reads == 1
    shelf.lists = [listed("aws")]
    clock.advance(timedelta(minutes=5).total_seconds())
    assert catalog.listed("aws") is shelf.lists[0]


def test_who_comes_while_the_table_is_read_does_not_wait() -> None:
    clock = ManualClock()

    def load(known: Mapping[ProviderName, PriceList]) -> Iterable[PriceList]:
        # The lock is held: whoever comes now takes what there is.
        assert catalog.listed("aws") is known.get("aws") is None
        return [listed("aws")]

    catalog = LiveCatalog(snapshot(), load, clock)
    assert catalog.listed("aws") is not None
