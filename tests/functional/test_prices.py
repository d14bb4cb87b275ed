"""SkyPilot's live prices, from its API server (a stand-in over HTTP) to a launch's answer."""

import logging
from collections.abc import Iterator
from datetime import datetime

import pytest

from gpulaunch.models.requests import ProviderName
from shared.backends.skypilot.client import SkyClient
from shared.backends.skypilot.prices import SkyPrices
from shared.catalog.live import LiveCatalog, PriceList, read_listing
from shared.catalog.price_keeper import PriceKeeper, stored_lists
from shared.catalog.snapshot import snapshot
from shared.storage.base import PRICES, Marker
from tests.functional.world import World
from tests.standins.sky_server import SkyServer, price_list

ASK = "POST /list_accelerators"
HOUR = 3600.0
T4G = {"provider": "aws", "instance_type": "g5g.4xlarge", "region": "us-east-1"}


@pytest.fixture
def server() -> Iterator[SkyServer]:
    with SkyServer() as server:
        yield server


@pytest.fixture
def world(server: SkyServer) -> Iterator[World]:
    world = World()
    client = SkyClient(server.url, "67706c61")
    join(world, client)
    yield world
    client.close()


def join(world: World, client: SkyClient) -> None:
    """A worker process of its own on the world's store: nothing in its memory yet."""
    catalog = LiveCatalog(snapshot(), lambda known: stored_lists(world.store, known), world.clock)
    world.rebuild(catalog=catalog, prices=PriceKeeper(lambda: SkyPrices(client), catalog, world.store))


def later(world: World, seconds: float) -> None:
    """Let time pass, with sweeps in its last minutes only."""
    world.clock.advance(seconds - 120)
    world.run(120)


def source(world: World, provider: str = "azure") -> str:
    answer = world.call("GET", f"/api/catalog?provider={provider}")
    return answer.json["prices_source"] if answer.status == 200 else "none"


def test_the_sweep_asks_once_a_day_and_launches_are_planned_with_what_came(world: World, server: SkyServer) -> None:
    assert (source(world), source(world, "aws")) == ("snapshot", "none")
    world.run(90)
    assert server.calls.count(ASK) == 3
    assert [source(world, provider) for provider in ("azure", "aws", "gcp")] == ["live"] * 3
    day = f"{world.clock.now():%Y-%m-%d}"
    estimate = world.call("POST", "/api/instances/launch", {"model_name": "m", **T4G}).json["estimate"]
    assert (estimate["hourly_usd"], estimate["prices_source"]) == (0.3176, "live")
    assert day in estimate["prices_as_of"]
    later(world, 19 * HOUR)
    assert server.calls.count(ASK) == 3
    later(world, 2 * HOUR)
    assert server.calls.count(ASK) == 6


def test_another_process_has_the_prices_without_asking(world: World, server: SkyServer) -> None:
    world.run(90)
    with_own_memory = SkyClient(server.url, "67706c61")
    join(world, with_own_memory)
    assert source(world, "aws") == "live"
    later(world, HOUR)
    assert server.calls.count(ASK) == 3
    with_own_memory.close()


def test_a_list_that_takes_the_server_long_keeps_nobody_waiting(world: World, server: SkyServer) -> None:
    server.slow_lists = True
    world.run(120)
    assert source(world) == "snapshot"
    assert server.calls.count(ASK) == 3
    server.settle()
    world.run(60)
    assert source(world) == "live"


def test_a_list_that_is_never_made_is_asked_for_again(world: World, server: SkyServer) -> None:
    server.slow_lists = True
    world.run(11 * 60)
    assert server.calls.count(ASK) == 3
    later(world, HOUR)
    assert server.calls.count(ASK) == 6


def test_without_an_answer_the_snapshot_stands_in_and_the_server_is_asked_again(
    world: World, server: SkyServer
) -> None:
    server.answer = 503
    world.run(60)
    assert (source(world), source(world, "aws")) == ("snapshot", "none")
    assert world.launch()
    server.answer = None
    world.run(11 * 60)
    assert (source(world), source(world, "aws")) == ("live", "live")
    server.answer = 503
    later(world, 23 * HOUR)
    assert source(world) == "live"
    later(world, HOUR)
    assert (source(world), source(world, "aws")) == ("snapshot", "none")


def test_a_cloud_without_a_way_to_its_prices_leaves_the_others_alone(world: World, server: SkyServer) -> None:
    del server.price_lists["gcp"]
    world.run(90)
    assert [source(world, provider) for provider in ("azure", "aws", "gcp")] == ["live", "live", "none"]


@pytest.mark.parametrize("nonsense", [{}, {"A10": [["Azure"]]}, [], None])
def test_a_list_that_makes_no_sense_takes_nothing_away(world: World, server: SkyServer, nonsense: object) -> None:
    world.run(90)
    server.price_lists["azure"] = nonsense
    later(world, 22 * HOUR)
    assert server.calls.count(ASK) == 6
    assert source(world) == "live"
    server.price_lists["azure"] = price_list("azure")
    later(world, HOUR)
    assert f"asked {world.clock.now():%Y-%m-%d}" in world.call("GET", "/api/catalog").json["prices_as_of"]


def test_stored_prices_that_can_t_be_read_are_as_none(world: World) -> None:
    now = world.clock.now()
    for key, text in (("azure", "rubbish"), ("oci", "x")):
        world.store.put_marker(Marker(kind=PRICES, key=key, at=now, text=text))
    assert source(world) == "snapshot"
    world.run(90)
    assert source(world) == "live"


def test_a_machine_of_gcp_that_takes_several_gpus_is_asked_for_by_its_gpu(world: World) -> None:
    world.run(90)
    asked = {"model_name": "m", "provider": "gcp"}
    refused = world.call("POST", "/api/instances/launch", {**asked, "instance_type": "n1-highmem-8"})
    assert refused.status == 422
    assert "P4, T4; set `gpu` instead" in refused.json["errors"][0]["message"]
    answer = world.call("POST", "/api/instances/launch", {**asked, "gpu": "T4"})
    assert {(offer["gpu"], offer["instance_type"]) for offer in answer.json["offers"]} == {("T4", "n1-highmem-8")}


def test_a_stored_list_is_read_once_in_a_process(
    world: World, server: SkyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run(90)
    another = SkyClient(server.url, "67706c61")
    join(world, another)
    read: list[str] = []

    def counted(provider: ProviderName, at: datetime, value: object) -> PriceList:
        read.append(provider)
        return read_listing(provider, at, value)

    monkeypatch.setattr("shared.catalog.price_keeper.read_listing", counted)
    for _ in range(3):
        world.clock.advance(301)
        assert source(world) == "live"
    assert sorted(read) == ["aws", "azure", "gcp"]
    another.close()


def test_without_a_server_the_log_says_so_once(
    world: World, server: SkyServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.answer = 503
    with caplog.at_level(logging.INFO, "gpulaunch.prices"):
        world.run(600)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["no live prices for now"]
