"""Two deployments on one SkyPilot server, which lists everybody's clusters to everybody."""

from collections.abc import Iterator

import pytest

from shared import app as runtime
from tests.functional.skypilot_world import SkyPilotWorld
from tests.standins.sky_server import SkyServer
from tests.twins.factories import DEPLOYMENT, OTHER_DEPLOYMENT


@pytest.fixture
def server() -> Iterator[SkyServer]:
    with SkyServer() as made:
        yield made
    runtime.use(None)


@pytest.mark.parametrize("labelled", [True, False])
def test_a_fresh_table_should_touch_no_cluster_of_the_server(server: SkyServer, labelled: bool) -> None:
    world = SkyPilotWorld(server)
    instance_id = world.launch()
    for _ in range(3):
        world.run(10)
        server.settle()
    (node,) = server.nodes.values()
    assert node.labels["gpulaunch-deployment"] == DEPLOYMENT
    if not labelled:
        node.labels.clear()
    stranger = SkyPilotWorld(server, deployment=OTHER_DEPLOYMENT)
    stranger.clock.set(world.clock.now())
    for _ in range(60):
        stranger.run(60)
        server.settle()
    assert list(server.nodes) == [node.name]
    assert not any(call.endswith("/down") for call in server.calls)
    (seen,) = stranger.call("GET", "/api/garbage").json["foreign"]
    assert seen["deployment"] == (DEPLOYMENT if labelled else None)
    assert (world.errors, stranger.errors) == ([], [])
    assert instance_id[5:] == seen["cluster_name"][3:29].upper()
    for one in (world, stranger):
        one.close()
