"""Nodes of a deployment whose table was lost are adopted back, and nobody else's."""

import copy
from datetime import timedelta
from typing import Any

import pytest

from shared.domain.instance import cluster_name
from shared.domain.provider import Cluster, NodeState, NodeView
from shared.errors import AlreadyExistsError, StoreUnavailableError
from shared.queues import LAUNCHES
from shared.storage.base import UNRECORDED_CALLER
from tests.functional.scripted import NodeWorld
from tests.functional.world import READER
from tests.twins.factories import DEPLOYMENT, OTHER_DEPLOYMENT, make_instance_id

HOUR = 3600.0


def saved(world: NodeWorld) -> dict[str, Any]:
    return copy.deepcopy(world.store._rows)  # pyright: ignore[reportPrivateUsage]


def restore(world: NodeWorld, rows: dict[str, Any]) -> None:
    world.store._rows = copy.deepcopy(rows)  # pyright: ignore[reportPrivateUsage]


def beat(world: NodeWorld, instance_id: str, seconds: float) -> None:
    """Heartbeats as the agent sends them; when asked to, it reports and registers again."""
    for _ in range(int(seconds / 60)):
        world.run(60)
        answer = world.node(instance_id, "heartbeat", {"running_requests": 1})
        assert answer.json["renewed"], "the node ends itself"
        if answer.json.get("report"):
            world.node(instance_id, "progress", {"phase": "serving", "port": 8000})
            world.node(instance_id, "register", {"port": 8000})


def listed(world: NodeWorld, name: str, **more: Any) -> Cluster:
    facts: dict[str, Any] = {
        "cluster_name": name,
        "state": NodeState.UP,
        "created_at": world.clock.now(),
        "deployment": DEPLOYMENT,
        "provider": "azure",
        "region": "eastus",
        "machine": "1x(gpus=A10:1, cpus=36, mem=440, Standard_NV36ads_A10_v5, [spot])",
        "use_spot": True,
    }
    return Cluster(**(facts | more))


def lost(world: NodeWorld, **more: Any) -> tuple[str, str]:
    """A ready node whose table has just been emptied; its instance and its name."""
    empty = saved(world)
    instance_id = world.to_ready()
    world.beating.clear()
    name = cluster_name(instance_id, 1)
    world.scripted.listed = [listed(world, name, **more)]
    restore(world, empty)
    return instance_id, name


def orphaned(world: NodeWorld, phase: str = "serving", **more: Any) -> tuple[str, str]:
    """The same, some minutes later, reporting as it should."""
    instance_id, name = lost(world, **more)
    for _ in range(12):
        world.run(60)
        world.node(instance_id, "progress", {"phase": phase, **({"port": 8000} if phase == "serving" else {})})
    return instance_id, name


def adopt(world: NodeWorld, *names: str, **more: Any) -> Any:
    answer = world.call("POST", "/api/garbage/adopt", {"clusters": list(names), **more})
    assert answer.status == 200, answer.body
    return answer.json


def test_a_serving_node_should_be_an_instance_again(push: NodeWorld) -> None:
    instance_id, name = orphaned(push)
    (waiting,) = push.call("GET", "/api/garbage").json["waiting"]
    assert waiting["adoptable"] is True
    created = push.scripted.listed[0].created_at
    assert created is not None
    assert adopt(push, name, model_name="org/model") == {
        "adopted": [{"cluster_name": name, "instance_id": instance_id}],
        "refused": [],
    }
    push.run(60)
    beat(push, instance_id, HOUR)
    shown = push.show(instance_id)
    assert (shown["phase"], shown["endpoint"]) == ("ready", "https://203.0.113.7:8000/v1")
    assert shown["request"]["model_name"] == "org/model"
    hours = (push.clock.now() - created).total_seconds() / 3600
    assert shown["cost_usd"] == pytest.approx(hours * shown["attempts"][0]["offer"]["price_per_hour"], rel=0.05)
    assert push.call("GET", "/api/garbage").json["waiting"] == []
    assert push.scripted.released == 0


def test_an_adopted_node_should_be_terminated_like_any_other(push: NodeWorld) -> None:
    instance_id, name = orphaned(push)
    adopt(push, name)
    push.run(60)
    assert push.delete(instance_id).status == 202
    push.scripted.view, push.scripted.listed = NodeView(state=NodeState.ABSENT), []
    push.run(60)
    assert push.show(instance_id)["phase"] == "terminated"
    assert push.scripted.released >= 1


def test_an_adopted_node_should_end_by_its_lifetime_from_its_creation(push: NodeWorld) -> None:
    instance_id, name = orphaned(push)
    created = push.scripted.listed[0].created_at
    assert created is not None
    adopt(push, name, max_lifetime_minutes=120)
    push.run(60)
    deadline = push.show(instance_id)["deadline_at"]
    assert deadline.startswith((created + timedelta(minutes=120)).strftime("%Y-%m-%dT%H:%M"))
    beat(push, instance_id, 100 * 60)
    assert push.show(instance_id)["phase"] == "ready"
    push.scripted.listed = []
    push.run(20 * 60)
    assert push.show(instance_id)["ending"]["reason"] == "deadline"


def test_adopting_twice_should_be_harmless(push: NodeWorld) -> None:
    instance_id, name = orphaned(push)
    first = adopt(push, name, name)
    assert adopt(push, name) == first
    push.run(60)
    beat(push, instance_id, 600)
    assert adopt(push, name) == first
    assert len(push.call("GET", "/api/instances").json["instances"]) == 1
    assert [event["type"] for event in push.events(instance_id)].count("accepted") == 1


def test_what_another_process_adopts_meanwhile_should_count_as_adopted(push: NodeWorld) -> None:
    instance_id, name = orphaned(push)
    push.store.calls.fail_next("create", AlreadyExistsError("its record is there"))
    assert adopt(push, name)["adopted"] == [{"cluster_name": name, "instance_id": instance_id}]
    assert push.queues.depth(LAUNCHES) == 0


def test_an_adopted_node_should_be_looked_at_without_waiting_for_a_sweep(push: NodeWorld) -> None:
    _, name = orphaned(push)
    adopt(push, name)
    assert push.queues.depth(LAUNCHES) == 1


def test_an_adopted_node_should_be_no_caller_without_a_record_any_more(push: NodeWorld) -> None:
    _, name = orphaned(push)
    assert [marker.key for marker in push.store.markers(UNRECORDED_CALLER)] == [name]
    adopt(push, name)
    assert push.store.markers(UNRECORDED_CALLER) == []


def test_a_record_that_cannot_be_written_should_leave_the_node_waiting_and_send_nothing(push: NodeWorld) -> None:
    _, name = orphaned(push)
    push.store.calls.fail_next("create", StoreUnavailableError("no answer"))
    assert push.call("POST", "/api/garbage/adopt", {"clusters": [name]}).status == 503
    assert push.queues.depth(LAUNCHES) == 0
    (waiting,) = push.call("GET", "/api/garbage").json["waiting"]
    assert (waiting["adoptable"], waiting["heard_at"] is not None) == (True, True)
    assert adopt(push, name)["adopted"] != []


def test_a_first_message_that_is_lost_should_only_cost_time(push: NodeWorld) -> None:
    """Messages of the lost record, buried since, must not count as failures of the adopted instance's steps."""
    instance_id, name = orphaned(push)
    push.queues.calls.fail_next("send", StoreUnavailableError("no answer"))
    assert adopt(push, name)["adopted"] == [{"cluster_name": name, "instance_id": instance_id}]
    assert push.queues.depth(LAUNCHES) == 0
    beat(push, instance_id, 300)
    assert push.show(instance_id)["phase"] == "ready"


def test_a_node_of_another_attempt_of_a_live_instance_should_be_left_to_its_steps(push: NodeWorld) -> None:
    instance_id = push.to_ready()
    for attempt, passes in ((1, True), (2, False)):
        answer = adopt(push, cluster_name(instance_id, attempt))
        assert (len(answer["adopted"]), len(answer["refused"])) == (int(passes), int(not passes))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"deployment": OTHER_DEPLOYMENT}, "identity"),
        ({"deployment": None}, "identity"),
        ({"state": NodeState.ABSENT}, "Nothing of that name"),
        ({"created_at": None}, "since when"),
        ({"machine": "Standard_Unheard_Of"}, "catalog"),
        ({"region": "nowhere"}, "catalog"),
        ({"provider": "moon"}, "catalog"),
    ],
)
def test_what_is_not_ours_or_not_known_should_be_refused(push: NodeWorld, change: dict[str, Any], why: str) -> None:
    instance_id, name = orphaned(push)
    push.scripted.listed = [listed(push, name, **change)]
    (refused,) = adopt(push, name)["refused"]
    assert why in refused["why"]
    assert push.call("GET", f"/api/instances/{instance_id}").status == 404


def test_another_deployments_node_should_never_be_adopted(push: NodeWorld) -> None:
    instance_id, name = orphaned(push, deployment=OTHER_DEPLOYMENT)
    answer = adopt(push, name, "gl-00000000000000000000000000-01", "nonsense")
    assert answer["adopted"] == []
    assert len(answer["refused"]) == 3
    assert push.call("GET", f"/api/instances/{instance_id}").status == 404


def test_a_node_of_an_ended_instance_should_not_be_adopted(push: NodeWorld) -> None:
    instance_id = push.to_ready()
    push.beating.clear()
    push.delete(instance_id)
    push.run(60)
    name = cluster_name(instance_id, 1)
    push.scripted.listed = [listed(push, name)]
    push.run(600)
    (refused,) = adopt(push, name)["refused"]
    assert "has a record" in refused["why"]


def test_a_node_still_in_set_up_should_be_followed_to_ready(push: NodeWorld) -> None:
    instance_id, name = orphaned(push, "loading_model")
    adopt(push, name)
    push.run(5)
    push.node(instance_id, "progress", {"phase": "loading_model"})
    assert push.show(instance_id)["phase"] == "loading_model"
    assert push.node(instance_id, "assignment").status == 200
    push.node(instance_id, "progress", {"phase": "serving", "port": 8000})
    push.node(instance_id, "register", {"port": 8000})
    push.run(30)
    assert push.show(instance_id)["phase"] == "ready"


def test_a_node_that_is_not_heard_should_show_what_it_is_or_be_given_up(push: NodeWorld) -> None:
    instance_id, name = lost(push)
    push.run(HOUR)
    adopt(push, name)
    push.run(HOUR)
    shown = push.show(instance_id)
    assert shown["phase"] == "failed"
    assert push.scripted.released == 1
    assert len(shown["attempts"]) == 1


def test_a_lost_adopted_node_should_end_its_instance(push: NodeWorld) -> None:
    instance_id, name = orphaned(push)
    adopt(push, name)
    push.run(60)
    beat(push, instance_id, 120)
    push.scripted.alive, push.scripted.view, push.scripted.listed = False, NodeView(state=NodeState.ABSENT), []
    push.run(300)
    shown = push.show(instance_id)
    assert (shown["phase"], shown["ending"]["reason"], len(shown["attempts"])) == ("failed", "too_many_recoveries", 1)


@pytest.mark.parametrize("seconds", [0, 5, 40])
def test_a_restored_table_should_find_its_node_again(push: NodeWorld, seconds: float) -> None:
    instance_id = push.launch(max_lifetime_minutes=600)
    push.run(seconds)
    older = saved(push)
    push.run(5)
    push.scripted.view, push.scripted.alive = NodeView(state=NodeState.UP, address="203.0.113.7"), True
    push.node(instance_id, "progress", {"phase": "serving", "port": 8000})
    push.node(instance_id, "register", {"port": 8000})
    push.run(60)
    assert push.show(instance_id)["phase"] == "ready"
    restore(push, older)
    beat(push, instance_id, HOUR)
    shown = push.show(instance_id)
    assert (shown["phase"], len(shown["attempts"])) == ("ready", 1)


def test_an_agent_that_cannot_report_again_should_be_followed_by_its_heartbeats(push: NodeWorld) -> None:
    instance_id, name = orphaned(push)
    adopt(push, name)
    for _ in range(60):
        push.run(60)
        assert push.node(instance_id, "heartbeat", {}).json["renewed"]
    assert push.show(instance_id)["phase"] == "ready"


def test_a_restored_table_should_find_the_node_of_an_attempt_that_it_lacks(push: NodeWorld) -> None:
    """The first attempt's node is lost, the second one serves, and the table is from before that; the agent is old."""
    instance_id = push.to_ready(use_spot=False, max_lifetime_minutes=900)
    push.beating.clear()
    older = saved(push)
    push.node(instance_id, "notice", {"notice": "sigterm"})
    push.run(15)
    second = push.token(instance_id, 2)
    push.node(instance_id, "progress", {"phase": "serving", "port": 8000}, token=second)
    push.node(instance_id, "register", {"port": 8000}, token=second)
    push.run(30)
    assert (push.show(instance_id)["phase"], len(push.show(instance_id)["attempts"])) == ("ready", 2)
    restore(push, older)
    push.node(instance_id, "notice", {"notice": "sigterm"})
    for _ in range(90):
        push.run(60)
        assert push.node(instance_id, "heartbeat", {}, token=second).json["renewed"]
    shown = push.show(instance_id)
    assert (shown["phase"], len(shown["attempts"])) == ("ready", 2)


def test_only_an_admin_should_adopt(push: NodeWorld) -> None:
    _, name = orphaned(push)
    assert push.call("POST", "/api/garbage/adopt", {"clusters": [name]}, token=READER).status == 403
    assert push.call("POST", "/api/garbage/adopt", {"clusters": []}).status == 422


def test_one_that_waits_for_nothing_should_be_refused(push: NodeWorld) -> None:
    instance_id, name = lost(push)
    (refused,) = adopt(push, name)["refused"]
    assert "does not wait" in refused["why"]
    assert push.call("GET", f"/api/instances/{instance_id}").status == 404


@pytest.mark.parametrize(("asked", "got"), [(None, 120), (60, 60), (600, 120)])
def test_a_lifetime_should_not_be_longer_than_a_launch_may_ask_for(
    push: NodeWorld, asked: int | None, got: int
) -> None:
    instance_id, name = orphaned(push)
    created = push.scripted.listed[0].created_at
    assert created is not None
    given = push.adapters.settings.model_copy(update={"max_lifetime_minutes": 120})
    push.rebuild(settings=given)
    adopt(push, name, **({} if asked is None else {"max_lifetime_minutes": asked}))
    deadline = push.show(instance_id)["deadline_at"]
    assert deadline.startswith((created + timedelta(minutes=got)).strftime("%Y-%m-%dT%H:%M"))


def test_a_node_of_your_own_machines_should_have_the_gpus_that_its_listing_names(push: NodeWorld) -> None:
    own = {"provider": "kubernetes", "region": "a-context", "use_spot": False}
    machine = "1x(gpus=h100:8, cpus=4, mem=16)"
    record = push.app.adopter.as_adopted(listed(push, cluster_name(make_instance_id(), 1), machine=machine, **own))
    assert record is not None
    (offer,) = record.offers
    assert (offer.gpu, offer.gpu_count, offer.region, offer.price_per_hour) == ("H100", 8, "a-context", 0)


@pytest.mark.parametrize("machine", ["1x(gpus=NOSUCHGPU:8, cpus=4)", "1x(cpus=4)", ""])
def test_one_without_a_known_gpu_should_not_be_adopted(push: NodeWorld, machine: str) -> None:
    name = cluster_name(make_instance_id(), 1)
    assert push.app.adopter.as_adopted(listed(push, name, provider="kubernetes", machine=machine)) is None
