"""POST /api/plans: what a launch would do and cost, and launching exactly that."""

from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import pytest

from gpulaunch import ConflictError, GpuLaunch, LaunchRequest
from gpulaunch.models.offers import Offer
from shared.control.launch_planner import LaunchPlanner
from shared.control.mode import ModeChooser
from tests.functional.cli.conftest import ADDRESS, WorldTransport
from tests.functional.world import ADMIN, READER, SEED, Answer, World


@pytest.fixture
def gpu(world: World) -> GpuLaunch:
    return GpuLaunch(ADDRESS, ADMIN, transport=WorldTransport(world))


def plan(world: World, **changes: Any) -> Answer:
    return world.call("POST", "/api/plans", SEED | changes)


def launch(world: World, shown: str, **changes: Any) -> Answer:
    return world.call("POST", "/api/instances/launch", SEED | changes, headers={"If-Match": shown})


def test_a_plan_should_be_what_the_launch_answers(world: World) -> None:
    planned, launched = plan(world).json, world.call("POST", "/api/instances/launch", SEED).json
    for name in ("offers", "estimate", "mode", "mode_reason", "gpu_memory", "warnings"):
        assert planned[name] == launched[name]


def test_a_plan_should_write_nothing_and_be_open_to_readers(world: World) -> None:
    assert world.call("POST", "/api/plans", SEED, token=READER).status == 200
    assert world.call("POST", "/api/plans", SEED, token="wrong").status == 401
    assert world.call("GET", "/api/instances").json["instances"] == []
    assert world.store.calls.count("create") == 0


@pytest.mark.parametrize(
    "wrong", [{"gpu": "A10"}, {"region": "eastsu"}, {"budget_usd": -1}, {"vllm_args": ["--port=1"]}]
)
def test_a_plan_should_be_refused_as_its_launch(world: World, wrong: dict[str, Any]) -> None:
    planned, launched = plan(world, **wrong), world.call("POST", "/api/instances/launch", SEED | wrong)
    assert planned.status == launched.status == 422
    assert planned.json["errors"] == launched.json["errors"]


@pytest.mark.parametrize("mark", ['"{}"', 'W/"{}"', "{}"])
def test_a_plan_that_still_holds_should_be_launched(world: World, mark: str) -> None:
    planned = plan(world)
    assert planned.headers["ETag"] == f'"{planned.json["plan"]}"'
    world.clock.advance(3600)
    assert launch(world, mark.format(planned.json["plan"])).status == 202


@pytest.mark.parametrize(
    "changes", [{"use_spot": False}, {"max_lifetime_minutes": 60}, {"model_name": "other"}, {"idle_minutes": 5}]
)
def test_another_launch_than_the_planned_one_should_be_refused(world: World, changes: dict[str, Any]) -> None:
    refused = launch(world, plan(world).json["plan"], **changes)
    assert (refused.status, refused.json["code"]) == (412, "plan_changed")
    assert world.call("GET", "/api/instances").json["instances"] == []


def test_a_launch_without_a_plan_should_not_be_compared(world: World) -> None:
    for shown in ("", "*"):
        assert launch(world, shown).status == 202


def test_an_offer_that_failed_since_should_change_the_plan(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = plan(world).json
    failed = [Offer.model_validate(planned["offers"][0]).key]
    candidates = replace(world.app.planner.candidates(LaunchRequest.model_validate(SEED)), failed=failed)
    monkeypatch.setattr(LaunchPlanner, "candidates", Mock(return_value=candidates))
    assert launch(world, planned["plan"]).status == 412
    again = plan(world).json
    assert again["offers"] == planned["offers"][::-1]
    assert launch(world, again["plan"]).status == 202


def test_a_simulation_that_became_real_should_not_be_launched(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    planned, simulation = plan(world).json, world.app.preparation.backends("simulation")
    assert planned["mode"] == "simulation"
    monkeypatch.setattr(ModeChooser, "choose", Mock(return_value=("real", "SkyPilot is enabled now.")))
    preparation = replace(world.app.preparation, backends=Mock(return_value=simulation))
    prepared = preparation.prepare(LaunchRequest.model_validate(SEED))
    assert prepared.mode == "real"
    assert not prepared.is_plan(planned["plan"])
    assert prepared.is_plan(prepared.answer().plan)
    assert prepared.is_plan(prepared.plan.digest()), "the form's plan is of no mode"


def test_a_repeated_launch_should_be_answered_as_before_whatever_changed(world: World) -> None:
    headers = {"If-Match": plan(world).json["plan"], "Idempotency-Key": "once"}
    first = world.call("POST", "/api/instances/launch", SEED, headers=headers)
    again = world.call("POST", "/api/instances/launch", SEED, headers=headers | {"If-Match": "older"})
    assert again.json == first.json


def test_the_client_should_plan_and_launch_the_plan(gpu: GpuLaunch) -> None:
    request = LaunchRequest.model_validate(SEED)
    planned = gpu.plan(request)
    assert gpu.launch(request, plan=planned.plan).offers == planned.offers
    assert gpu.plan(**SEED) == gpu.plan(SEED) == planned
    with pytest.raises(ConflictError, match="Plan again"):
        gpu.launch(SEED | {"use_spot": False}, plan=planned.plan)


def test_offers_without_quota_should_be_named_with_the_reason(world: World) -> None:
    prepared = world.app.preparation.prepare(LaunchRequest.model_validate(SEED))
    key = prepared.plan.offers[0].key
    (excluded,) = replace(prepared, excluded={key: "The quota is used up."}).answer().excluded
    assert (excluded.offer, excluded.reason) == (key, "The quota is used up.")
