"""What the deployed app does not need: SkyPilot's package, which is two thirds of the deployment's size."""

import sys
from importlib.metadata import PackageNotFoundError

import pytest

from gpulaunch.models.instances import Phase
from shared.backends.skypilot import http as sky_http
from tests.functional.skypilot_world import SkyPilotWorld
from tests.standins.sky_server import SkyServer


def _absent(name: str) -> str:
    raise PackageNotFoundError(name)


def test_a_deployed_app_should_not_need_skypilot(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "sky"]:
        monkeypatch.delitem(sys.modules, name)
    # What is None there can't be imported.
    monkeypatch.setitem(sys.modules, "sky", None)
    monkeypatch.setattr(sky_http, "version", _absent)
    with SkyServer() as server:
        world = SkyPilotWorld(server)
        instance_id = world.launch()
        world.run(10)
        server.settle()
        world.run(30)
        assert len(server.jobs) == 1
        assert world.show(instance_id)["phase"] == Phase.INSTALLING
        world.delete(instance_id)
        for _ in range(10):
            world.run(10)
            server.settle()
        assert world.show(instance_id)["phase"] == Phase.TERMINATED
        world.sweep()
        world.close()
        assert world.errors == []
