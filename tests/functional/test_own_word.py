"""A node answers for itself: whatever else answers on its address is noticed, and so is a node that does nothing."""

from collections.abc import Iterator

import pytest

from shared import app as runtime
from shared.domain.node import NodePhase, NodeStatus
from shared.domain.provider import NodeState, NodeView, ProviderUnavailableError, RecordsLostError
from shared.lifecycle.timeouts import Timeouts
from tests.functional.scripted import NodeWorld

LIMITS = Timeouts()
NOTICED = LIMITS.silent + LIMITS.silence_observed + 60
"""Seconds within which the silence of a node is acted upon."""


@pytest.fixture(params=["push", "pull"])
def world(request: pytest.FixtureRequest) -> Iterator[NodeWorld]:
    made = NodeWorld("https://app.example.com" if request.param == "push" else "")
    yield made
    runtime.use(None)
    assert made.errors == []


def to_ready(world: NodeWorld) -> str:
    if world.given.public_url is not None:
        return world.to_ready(use_spot=False, max_lifetime_minutes=1000)
    instance_id = world.launch(use_spot=False, max_lifetime_minutes=1000)
    world.run(5)
    world.scripted.view, world.scripted.alive = NodeView(state=NodeState.UP, address="203.0.113.7"), True
    world.scripted.account = NodeStatus(phase=NodePhase.SERVING, port=8000)
    world.run(60)
    assert world.show(instance_id)["phase"] == "ready"
    return instance_id


def silence(world: NodeWorld, *, vouched: bool = False) -> None:
    """The agent is heard no more, while something on its address answers as vLLM does."""
    world.beating.clear()
    world.scripted.account = None
    if not vouched:
        world.scripted.view = NodeView(state=NodeState.PENDING)


def test_a_stranger_on_the_address_should_be_noticed(world: NodeWorld) -> None:
    instance_id = to_ready(world)
    silence(world)
    world.scripted.running = 3
    world.run(NOTICED)
    shown = world.show(instance_id)
    assert shown["recoveries"] == 1
    assert "its agent has been silent since" in shown["attempts"][0]["failure"]["message"]


def test_a_machine_that_runs_without_its_agent_should_be_shown_at_once_and_given_up_later(world: NodeWorld) -> None:
    instance_id = to_ready(world)
    silence(world, vouched=True)
    world.run(NOTICED)
    shown = world.show(instance_id)
    assert (shown["phase"], shown["health"]["state"]) == ("ready", "unhealthy")
    world.run(LIMITS.silence_vouched)
    assert world.show(instance_id)["recoveries"] == 1


def test_a_node_that_is_heard_should_keep_its_instance_whatever_it_does(world: NodeWorld) -> None:
    instance_id = to_ready(world)
    world.run(3 * 3600)
    shown = world.show(instance_id)
    assert (shown["phase"], shown["recoveries"]) == ("ready", 0)


def test_a_silent_node_that_the_provider_calls_deleted_should_be_given_up_at_the_first_probe(world: NodeWorld) -> None:
    instance_id = to_ready(world)
    silence(world)
    world.scripted.view = NodeView(state=NodeState.ABSENT)
    world.run(LIMITS.silent - LIMITS.heard_every - 30)
    assert world.show(instance_id)["recoveries"] == 0
    world.run(LIMITS.heard_every + 60)
    shown = world.show(instance_id)
    assert (shown["recoveries"], shown["attempts"][0]["failure"]["reason"]) == (1, "node_lost")


def test_a_node_that_is_back_in_time_should_be_forgiven(world: NodeWorld) -> None:
    instance_id = to_ready(world)
    beating, account, view = dict(world.beating), world.scripted.account, world.scripted.view
    silence(world)
    world.run(LIMITS.silent + 60)
    world.beating, world.scripted.account, world.scripted.view = beating, account, view
    world.run(3600)
    shown = world.show(instance_id)
    assert (shown["phase"], shown["recoveries"]) == ("ready", 0)


def test_an_outage_of_the_app_should_cost_no_node(world: NodeWorld) -> None:
    instance_id = to_ready(world)
    beating, account, view = dict(world.beating), world.scripted.account, world.scripted.view
    silence(world)
    world.clock.advance(840)
    world.swept_at = world.clock.now()
    world.run(90)  # probes are back at once, the agents' next tries come later
    world.beating, world.scripted.account, world.scripted.view = beating, account, view
    world.run(300)
    assert world.show(instance_id)["recoveries"] == 0


def test_a_busy_node_whose_tokens_stand_still_should_be_given_up(world: NodeWorld) -> None:
    instance_id = to_ready(world)
    world.scripted.tokens, world.scripted.running = 70.0, 2
    world.run(LIMITS.stalled - 60)
    assert world.show(instance_id)["recoveries"] == 0
    world.run(LIMITS.silence_observed + 150)
    shown = world.show(instance_id)
    assert shown["recoveries"] == 1
    assert "made any progress for 10 minutes" in shown["attempts"][0]["failure"]["message"]


@pytest.mark.parametrize(("running", "moves"), [(2, True), (0, False)])
def test_a_node_that_works_or_has_nothing_to_do_should_be_kept(world: NodeWorld, running: int, moves: bool) -> None:
    instance_id = to_ready(world)
    world.scripted.running = running
    for count in range(40):
        world.scripted.tokens = float(count) if moves else 70.0
        world.run(60)
    shown = world.show(instance_id)
    assert (shown["phase"], shown["recoveries"]) == ("ready", 0)


def test_an_agent_that_never_reports_should_not_cost_the_whole_limit_of_its_phase(world: NodeWorld) -> None:
    instance_id = world.launch(use_spot=False)
    world.run(5)
    world.scripted.view = NodeView(state=NodeState.UP, address="203.0.113.7")
    world.run(LIMITS.first_report - 60)
    assert len(world.show(instance_id)["attempts"]) == 1
    world.run(120)
    failure = world.show(instance_id)["attempts"][0]["failure"]
    assert (failure["reason"], "its agent has not reported" in failure["message"]) == ("install_timeout", True)


def test_a_node_that_reports_should_have_the_whole_limit_of_its_phase(world: NodeWorld) -> None:
    instance_id = world.launch(use_spot=False)
    world.run(5)
    world.scripted.view = NodeView(state=NodeState.UP, address="203.0.113.7")
    world.scripted.account = NodeStatus(phase=NodePhase.INSTALLING)
    if world.given.public_url is not None:
        assert world.node(instance_id, "progress", {"phase": "installing"}).json["renewed"]
    world.run(LIMITS.installing - 120)
    assert len(world.show(instance_id)["attempts"]) == 1


def test_a_node_that_reports_should_outlive_a_provider_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    world = NodeWorld()
    instance_id = world.launch(use_spot=False)
    world.run(5)

    def away(_: object) -> NodeView:
        raise ProviderUnavailableError("The SkyPilot server does not answer")

    monkeypatch.setattr(world.scripted, "describe", away)
    world.node(instance_id, "progress", {"phase": "starting_server"})
    world.node(instance_id, "register", {"port": 8000})
    world.beating[instance_id] = 1
    world.run(3600)
    shown = world.show(instance_id)
    assert (shown["phase"], len(shown["attempts"])) == ("registering", 1)
    world.beating.clear()
    world.run(LIMITS.silent + 60)
    assert world.show(instance_id)["attempts"][0]["failure"]["reason"] == "registration_timeout"
    runtime.use(None)


def test_a_provider_that_has_lost_its_records_should_not_be_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    world = NodeWorld()
    instance_id = world.launch(use_spot=False)
    world.run(5)

    def lost(_: object) -> NodeView:
        raise RecordsLostError("The SkyPilot server cannot say whether it exists")

    monkeypatch.setattr(world.scripted, "describe", lost)
    world.node(instance_id, "progress", {"phase": "starting_server"})
    world.node(instance_id, "register", {"port": 8000})
    world.beating[instance_id] = 1
    world.run(LIMITS.registering + 60)
    assert world.show(instance_id)["attempts"][0]["failure"]["reason"] == "registration_timeout"
    runtime.use(None)


@pytest.mark.parametrize(("lease", "silent"), [(60, 600), (900, 600), (9000, 6000)])
def test_a_long_lease_should_make_for_long_silence(lease: int, silent: float) -> None:
    assert LIMITS.with_lease(lease).silent == silent
