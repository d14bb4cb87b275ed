"""An API server that is scaled to zero: a launch waits for it, a teardown wakes it, and nothing else keeps it awake."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.backends.skypilot import client as sky_client
from shared.backends.skypilot import http as sky_http
from shared.storage.base import ORPHAN, Marker
from tests.functional.skypilot_world import SkyPilotWorld
from tests.functional.world import SEED
from tests.standins.azure.subscription import serve_subscription
from tests.standins.http import HttpServer, Response
from tests.standins.sky_server import SkyServer


@pytest.fixture
def world() -> Iterator[SkyPilotWorld]:
    with SkyServer() as server:
        made = SkyPilotWorld(server)
        yield made
        made.close()
        assert made.errors == []


def test_a_launch_should_be_accepted_and_wait_until_the_server_is_awake(world: SkyPilotWorld) -> None:
    world.server.asleep = 12
    answer = world.call("POST", "/api/instances/launch", SEED)
    assert answer.status == 202
    assert answer.json["mode"] == "real"
    assert "waking up" in answer.json["mode_reason"]
    instance_id = answer.json["instance_id"]
    world.run(30)
    assert world.show(instance_id)["phase"] == "validating"
    world.run(60)
    assert world.server.asleep == 0
    assert world.show(instance_id)["phase"] == "provisioning"
    assert [request.name for request in world.server.requests.values()].count("sky.launch") == 1


def test_a_server_that_never_wakes_should_fail_the_launch_with_its_reason(world: SkyPilotWorld) -> None:
    world.server.asleep = 10**9
    instance_id = world.launch()
    world.run(600)
    assert world.show(instance_id)["phase"] == "validating"
    world.run(1200)
    shown = world.show(instance_id)
    assert (shown["phase"], shown["ending"]["reason"]) == ("failed", "provider_unavailable")


def test_a_server_that_is_not_there_should_refuse_the_launch_at_once(world: SkyPilotWorld) -> None:
    address = world.server.url
    world.server.__exit__(None, None, None)
    try:
        answer = world.call("POST", "/api/instances/launch", SEED)
        assert (answer.status, answer.json["code"]) == (503, "skypilot_unavailable"), address
    finally:
        world.server.__enter__()


@pytest.mark.parametrize(
    ("body", "health"), [(b'{"status": "waking"}', "waking"), (b'{"status": "healthy"}', "healthy"), (b"", "away")]
)
def test_a_server_that_waits_for_its_predecessor_should_be_waited_for(body: bytes, health: str) -> None:
    """It answers in the server's place, so that the update of a container goes on (infra/skypilot/alone.py)."""
    with HttpServer(lambda _: Response(200, body)) as server:
        client = sky_client.SkyClient(server.url, "67706c61")
        try:
            assert client.health() == health
        finally:
            client.close()


@pytest.mark.parametrize("answers", ["late", "never", "no-one"])
def test_a_call_that_somebody_takes_should_be_told_from_one_that_nobody_takes(
    monkeypatch: pytest.MonkeyPatch, answers: str
) -> None:
    """A gateway holds the call of a server that it starts, and says at last that it took too long."""
    monkeypatch.setattr(sky_http, "_CONNECT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if answers == "no-one":
            listener.close()

        def serve() -> None:
            with listener.accept()[0] as call:
                call.recv(4096)
                if answers == "late":
                    call.sendall(b"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n")
                call.recv(4096)

        server = threading.Thread(target=serve, daemon=True)
        if answers != "no-one":
            server.start()
        client = sky_client.SkyClient(f"http://127.0.0.1:{port}", "67706c61")
        try:
            assert client.health() == ("away" if answers == "no-one" else "waking")
        finally:
            client.close()


def test_a_teardown_should_wake_the_server_and_be_repeated(world: SkyPilotWorld) -> None:
    instance_id = world.launch()
    world.run(10)
    world.server.settle()
    world.run(20)
    world.server.asleep = 6
    world.delete(instance_id)
    world.run(10)
    assert world.show(instance_id)["phase"] == "terminating"
    for _ in range(20):
        world.run(10)
        world.server.settle()
    assert world.show(instance_id)["phase"] == "terminated"
    assert not world.server.nodes


def test_where_nothing_lives_the_server_should_be_left_alone(world: SkyPilotWorld, tmp_path: Path) -> None:
    for azure in serve_subscription(tmp_path, world.clock):
        world.rebuild(clouds={"azure": azure.azure})
        # Past the ten minutes in which the books are looked at, six hours apart.
        world.clock.set(world.clock.now().replace(hour=9, minute=0, second=0))
        world.swept_at = world.clock.now()
        world.server.calls.clear()
        asked = len(azure.manager.calls)
        world.run(2 * 3600)
        assert world.server.calls == []
        assert len(azure.manager.calls) > asked, "Azure itself is listed all the time"
        world.run(3600 + 600)
        assert "POST /status" in world.server.calls, "at noon the books are looked at all the same"


def test_an_orphan_or_a_live_instance_should_have_the_books_looked_at(world: SkyPilotWorld, tmp_path: Path) -> None:
    for azure in serve_subscription(tmp_path, world.clock):
        world.rebuild(clouds={"azure": azure.azure})
        world.clock.set(world.clock.now().replace(hour=9, minute=0, second=0))
        world.swept_at = world.clock.now()
        world.server.calls.clear()
        world.store.put_marker(Marker(kind=ORPHAN, key="gl-x", at=world.clock.now(), text="real"))
        world.run(300)
        assert "POST /status" in world.server.calls
