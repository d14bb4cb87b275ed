"""The client and the command against the whole program in one process, on a simulated clock."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from gpulaunch import AsyncGpuLaunch, GpuLaunch
from gpulaunch.cli.app import app
from gpulaunch.cli.session import Session
from tests.functional.world import ADMIN, World
from tests.twins.clock import START

ADDRESS = "http://app.test"


class WorldTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Carries requests into a world; `lost` answers get lost on their way back, `sent` is every request.

    Of a `dead` worker the host answers with an empty 500 in its place.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.sent: list[httpx.Request] = []
        self.statuses: list[int] = []
        self.lost = 0
        self.dead = False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request)
        path = request.url.raw_path.decode()
        body = request.read()
        answer = self.world.call(request.method, path, token=None, headers=dict(request.headers), raw=body)
        self.statuses.append(answer.status)
        if self.lost:
            self.lost -= 1
            if self.dead:
                return httpx.Response(500, request=request)
            raise httpx.ReadTimeout("lost on the way back", request=request)
        return httpx.Response(answer.status, headers=dict(answer.headers), content=answer.body)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self.handle_request(request)

    def bodies(self, method: str) -> list[object]:
        return [json.loads(request.content) for request in self.sent if request.method == method]


class WorldTime:
    """The world's time as a client's clock; sleeping lets the world run."""

    def __init__(self, world: World) -> None:
        self._world = world

    def clock(self) -> float:
        return (self._world.clock.now() - START).total_seconds()

    def now(self) -> datetime:
        return self._world.clock.now()

    def sleep(self, seconds: float) -> None:
        self._world.run(seconds)

    async def async_sleep(self, seconds: float) -> None:
        self._world.run(seconds)


@pytest.fixture
def transport(world: World) -> WorldTransport:
    return WorldTransport(world)


@pytest.fixture
def gpu(world: World, transport: WorldTransport) -> GpuLaunch:
    time = WorldTime(world)
    return GpuLaunch(ADDRESS, ADMIN, transport=transport, sleep=time.sleep, clock=time.clock)


@pytest.fixture
def async_gpu(world: World, transport: WorldTransport) -> AsyncGpuLaunch:
    time = WorldTime(world)
    return AsyncGpuLaunch(ADDRESS, ADMIN, transport=transport, sleep=time.async_sleep, clock=time.clock)


class Terminal:
    """Runs the command against a world; each run is a process of its own as far as the command can tell."""

    def __init__(self, world: World, transport: WorldTransport, folder: Path) -> None:
        self._transport, self._time = transport, WorldTime(world)
        self.environment = {"GPULAUNCH_URL": ADDRESS, "GPULAUNCH_TOKEN": ADMIN, "XDG_CONFIG_HOME": str(folder)}

    def __call__(self, *words: str, stdin: str | None = None) -> Result:
        session = Session(transport=self._transport, sleep=self._time.sleep, clock=self._time.clock, now=self._time.now)
        environment: dict[str, str | None] = {"GPULAUNCH_URL": None, "GPULAUNCH_TOKEN": None, **self.environment}
        result = CliRunner().invoke(app, list(words), input=stdin, env=environment, obj=session)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        assert "Traceback" not in result.output
        assert ADMIN not in result.output
        return result

    def json(self, *words: str) -> Any:
        result = self(*words, "--json")
        assert result.exit_code == 0, result.output
        assert result.stderr == ""
        return json.loads(result.stdout)

    def lines(self, *words: str) -> list[Any]:
        return [json.loads(line) for line in self(*words, "--json").stdout.splitlines()]


@pytest.fixture
def gpulaunch(world: World, transport: WorldTransport, tmp_path: Path) -> Terminal:
    return Terminal(world, transport, tmp_path)
