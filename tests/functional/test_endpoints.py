"""Endpoints through the whole program: replicas start, are replaced, rolled, drained; lost and doubled messages."""

import logging
from typing import Any

import pytest

from gpulaunch.models.instances import Reason
from shared.autoscaling.replicas import FIRST_PAUSE
from shared.domain.endpoint import EndpointRecord
from shared.domain.node import NodeNotice
from shared.errors import StaleRecordError, StoreUnavailableError
from shared.lifecycle.observations import Noticed
from shared.queues import LAUNCHES
from shared.storage.base import InstanceFilter, Unreadable, readable
from shared.storage.endpoints import VersionedEndpoint
from tests.functional.test_bad_rows import no_json
from tests.functional.world import READER, SEED, Answer, World, settings

PATH = "/api/endpoints"
CHAT = f"{PATH}/chat"
BODY: dict[str, Any] = {"name": "chat", "launch": SEED, "replicas": 2}


def create(world: World, **changes: Any) -> Answer:
    answer = world.call("POST", PATH, BODY | changes)
    assert answer.status == 201, answer.body
    return answer


def show(world: World) -> Any:
    answer = world.call("GET", CHAT)
    assert answer.status == 200, answer.body
    return answer.json


def served(world: World, **changes: Any) -> Any:
    """An endpoint with all of its replicas ready."""
    create(world, **changes)
    world.run(120)
    shown = show(world)
    assert shown["status"] == "ready", shown
    return shown


def launched(world: World) -> list[str]:
    """Every instance there has ever been."""
    return [one["instance_id"] for one in world.call("GET", "/api/instances?page_size=200").json["instances"]]


def live(world: World) -> list[Any]:
    return [one.record for one in readable(world.store.live())]


def test_an_endpoint_should_have_its_replicas_ready_without_any_sweep(world: World) -> None:
    answer = create(world)
    assert answer.headers["Location"] == f"http://test{CHAT}"
    assert (answer.json["status"], answer.json["replicas"], answer.json["ready_replicas"]) == ("starting", 2, 0)
    for _ in range(3):
        world.run(29)
        world.swept_at = world.clock.now()
    shown = show(world)
    assert (shown["status"], shown["message"], shown["ready_replicas"]) == ("ready", "", 2)
    assert [one["state"] for one in shown["members"]] == ["serving", "serving"]
    assert shown["cost_usd"] > 0
    view = world.show(shown["members"][0]["instance_id"])
    assert (view["replica_of"], view["generation"]) == ("chat", 1)
    assert "as a replica of chat" in world.events(view["instance_id"])[0]["message"]


def test_a_launch_by_itself_should_belong_to_no_endpoint(world: World) -> None:
    create(world)
    view = world.show(world.to_ready())
    assert (view["replica_of"], view["generation"]) == (None, None)
    assert len(show(world)["members"]) == 2


class TestAsking:
    def test_the_same_again_should_be_the_same_and_another_a_conflict(self, world: World) -> None:
        create(world)
        again = world.call("POST", PATH, BODY)
        assert (again.status, again.json["replicas"]) == (200, 2)
        other = world.call("POST", PATH, BODY | {"replicas": 3})
        assert (other.status, other.json["code"]) == (409, "endpoint_exists")
        world.run(90)
        assert len(launched(world)) == 2

    def test_a_put_should_create_and_then_change_and_leave_what_is_as_asked(self, world: World) -> None:
        spec = {"launch": SEED, "replicas": 1}
        assert world.call("PUT", CHAT, spec).status == 201
        world.run(90)
        assert world.call("PUT", CHAT, spec).status == 200
        assert show(world)["generation"] == 1
        changed = world.call("PUT", CHAT, {"launch": SEED | {"use_spot": False}})
        assert (changed.status, changed.json["generation"], changed.json["replicas"]) == (200, 2, 1)

    def test_a_patch_should_change_the_fields_that_it_names_alone(self, world: World) -> None:
        create(world, launch=SEED | {"vllm_args": ["--max-model-len=4096"]})
        answer = world.call("PATCH", CHAT, {"drain_seconds": 30})
        assert (answer.json["generation"], answer.json["drain_seconds"], answer.json["replicas"]) == (1, 30, 2)
        answer = world.call("PATCH", CHAT, {"launch": {"use_spot": False, "vllm_args": None}})
        assert answer.json["generation"] == 2
        assert answer.json["launch"]["use_spot"] is False
        assert answer.json["launch"]["vllm_args"] == []
        assert answer.json["launch"]["region"] == "eastus"
        assert world.call("PATCH", CHAT, {"replicas": None}).json["replicas"] == 1

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"replicas": -1}, "replicas"),
            ({"replicas": "2"}, "replicas"),
            ({"name": "Chat"}, "name"),
            ({"scaling": "quick"}, "scaling"),
            ({"launch": SEED | {"job": {"command": ["true"]}}}, "launch"),
            ({"launch": SEED | {"name": "chat"}}, "launch"),
            ({"launch": SEED | {"idle_minutes": 5}}, "launch"),
            ({"launch": SEED | {"budget_usd": 5.0}}, "launch"),
            ({"launch": SEED | {"region": "eastuss"}}, "launch.region"),
            ({"launch": SEED | {"vllm_args": ["--api-key=x"]}}, "launch.vllm_args"),
            ({"launch": {"model_name": "org/model"}}, "launch"),
            ({"launch": SEED | {"labels": {"simulate.nonsense": "1"}}}, "launch.labels"),
        ],
    )
    def test_what_no_replica_could_be_launched_with_should_be_named(
        self, world: World, change: dict[str, Any], field: str
    ) -> None:
        answer = world.call("POST", PATH, BODY | change)
        assert answer.status == 422, answer.body
        assert [one["field"] for one in answer.json["errors"]] == [field]
        assert world.call("GET", CHAT).status == 404

    def test_a_wrong_patch_should_be_named_and_change_nothing(self, world: World) -> None:
        create(world)
        for change, field in (
            ({"launch": {"region": "eastuss"}}, "launch.region"),
            ({"launch": {"regoin": "eastus"}}, "launch.regoin"),
            ({"launch": {"model_name": None}}, "launch.model_name"),
            ({"replicas": 101}, "replicas"),
        ):
            answer = world.call("PATCH", CHAT, change)
            assert (answer.status, [one["field"] for one in answer.json["errors"]]) == (422, [field])
        assert show(world)["generation"] == 1

    @pytest.mark.parametrize("path", [CHAT, f"{PATH}/Not-A-Name", f"{PATH}/{'x' * 200}"])
    def test_a_missing_endpoint_should_be_a_404(self, world: World, path: str) -> None:
        for method in ("GET", "DELETE"):
            assert world.call(method, path).status == 404
        assert world.call("PATCH", path, {}).status == 404
        for action in ("pause", "resume", "rollout"):
            assert world.call("POST", f"{path}/{action}").status == 404

    def test_a_reader_should_see_and_change_nothing(self, world: World) -> None:
        create(world)
        assert world.call("GET", CHAT, token=READER).status == 200
        assert world.call("GET", PATH, token=READER).json["endpoints"][0]["name"] == "chat"
        for method in ("PATCH", "PUT", "DELETE"):
            assert world.call(method, CHAT, {}, token=READER).status == 403
        assert world.call("POST", f"{CHAT}/pause", token=READER).status == 403


class TestLifetime:
    def test_pausing_should_end_all_replicas_and_resuming_start_new_ones(self, world: World) -> None:
        served(world)
        assert world.call("POST", f"{CHAT}/pause").json["status"] == "paused"
        world.run(240)
        assert (show(world)["members"], live(world), world.running()) == ([], [], 0)
        world.call("POST", f"{CHAT}/pause")
        assert world.call("POST", f"{CHAT}/resume").status == 200
        world.run(120)
        assert show(world)["status"] == "ready"
        assert len(launched(world)) == 4

    def test_replicas_should_be_as_many_as_asked_for(self, world: World) -> None:
        served(world, replicas=1)
        for count in (3, 1, 0):
            world.call("PATCH", CHAT, {"replicas": count})
            world.run(300)
            assert len(show(world)["members"]) == len(live(world)) == world.running() == count

    def test_deleting_should_end_all_replicas_and_then_forget_the_endpoint(self, world: World) -> None:
        served(world)
        answer = world.call("DELETE", CHAT)
        assert (answer.status, answer.json["status"]) == (202, "deleting")
        assert world.call("DELETE", CHAT).status == 202
        for method, body in (("PATCH", {}), ("PUT", {"launch": SEED}), ("POST", None)):
            path = f"{CHAT}/resume" if method == "POST" else CHAT
            assert world.call(method, path, body).json["code"] == "endpoint_deleting"
        assert world.call("POST", PATH, BODY).json["code"] == "endpoint_deleting"
        world.run(300)
        assert world.call("GET", CHAT).status == 404
        assert (live(world), world.running(), world.call("GET", PATH).json["endpoints"]) == ([], 0, [])

    def test_one_of_the_same_name_should_share_no_instance_with_the_one_before(self, world: World) -> None:
        served(world)
        world.call("DELETE", CHAT)
        world.run(300)
        served(world)
        assert len(set(launched(world))) == 4

    def test_a_replica_that_a_user_terminates_should_be_replaced(self, world: World) -> None:
        first = served(world)["members"][0]["instance_id"]
        world.delete(first)
        world.run(150)
        shown = show(world)
        assert shown["status"] == "ready"
        assert first not in [one["instance_id"] for one in shown["members"]]
        assert any(first in one["message"] for one in shown["events"])

    def test_more_replicas_on_their_way_should_be_no_trouble_and_a_lost_one_be_some(self, world: World) -> None:
        members = served(world)["members"]
        world.call("PATCH", CHAT, {"replicas": 3})
        world.run(30)
        assert (show(world)["status"], show(world)["ready_replicas"]) == ("starting", 2)
        world.run(90)
        assert show(world)["status"] == "ready"
        world.app.terminator.records.change(members[0]["instance_id"], Noticed(1, NodeNotice.SIGTERM, None))
        world.run(40)
        assert (show(world)["status"], show(world)["ready_replicas"]) == ("degraded", 2)
        world.run(120)
        assert show(world)["status"] == "ready"

    def test_a_busy_replica_should_finish_its_requests_within_its_time(self, world: World) -> None:
        served(world, replicas=1, drain_seconds=200, launch=SEED | {"labels": {"simulate.busy-until": "3000"}})
        world.call("POST", f"{CHAT}/pause")
        world.run(180)
        assert [one["state"] for one in show(world)["members"]] == ["draining"]
        assert world.running() == 1
        world.run(120)
        assert world.running() == 0

    def test_replicas_should_be_renewed_before_their_lifetime_ends(self, world: World) -> None:
        served(world, launch=SEED | {"max_lifetime_minutes": 60})
        for _ in range(200):
            world.run(30)
            assert show(world)["ready_replicas"] >= 2
        assert len(launched(world)) > 4
        assert world.running() <= 4

    def test_the_deployment_s_idle_time_should_not_end_replicas(self) -> None:
        world = World(settings(GPULAUNCH_DEFAULT_IDLE_MINUTES="5"))
        served(world)
        world.run(1200)
        assert show(world)["ready_replicas"] == 2
        assert len(launched(world)) == 2


class TestRolling:
    def test_another_launch_should_be_rolled_out_without_serving_less(self, world: World) -> None:
        before = served(world)
        world.call("PATCH", CHAT, {"launch": {"vllm_args": ["--max-model-len=4096"]}})
        most, shown = 0, before
        for _ in range(30):
            world.run(20)
            shown = show(world)
            most = max(most, sum(one["state"] != "terminating" for one in shown["members"]))
            assert shown["ready_replicas"] >= 2
        assert (shown["status"], shown["generation"], most) == ("ready", 2, 3)
        assert not {one["instance_id"] for one in shown["members"]} & {one["instance_id"] for one in before["members"]}
        assert world.running() == 2

    def test_a_generation_that_cannot_start_should_stop_and_the_one_before_serve_on(self, world: World) -> None:
        before = served(world)
        broken = {"labels": {"simulate.never-registers": "9", "simulate.setup-failure": "9"}}
        world.call("PATCH", CHAT, {"launch": broken})
        world.run(7200)
        shown = show(world)
        assert shown["status"] == "stopped"
        assert shown["message"].startswith("Generation 2 cannot start: ")
        assert "2 of an earlier generation serve on" in shown["message"]
        assert shown["generations"][-1]["stopped"]["reason"]
        assert [one["instance_id"] for one in shown["members"]] == [one["instance_id"] for one in before["members"]]
        starts = len(launched(world))
        world.run(7200)
        assert len(launched(world)) == starts <= 5
        world.call("PATCH", CHAT, {"launch": {"labels": {}}})
        world.run(600)
        assert (show(world)["status"], show(world)["generation"]) == ("ready", 3)

    def test_a_roll_out_should_replace_all_by_the_same_launch(self, world: World) -> None:
        before = served(world)
        assert world.call("POST", f"{CHAT}/rollout").json["generation"] == 2
        world.run(600)
        shown = show(world)
        assert (shown["status"], shown["launch"]) == ("ready", before["launch"])
        assert len(launched(world)) == 4


class TestLimits:
    def test_a_refused_start_should_be_shown_and_tried_again(self) -> None:
        world = World(settings(GPULAUNCH_MAX_INSTANCES="1"))
        create(world)
        world.run(100)
        shown = show(world)
        assert (shown["status"], shown["ready_replicas"]) == ("degraded", 1)
        assert "GPULAUNCH_MAX_INSTANCES" in shown["message"]
        assert shown["retry_at"] is not None
        assert len(launched(world)) == 1
        world.delete(shown["members"][0]["instance_id"])
        world.run(1200)
        assert len(live(world)) == 1

    def test_replicas_should_count_against_the_budget_and_stop_there(self) -> None:
        world = World(settings(GPULAUNCH_MONTHLY_BUDGET_USD="50"))
        create(world, replicas=5)
        world.run(300)
        shown = show(world)
        assert shown["status"] == "degraded"
        assert 0 < len(live(world)) < 5
        assert world.store.ledger().ledger is not None
        assert "budget" in shown["message"].lower()

    def test_two_at_most_should_share_an_offer_while_others_are_free(self, world: World) -> None:
        regions = ["eastus", "westus2", "southcentralus"]
        shown = served(world, replicas=5, launch=SEED | {"region": regions})
        used = [one["offer"]["region"] for one in shown["members"]]
        assert all(used.count(region) <= 2 for region in regions)


def test_each_event_should_be_a_line_in_the_log_once_it_is_written(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="gpulaunch")
    served(world)
    for change in ("pause", "resume"):
        world.endpoints.calls.fail_next("commit", StaleRecordError("another was first"))
        world.call("POST", f"{CHAT}/{change}")
        world.run(120)
    found = world.endpoints.load("chat")
    assert found is not None
    start = "endpoint chat: "
    lines = [one.getMessage().removeprefix(start) for one in caplog.records if one.getMessage().startswith(start)]
    asked_for = ("Endpoint created", "Paused", "Resumed")
    assert lines == [event.message for event in found.record.events if not event.message.startswith(asked_for)]
    assert len(lines) > 3


class TestMishaps:
    def test_lost_messages_should_be_made_up_for_by_the_sweep(self, world: World) -> None:
        for _ in range(3):
            world.queues.calls.fail_next("send", StoreUnavailableError("lost"))
        create(world)
        world.run(200)
        assert show(world)["status"] == "ready"
        assert len(launched(world)) == 2

    def test_doubled_and_late_messages_should_start_nothing_twice(self, world: World) -> None:
        create(world)
        body = world.queues.bodies(LAUNCHES)[0]
        for _ in range(5):
            world.queues.put(LAUNCHES, body)
        world.run(100)
        world.queues.put(LAUNCHES, body)
        world.run(100)
        assert len(launched(world)) == 2

    @pytest.mark.parametrize("applied", [True, False])
    @pytest.mark.parametrize("operation", ["commit", "load", "create"])
    def test_a_step_that_dies_anywhere_should_be_finished_by_another(
        self, world: World, operation: str, applied: bool
    ) -> None:
        create(world)
        where = world.store.calls if operation == "create" else world.endpoints.calls
        where.fail_next(operation, StoreUnavailableError("no answer"), applied=applied)
        world.run(200)
        assert show(world)["status"] == "ready"
        assert len(launched(world)) == len(live(world)) == 2
        world.errors.clear()

    def test_a_change_that_meets_another_should_be_made_on_what_is_there(self, world: World) -> None:
        create(world)
        world.endpoints.calls.fail_next("commit", StaleRecordError("another was first"))
        assert world.call("PATCH", CHAT, {"replicas": 1}).json["replicas"] == 1

    def test_a_replica_without_a_slot_should_be_terminated(self, world: World) -> None:
        shown = served(world)
        found = world.endpoints.load("chat")
        assert found is not None
        world.endpoints.commit(found, found.record.with_slots(found.record.slots[1:]))
        world.run(60)
        stray = world.show(shown["members"][0]["instance_id"])
        assert stray["ending"]["reason"] == Reason.USER_REQUEST
        assert "no slot" in stray["ending"]["message"]

    @pytest.mark.parametrize("lost", ["slots", "endpoint"])
    def test_a_replica_in_use_whose_slot_was_lost_should_be_left_until_it_is_idle(
        self, world: World, caplog: pytest.LogCaptureFixture, lost: str
    ) -> None:
        shown = served(world, launch=SEED | {"labels": {"simulate.busy-until": "600"}})
        ids = [one["instance_id"] for one in shown["members"]]
        found = world.endpoints.load("chat")
        assert found is not None
        if lost == "endpoint":
            world.endpoints.remove(found)
        else:
            stopped = found.record.model_copy(update={"paused": True})
            world.endpoints.commit(found, stopped.with_slots([]))
        world.run(200)
        assert [world.show(one)["phase"] for one in ids] == ["ready", "ready"]
        errors = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
        assert f"{ids[0]} fills no slot of endpoint chat and is in use; DELETE it" in errors
        world.run(600)
        assert [world.show(one)["phase"] for one in ids] == ["terminated", "terminated"]

    def test_a_replica_whose_record_cannot_be_read_should_be_terminated_when_the_endpoint_is_deleted(
        self, world: World
    ) -> None:
        instance_id = served(world)["members"][0]["instance_id"]
        no_json(world, instance_id)
        world.call("DELETE", CHAT)
        world.run(660)  # it may serve on, so it drains its whole time
        row = next(
            one for one in world.store.page(InstanceFilter(), 10, None).records if one.instance_id == instance_id
        )
        assert isinstance(row, Unreadable)
        assert row.ended

    def test_a_refusal_that_meets_another_change_should_cost_that_step_alone(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world, met = World(settings(GPULAUNCH_MAX_INSTANCES="1")), list[str]()
        commit = world.endpoints.commit

        def meet(found: VersionedEndpoint, record: EndpointRecord, decision: None = None) -> str:
            if record.retry_at is not None and not met:
                met.append(record.name)
                raise StaleRecordError("another was first")
            return commit(found, record, decision)

        monkeypatch.setattr(world.endpoints, "commit", meet)
        create(world)
        world.run(300)
        assert (met, world.errors) == (["chat"], [])
        assert "GPULAUNCH_MAX_INSTANCES" in show(world)["message"]

    def test_replicas_of_an_endpoint_that_cannot_be_read_should_be_left_alone_and_reported(self, world: World) -> None:
        served(world)
        (key, (etag, row)) = next(iter(world.endpoints.rows.items()))
        world.endpoints.rows[key] = (
            etag,
            row | {"doc": row["doc"].replace('"schema_version":1', '"schema_version":2')},
        )
        world.run(300)
        assert len(live(world)) == 2
        assert world.call("GET", "/api/health").json["status"] == "degraded"
        assert world.call("GET", CHAT).json["code"] == "unreadable_record"
        listed = world.call("GET", PATH).json
        assert (listed["endpoints"], listed["unreadable"][0]["name"]) == ([], "chat")

    def test_one_endpoint_that_fails_should_not_keep_another_from_its_step(self, world: World) -> None:
        served(world)
        world.call("POST", PATH, BODY | {"name": "another", "replicas": 1})
        (key, (etag, row)) = next(item for item in world.endpoints.rows.items() if item[0].endswith("another"))
        world.endpoints.rows[key] = (etag, row | {"doc": "{"})
        world.delete(show(world)["members"][0]["instance_id"])
        world.run(200)
        assert show(world)["status"] == "ready"

    def test_a_message_for_no_endpoint_should_change_nothing(self, world: World) -> None:
        world.queues.put(LAUNCHES, b'{"endpoint": "gone", "step": "reconcile"}')
        world.run(60)
        assert launched(world) == []
        assert world.queues.poisoned(LAUNCHES) == []


def test_a_failed_start_should_wait_before_the_next(world: World) -> None:
    create(world, replicas=1, launch=SEED | {"labels": {"simulate.no-capacity": "99"}})
    world.run(30)
    shown = show(world)
    assert shown["retry_at"] is not None
    assert shown["status"] == "degraded"
    assert len(launched(world)) == 1
    world.run(FIRST_PAUSE.total_seconds() + 30)
    assert len(launched(world)) == 2
