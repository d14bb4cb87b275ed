"""Endpoints by the command and the client."""

import asyncio
from typing import Any, cast

import pytest

from gpulaunch import AsyncGpuLaunch, EndpointSpec, GpuLaunch, NotFoundError
from gpulaunch.cli.exits import Exit
from gpulaunch.models.endpoints import EndpointLaunch
from tests.functional.cli.conftest import Terminal, WorldTransport
from tests.functional.world import SEED, World

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
DEPLOY = ("deploy", "chat", MODEL, "--gpu", "A10", "--region", "eastus")


def test_an_endpoint_should_be_deployed_shown_scaled_and_deleted(gpulaunch: Terminal, world: World) -> None:
    deployed = gpulaunch(*DEPLOY, "--replicas", "2", "--drain-seconds", "60", "--label", "team=x")
    assert deployed.exit_code == Exit.OK
    assert deployed.stdout.startswith("chat  starting  0 of 2 ready  generation 1")
    assert "gpulaunch endpoints chat" in deployed.stderr
    world.run(120)
    listed = gpulaunch("endpoints").stdout
    assert all(word in listed for word in ("chat", "ready", "2/2", MODEL))
    shown = gpulaunch("endpoints", "chat").stdout
    assert shown.count("replica   inst-") == 2
    assert "serving  generation 1, spot" in shown
    assert "Generation 1 serves." in shown
    assert "2 of 3 ready" in gpulaunch("scale", "chat", "3").stdout
    assert gpulaunch("pause", "chat").stdout.startswith("chat  paused")
    assert gpulaunch.json("resume", "chat")["paused"] is False
    assert gpulaunch.json("rollout", "chat")["generation"] == 2
    refused = gpulaunch("undeploy", "chat")
    assert refused.exit_code == Exit.USAGE
    assert "use --yes" in refused.stderr
    deleted = gpulaunch("undeploy", "chat", "--yes", "--wait")
    assert deleted.stdout == "chat  deleted\n"
    assert world.running() == 0
    assert gpulaunch("endpoints", "chat").exit_code == Exit.NOT_FOUND
    assert "No endpoints" in gpulaunch("endpoints").stderr


def test_keys_should_be_made_listed_and_revoked(gpulaunch: Terminal, world: World) -> None:
    gpulaunch(*DEPLOY)
    assert "No keys" in gpulaunch("keys", "chat").stderr
    limits = ("--requests-per-minute", "60", "--tokens-per-minute", "9000", "--tokens-per-month", "5000000")
    made = gpulaunch("keys", "chat", "--add", "search", *limits)
    key = made.stdout.removeprefix("export OPENAI_API_KEY='").removesuffix("'\n")
    assert len(key) > 40
    assert "not shown again" in made.stderr
    listed = gpulaunch("keys", "chat").stdout
    assert "search" in listed
    assert all(limit in listed for limit in ("60", "9,000", "0 of 5,000,000"))
    assert key not in listed
    [one] = gpulaunch.json("keys", "chat")
    assert gpulaunch.json("keys", "chat", "--revoke", one["key_id"]) == []
    assert gpulaunch("keys", "other").exit_code == Exit.NOT_FOUND


def test_every_field_that_a_replica_may_have_should_have_an_option(
    gpulaunch: Terminal, transport: WorldTransport
) -> None:
    gpulaunch.json(
        *DEPLOY, "--region", "westus2", "--provider", "azure", "--no-use-spot", "--no-spot-fallback",
        "--model-source", "hf://a/b", "--max-hourly-cost", "9.5", "--max-lifetime-minutes", "600",
        "--vllm-arg=--max-model-len=8192", "--label", "team=x", "--disk-size", "500", "--force",
    )  # fmt: skip
    [sent] = transport.bodies("PUT")
    body = cast("dict[str, dict[str, Any]]", sent)
    missing = {"instance_type", "chat_template", "name", "job", "idle_minutes", "budget_usd"}
    assert set(body["launch"]) | missing == set(EndpointLaunch.model_fields)


def test_wrong_fields_should_be_listed_by_option(gpulaunch: Terminal) -> None:
    result = gpulaunch("deploy", "chat", MODEL, "--gpu", "A10", "--region", "eastuss")
    assert result.exit_code == Exit.USAGE
    assert "--region: " in result.stderr
    assert "Nearest: " in result.stderr


def test_the_client_should_do_the_same(gpu: GpuLaunch, world: World) -> None:
    made = gpu.deploy("chat", launch=SEED)
    assert (made.status, made.replicas) == ("starting", 1)
    typed = EndpointSpec(launch=EndpointLaunch.model_validate(SEED))
    assert gpu.deploy("chat", typed).generation == 1
    world.run(100)
    assert gpu.endpoint("chat").status == "ready"
    assert gpu.change_endpoint("chat", launch={"use_spot": False}).generation == 2
    assert gpu.roll_out_endpoint("chat").generation == 3
    assert gpu.pause_endpoint("chat").paused
    assert not gpu.resume_endpoint("chat").paused
    assert [one.name for one in gpu.endpoints()] == ["chat"]
    assert gpu.delete_endpoint("chat").status == "deleting"
    world.run(300)
    with pytest.raises(NotFoundError):
        gpu.endpoint("chat")


async def _asynchronously(gpu: AsyncGpuLaunch) -> None:
    assert (await gpu.deploy("chat", launch=SEED)).name == "chat"
    assert (await gpu.endpoint("chat")).generation == 1
    assert len(await gpu.endpoints()) == 1


def test_the_asynchronous_client_should_do_the_same(async_gpu: AsyncGpuLaunch) -> None:
    asyncio.run(_asynchronously(async_gpu))
