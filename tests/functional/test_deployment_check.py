"""What `azd deploy` ends with: the new deployment is used, and one that cannot be used fails with the reason."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy import check as deployment_check
from deploy.arm import Arm
from deploy.check import LAUNCH, DeploymentCheck, check_deployment
from deploy.secrets import DEPLOY_TOKENS, SetupError
from tests.functional.cli.conftest import ADDRESS, WorldTime, WorldTransport
from tests.functional.skypilot_world import SkyPilotWorld
from tests.functional.world import World, settings
from tests.standins.azure import AzureServer, ResourceManager, StaticCredential
from tests.standins.sky_server import SkyServer
from tests.twins.clock import START
from tests.unit.deploy.test_secrets import PLACE, REFERENCES

TOKEN = "deploy-token-of-the-tests"


@pytest.fixture
def simulation() -> Iterator[World]:
    made = World(given=settings(GPULAUNCH_DEPLOY_TOKENS=TOKEN))
    yield made
    assert made.errors == []


@pytest.fixture
def real() -> Iterator[SkyPilotWorld]:
    with SkyServer() as server:
        made = SkyPilotWorld(server, GPULAUNCH_DEPLOY_TOKENS=TOKEN)
        yield made
        made.close()
        assert made.errors == []


def _check(world: World, transport: httpx.BaseTransport | None = None, token: str = TOKEN) -> DeploymentCheck:
    time = WorldTime(world)
    http = httpx.Client(base_url=ADDRESS, transport=transport or WorldTransport(world))
    return DeploymentCheck(http, token, time.sleep, time.now)


def test_a_simulated_deployment_should_launch_and_end_an_instance(simulation: World) -> None:
    check = _check(simulation)
    assert check.answers() == "version 0.1.0 answers"
    assert check.sweeps() == "it sweeps"
    assert check.launches() == "a simulated launch became ready and ended"
    (made,) = simulation.call("GET", "/api/instances").json["instances"]
    assert (made["phase"], made["model_name"]) == ("terminated", LAUNCH["model_name"])
    assert simulation.running() == 0


def test_a_real_deployment_should_plan_and_launch_nothing(real: SkyPilotWorld) -> None:
    assert _check(real).launches().startswith("a real launch can be made")
    assert real.call("GET", "/api/instances").json["instances"] == []
    assert [request.name for request in real.server.requests.values()].count("sky.launch") == 0


def test_a_token_of_a_real_deployment_should_launch_nothing(real: SkyPilotWorld) -> None:
    answer = real.call("POST", "/api/instances/launch", LAUNCH, token=TOKEN)
    assert answer.status == 403


def test_a_server_that_wakes_up_should_be_waited_for(real: SkyPilotWorld) -> None:
    real.server.asleep = 12
    assert _check(real).launches().startswith("a real launch can be made")
    assert real.server.asleep == 0


def test_a_server_that_is_not_there_should_fail_the_deployment(real: SkyPilotWorld) -> None:
    real.server.__exit__(None, None, None)
    try:
        with pytest.raises(SetupError, match=r"no launch is possible after 720 s: 503 .*SkyPilot"):
            _check(real).launches()
    finally:
        real.server.__enter__()


def test_an_app_that_has_not_read_the_token_should_fail_the_deployment(simulation: World) -> None:
    transport = WorldTransport(simulation)
    with pytest.raises(SetupError, match="does not read deploy-tokens from its vault: 401 The token is not known"):
        _check(simulation, transport, token="another-token-of-the-tests").launches()
    # Ten would raise the alert for many wrong tokens, and make this address wait.
    assert transport.statuses == [401] * 6
    assert simulation.clock.now() - START >= timedelta(minutes=4)


def test_a_gateway_that_is_not_ready_should_fail_the_deployment_and_see_no_token(simulation: World) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200 if len(seen) > 3 else 503, request=request)

    check = _check(simulation, httpx.MockTransport(answer))
    assert check.serves("https://gateway.test") == "the gateway is ready"
    assert {str(request.url) for request in seen} == {"https://gateway.test/readyz"}
    assert [request for request in seen if "authorization" in request.headers] == []
    never = httpx.MockTransport(lambda request: httpx.Response(503, request=request))
    with pytest.raises(SetupError, match="the gateway is not ready after 180 s: 503"):
        _check(simulation, never).serves("https://gateway.test")


def test_an_app_that_fails_every_call_should_fail_the_deployment(simulation: World) -> None:
    """As one does that was built for another Python."""
    broken = httpx.MockTransport(lambda request: httpx.Response(500, request=request))
    with pytest.raises(SetupError, match=r"does not answer as version 0\.1\.0 after 180 s: 500 without a body"):
        _check(simulation, broken).answers()


def test_another_version_should_be_waited_out_and_then_fail(simulation: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment_check, "VERSION", "0.2.0")
    transport = WorldTransport(simulation)
    with pytest.raises(SetupError, match=r"as version 0\.2\.0"):
        _check(simulation, transport).answers()
    assert len(transport.sent) == 37


def test_an_app_that_sweeps_no_more_should_fail_the_deployment(simulation: World) -> None:
    simulation.run(60)
    check = _check(simulation)
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        simulation.run(seconds, sweeping=False)

    check = DeploymentCheck(
        httpx.Client(base_url=ADDRESS, transport=WorldTransport(simulation)), TOKEN, sleep, simulation.clock.now
    )
    with pytest.raises(SetupError, match="no sweep has ended for 150 s"):
        check.sweeps()
    assert sum(slept) == 150


def test_a_setting_that_stops_the_app_should_be_shown(simulation: World) -> None:
    problem = {"status": 503, "detail": "GPULAUNCH_MASTER_KEY is a reference that was not resolved."}
    stopped = httpx.MockTransport(lambda request: httpx.Response(503, json=problem, request=request))
    with pytest.raises(SetupError, match="503 GPULAUNCH_MASTER_KEY is a reference that was not resolved"):
        _check(simulation, stopped).answers()


@pytest.fixture
def manager() -> ResourceManager:
    return ResourceManager()


@pytest.fixture
def arm(manager: ResourceManager, tmp_path: Path) -> Iterator[Arm]:
    with AzureServer(manager, tmp_path) as server:
        yield Arm(StaticCredential(), server.endpoint, str(server.ca))


class _Vault(WorldTransport):
    """An app that reads its token from the vault at each call."""

    def __init__(self, world: World, manager: ResourceManager) -> None:
        super().__init__(world)
        self._manager = manager
        self.tokens: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        token = self._manager.account.secrets[f"kv-demo/{DEPLOY_TOKENS}"]
        self.tokens.append(token)
        self.world.rebuild(settings=settings(GPULAUNCH_DEPLOY_TOKENS=token))
        return super().handle_request(request)


def _run(world: World, manager: ResourceManager, arm: Arm) -> tuple[list[str], _Vault]:
    transport, time = _Vault(world, manager), WorldTime(world)
    http = httpx.Client(base_url=ADDRESS, transport=transport)
    lines: list[Any] = []
    try:
        lines += check_deployment(arm, PLACE, http, time.sleep, time.now)
    except SetupError as error:
        lines.append(error)
    return lines, transport


def test_the_token_should_be_worthless_afterwards(simulation: World, manager: ResourceManager, arm: Arm) -> None:
    lines, transport = _run(simulation, manager, arm)
    assert len(lines) == 3
    (used,) = set(transport.tokens)
    left = manager.account.secrets[f"kv-demo/{DEPLOY_TOKENS}"]
    assert left != used
    assert [call for call in manager.calls if call.endswith("/refresh")] == [f"POST {REFERENCES}/refresh"] * 2
    assert simulation.call("GET", "/api/config", token=used).status == 200
    simulation.rebuild(settings=settings(GPULAUNCH_DEPLOY_TOKENS=left))
    assert simulation.call("GET", "/api/config", token=used).status == 401


def test_vaults_that_cannot_be_read_should_end_the_check_and_the_token(
    simulation: World, manager: ResourceManager, arm: Arm
) -> None:
    manager.account.references = {"GPULAUNCH_MASTER_KEY": "SecretNotFound"}
    lines, transport = _run(simulation, manager, arm)
    assert [str(line) for line in lines] == [
        "the app cannot read from the vaults: GPULAUNCH_MASTER_KEY: SecretNotFound"
    ]
    assert transport.sent == []
    assert manager.calls[-1] == f"POST {REFERENCES}/refresh"
    assert manager.count(f"PUT .*/{DEPLOY_TOKENS}$") == 2
