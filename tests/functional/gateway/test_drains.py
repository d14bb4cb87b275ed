"""Draining by acknowledgement: the control plane and gateways that share its table, on one clock."""

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from azure.core.exceptions import AzureError

from gateway.answer import NodeAnswer
from gateway.app import Gateway
from gateway.report import EVERY_SECONDS, Reports, row_of
from gateway.snapshot import Endpoint, Node, snapshot_of
from gateway.table import poll, unsealer
from gpulaunch.models.gateways import GatewayReport
from shared.auth import Purpose
from shared.control.replicas import SILENT
from tests.functional.world import SEED, World

CHAT = "/api/endpoints/chat"


class _Nodes:
    async def send(self, node: Node, path: str, headers: Mapping[str, str], body: bytes) -> NodeAnswer:
        raise AssertionError("these tests take places on nodes, and send nothing")


class _Row:
    """A gateway's row in the table of the world."""

    def __init__(self, world: World, gateway_id: str) -> None:
        self._rows = world.endpoints.rows
        self._key = f"gateway|{gateway_id}"
        self.writes = 0
        self.broken = False

    def write(self, report: GatewayReport) -> None:
        if self.broken:
            raise AzureError("the table cannot be reached")
        self.writes += 1
        self._rows[self._key] = (f'W/"{self.writes}"', {name: str(one) for name, one in row_of("", report).items()})

    def remove(self) -> None:
        self._rows.pop(self._key, None)


class Copy:
    """One gateway, which reads and reports when the test lets it."""

    def __init__(self, world: World, gateway_id: str) -> None:
        self._world = world
        self.gateway = Gateway(_Nodes(), lambda: world.clock.now().timestamp())
        self.row = _Row(world, gateway_id)
        self.reports = Reports(self.gateway, gateway_id, self.row, now=world.clock.now)
        self.unseal = unsealer(world.adapters.deriver.gateway_key())

    def read(self) -> list[Mapping[str, Any]]:
        return [row for key, (_, row) in self._world.endpoints.rows.items() if key.startswith("endpoint|")]

    def turn(self) -> None:
        """What `poll` does every two seconds."""
        self.gateway.update(snapshot_of(self.read(), self.unseal, self._world.clock.now()))
        asyncio.run(self.reports.renew())

    @property
    def chat(self) -> Endpoint:
        return self.gateway.snapshot.endpoints["chat"]


def served(world: World, **changes: Any) -> str:
    """The one ready replica of an endpoint."""
    assert world.call("POST", "/api/endpoints", {"name": "chat", "launch": SEED} | changes).status == 201
    world.run(120)
    (member,) = world.call("GET", CHAT).json["members"]
    assert member["state"] == "serving"
    return str(member["instance_id"])


def test_a_replica_should_end_only_once_each_gateway_has_left_it(world: World) -> None:
    served(world)
    first, second = Copy(world, "a"), Copy(world, "b")
    for one in (first, second):
        one.turn()
    lease = first.gateway.balancer.lease(first.chat.nodes)
    assert lease is not None
    world.call("POST", f"{CHAT}/pause")
    world.run(90)
    assert world.running() == 1, "neither has read that it drains"
    first.turn()
    second.turn()
    assert first.gateway.balancer.lease(first.chat.nodes) is None, "it drains"
    world.run(90)
    assert world.running() == 1, "the first one has a request there"
    lease.release()
    first.turn()
    world.run(90)
    assert world.running() == 0


def test_one_gateway_that_has_left_it_should_not_speak_for_another(world: World) -> None:
    served(world)
    first, second = Copy(world, "a"), Copy(world, "b")
    second.turn()
    world.call("POST", f"{CHAT}/pause")
    world.run(10)
    first.turn()
    world.run(120)
    assert world.running() == 1
    second.turn()
    world.run(90)
    assert world.running() == 0


def test_a_gateway_that_is_silent_should_delay_the_end_for_the_whole_time_and_no_longer(world: World) -> None:
    served(world, drain_seconds=300)
    Copy(world, "a").turn()
    world.call("POST", f"{CHAT}/pause")
    world.run(280)
    assert world.running() == 1
    world.run(120)
    assert world.running() == 0


@pytest.mark.parametrize("how", ["it ends", "it is silent for hours"])
def test_a_gateway_that_is_no_more_should_delay_nothing(world: World, how: str) -> None:
    served(world)
    copy = Copy(world, "a")
    copy.turn()
    if how == "it ends":
        asyncio.run(copy.reports.end())
    else:
        world.run(SILENT.total_seconds() + 60)
    world.call("POST", f"{CHAT}/pause")
    world.run(150)
    assert world.running() == 0
    assert world.endpoints.gateways() == {}


def test_a_replica_with_a_notice_should_get_no_new_requests_without_any_sweep(world: World) -> None:
    instance_id = served(world)
    copy = Copy(world, "a")
    copy.turn()
    assert [one.instance_id for one in copy.chat.nodes] == [instance_id]
    bearer = world.adapters.deriver.derive(instance_id, 1, Purpose.NODE)
    headers = {"Authorization": f"Bearer {bearer}"}
    body = {"notice": "eviction", "seconds_left": 25}
    assert world.call("POST", f"/api/nodes/{instance_id}/notice", body, token=None, headers=headers).status < 300
    world.serve()
    copy.turn()
    assert copy.chat.nodes == ()


class TestReports:
    def test_a_gateway_should_be_known_before_it_reads_any_route(self, world: World) -> None:
        copy = Copy(world, "a")

        def read() -> list[Mapping[str, Any]]:
            known.append("a" in world.endpoints.gateways())
            raise _EndError

        known: list[bool] = []
        with pytest.raises(_EndError):
            asyncio.run(poll(copy.gateway, read, copy.unseal, copy.reports))
        assert known == [True]

    def test_a_gateway_that_is_not_known_should_read_no_route(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        copy, slept = Copy(world, "a"), list[float]()
        copy.row.broken = True

        async def wait(seconds: float) -> None:
            slept.append(seconds)
            copy.row.broken = len(slept) < 3

        def read() -> list[Mapping[str, Any]]:
            raise _EndError

        monkeypatch.setattr("gateway.table.asyncio.sleep", wait)
        with pytest.raises(_EndError):
            asyncio.run(poll(copy.gateway, read, copy.unseal, copy.reports))
        assert len(slept) == 3

    def test_each_reading_should_be_followed_by_a_report_of_what_it_brought(self, world: World) -> None:
        served(world)
        copy = Copy(world, "a")

        async def first_turn() -> None:
            polling = asyncio.create_task(poll(copy.gateway, copy.read, copy.unseal, copy.reports))
            async with asyncio.timeout(5):
                while copy.row.writes < 2:
                    await asyncio.sleep(0)
            polling.cancel()

        asyncio.run(first_turn())
        report = world.endpoints.gateways()["a"]
        assert report is not None
        assert report.version_of(copy.chat.endpoint_id) == copy.chat.version

    def test_figures_alone_should_be_written_now_and_then_and_what_a_drain_awaits_at_once(self, world: World) -> None:
        served(world)
        copy = Copy(world, "a")
        copy.turn()
        lease = copy.gateway.balancer.lease(copy.chat.nodes)
        assert lease is not None
        copy.turn()
        assert copy.row.writes == 1
        world.clock.advance(EVERY_SECONDS)
        copy.turn()
        assert copy.row.writes == 2
        world.call("POST", f"{CHAT}/pause")
        world.run(1)
        copy.turn()
        assert copy.row.writes == 3
        lease.release()
        copy.turn()
        assert copy.row.writes == 4
        world.call("POST", f"{CHAT}/resume")
        world.run(1)
        copy.turn()
        assert copy.row.writes == 5, "nothing is under way, and the routes have changed"

    def test_what_could_not_be_written_should_be_written_with_the_next_reading(self, world: World) -> None:
        copy = Copy(world, "a")
        copy.row.broken = True
        copy.turn()
        copy.row.broken = False
        copy.turn()
        assert copy.row.writes == 1

    def test_a_write_that_is_under_way_at_the_end_should_leave_no_report(self, world: World) -> None:
        copy = Copy(world, "a")
        may_write, write = threading.Event(), copy.row.write

        def slow(report: GatewayReport) -> None:
            may_write.wait(5)
            write(report)

        async def story() -> None:
            copy.row.write = slow
            renewing = asyncio.create_task(copy.reports.renew())
            await asyncio.sleep(0)
            renewing.cancel()
            ending = asyncio.create_task(copy.reports.end())
            await asyncio.sleep(0.01)
            may_write.set()
            await ending

        asyncio.run(story())
        assert copy.row.writes == 1
        assert world.endpoints.gateways() == {}

    def test_a_report_should_count_what_happened_and_what_is_under_way(self, world: World) -> None:
        instance_id = served(world)
        copy = Copy(world, "a")
        copy.turn()
        copy.gateway.balancer.lease(copy.chat.nodes)
        copy.gateway.counts.broken_streams["chat"] += 2
        world.clock.advance(EVERY_SECONDS)
        copy.turn()
        report = world.endpoints.gateways()["a"]
        assert report is not None
        assert (report.in_flight, report.endpoints[0].broken_streams) == ({instance_id: 1}, 2)


class _EndError(Exception):
    """Ends an endless loop."""
