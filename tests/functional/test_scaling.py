"""Endpoints whose number of replicas follows the load: from none, with it, and to none again, for the reason shown."""

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from gateway.report import row_of
from gpulaunch.models.gateways import ARRIVAL_WINDOWS, EndpointMessage, EndpointReport, GatewayReport
from shared.autoscaling.figures import GIVEN_UP
from shared.queues import LAUNCHES
from tests.functional.test_endpoints import CHAT, PATH, launched, show
from tests.functional.world import SEED, Answer, World, settings

BOUNDS: dict[str, Any] = {"min_replicas": 0, "max_replicas": 3, "target_concurrency": 10}
BUSY: dict[str, Any] = {"running": 25, "running_mean": 25.0}
"""More than two replicas work on, of ten requests at once."""


def create(world: World, **changes: Any) -> Answer:
    answer = world.call("POST", PATH, {"name": "chat", "launch": SEED, **BOUNDS, **changes})
    assert answer.status == 201, answer.body
    return answer


def tell(world: World, gateway_id: str = "a", rate: float = 0.0, **figures: Any) -> None:
    """A gateway's report of this moment."""
    found = world.endpoints.load("chat")
    assert found is not None
    arrivals = {window: round(rate * window) for window in ARRIVAL_WINDOWS}
    one = EndpointReport(endpoint_id=found.record.endpoint_id, version=found.record.routes_version, arrivals=arrivals)
    report = GatewayReport(gateway_id=gateway_id, at=world.clock.now(), endpoints=[one.model_copy(update=figures)])
    row = {name: str(value) for name, value in row_of("", report).items()}
    world.endpoints.rows[f"gateway|{gateway_id}"] = ("W/1", row)


def nudge(world: World) -> None:
    """What a gateway sends when a request waits."""
    world.queues.send(LAUNCHES, EndpointMessage(endpoint="chat"))


def live_through(world: World, seconds: int, **figures: Any) -> None:
    """Let time pass, with a gateway that reports the same all the time."""
    for _ in range(0, seconds, 10):
        tell(world, **figures)
        world.run(10)


def decisions(world: World) -> Any:
    answer = world.call("GET", f"{CHAT}/decisions")
    assert answer.status == 200, answer.body
    return answer.json


class TestFromZero:
    def test_without_a_request_nothing_should_start_and_the_answer_should_say_so(self, world: World) -> None:
        created = create(world)
        assert (created.json["replicas"], created.json["max_replicas"], created.json["scaling"]) == (0, 3, "balanced")
        live_through(world, 120)
        shown = show(world)
        assert (shown["status"], shown["members"], launched(world)) == ("ready", [], [])
        assert shown["message"].startswith("No request has come lately. A replica takes about 240 s to start")
        assert decisions(world) == {
            "decisions": [],
            "replicas": 0,
            "reason": "no request runs, waits or has come lately",
        }

    def test_the_first_request_should_start_one_replica_at_once_however_often_that_is_asked_for(
        self, world: World
    ) -> None:
        create(world)
        tell(world, held=1)
        for _ in range(3):
            nudge(world)
        world.run(5, sweeping=False)
        assert len(launched(world)) == 1
        (decision,) = decisions(world)["decisions"]
        assert (decision["before"], decision["replicas"], decision["held"]) == (0, 1, 1)
        assert decision["reason"] == "1 request waits, and a start takes about 240 s"
        assert "Scaled from 0 to 1: 1 request waits" in show(world)["events"][-1]["message"]

    def test_without_the_gateways_message_the_sweep_should_start_it(self, world: World) -> None:
        create(world)
        live_through(world, 40, held=1)
        assert len(launched(world)) == 1

    def test_a_message_about_nothing_that_waits_should_start_nothing(self, world: World) -> None:
        create(world)
        tell(world)
        nudge(world)
        world.run(5)
        assert launched(world) == []


class TestWithTheLoad:
    def test_replicas_should_follow_up_and_down_to_none_and_nothing_should_be_left(self, world: World) -> None:
        create(world, scaling="thrifty")
        live_through(world, 100, held=1)
        assert show(world)["ready_replicas"] == 1
        live_through(world, 120, rate=2.0, **BUSY)
        assert show(world)["ready_replicas"] == 3
        live_through(world, 150, rate=0.1, running=5, running_mean=5.0)
        assert show(world)["ready_replicas"] == 3, "the quiet time of three minutes is not over"
        live_through(world, 240, rate=0.1, running=5, running_mean=5.0)
        assert show(world)["ready_replicas"] == 1
        live_through(world, 600)
        assert (show(world)["ready_replicas"], show(world)["members"], world.running()) == (0, [], 0)
        numbers = [(one["before"], one["replicas"]) for one in decisions(world)["decisions"]]
        assert numbers == [(1, 0), (3, 1), (1, 3), (0, 1)]

    def test_starts_should_be_timed_and_the_time_be_what_is_expected(self, world: World) -> None:
        create(world, min_replicas=1)
        live_through(world, 150)
        # 240 s at first, then 82 with a weight of 0.3.
        assert show(world)["start_seconds"] == pytest.approx(240 - 0.3 * (240 - 82), abs=1)

    def test_two_gateways_with_half_the_load_should_be_one_with_all_of_it(self, world: World) -> None:
        create(world, min_replicas=1)
        for _ in range(12):
            for gateway_id in ("a", "b"):
                tell(world, gateway_id, rate=1.0, running=12, running_mean=12.5)
            world.run(10)
        assert show(world)["replicas"] == 3


class TestUncertainty:
    def scaled(self, world: World) -> None:
        create(world, scaling="thrifty")
        live_through(world, 240, rate=2.0, **BUSY)
        assert show(world)["ready_replicas"] == 3

    def test_while_a_gateway_is_silent_none_should_be_given_up(self, world: World) -> None:
        self.scaled(world)
        world.run(GIVEN_UP.total_seconds() - 60)
        assert show(world)["replicas"] == 3
        assert decisions(world)["reason"] == "a gateway has not reported for a minute, so none is given up"

    def test_one_that_is_long_dead_should_keep_none(self, world: World) -> None:
        self.scaled(world)
        world.run(GIVEN_UP.total_seconds() + 420)
        assert show(world)["replicas"] == 0

    def test_another_that_is_silent_should_not_keep_more_from_starting(self, world: World) -> None:
        create(world)
        tell(world, "b")
        world.run(90)
        live_through(world, 40, held=1)
        assert show(world)["replicas"] == 1

    def test_a_restored_row_should_be_decided_upon_as_any_other(self, world: World) -> None:
        self.scaled(world)
        before = world.endpoints.load("chat")
        assert before is not None
        world.endpoints.commit(before, before.record.model_copy(update={"replicas": 0, "slots": before.record.slots}))
        live_through(world, 40, rate=2.0, **BUSY)
        assert show(world)["replicas"] == 3


class TestChanges:
    def test_a_fixed_number_should_end_it_and_bounds_begin_it(self, world: World) -> None:
        create(world)
        fixed = world.call("PATCH", CHAT, {"replicas": 2})
        assert (fixed.status, fixed.json["replicas"], fixed.json["max_replicas"]) == (200, 2, None)
        live_through(world, 400)
        assert show(world)["ready_replicas"] == 2, "people have decided"
        assert decisions(world)["reason"] == ""
        bounds = world.call("PATCH", CHAT, {"max_replicas": 5, "scaling": "quick"})
        assert (bounds.status, bounds.json["replicas"], bounds.json["min_replicas"]) == (200, 2, 0)
        narrower = world.call("PATCH", CHAT, {"max_replicas": 1})
        assert (narrower.json["replicas"], narrower.json["scaling"]) == (1, "quick")

    def test_replicas_that_people_asked_for_should_be_kept_for_the_quiet_time(self, world: World) -> None:
        create(world, replicas=2, **dict.fromkeys(BOUNDS))
        live_through(world, 120)
        world.call("PATCH", CHAT, {"max_replicas": 3, "scaling": "thrifty"})
        live_through(world, 150)
        assert show(world)["ready_replicas"] == 2
        live_through(world, 120)
        assert show(world)["ready_replicas"] == 0

    @pytest.mark.parametrize(
        ("given", "field"),
        [
            ({"replicas": 1, "max_replicas": 2}, "max_replicas"),
            ({"min_replicas": 1}, "min_replicas"),
            ({"scaling": "quick"}, "scaling"),
            ({"scaling": "eager", "max_replicas": 2}, "scaling"),
            ({"target_concurrency": 4}, "target_concurrency"),
            ({"min_replicas": 3, "max_replicas": 2}, "min_replicas"),
            ({"max_replicas": 0}, "max_replicas"),
        ],
    )
    def test_what_does_not_go_together_should_be_refused_with_its_field(
        self, world: World, given: dict[str, Any], field: str
    ) -> None:
        answer = world.call("POST", PATH, {"name": "chat", "launch": SEED, **given})
        assert (answer.status, [one["field"] for one in answer.json["errors"]]) == (422, [field])

    def test_a_decision_should_be_no_change_of_what_was_asked_for(self, world: World) -> None:
        revision = create(world).json["revision"]
        live_through(world, 60, held=1)
        assert show(world)["revision"] == revision
        spec = {"launch": SEED, **BOUNDS}
        assert world.call("PUT", CHAT, spec).json["replicas"] == 1
        assert show(world)["revision"] == revision
        assert world.call("PUT", CHAT, spec | {"max_replicas": 4}).json["revision"] != revision

    def test_a_paused_one_should_start_nothing_for_requests_and_go_on_when_resumed(self, world: World) -> None:
        create(world)
        assert world.call("POST", f"{CHAT}/pause").status == 200
        live_through(world, 60, held=5)
        assert launched(world) == []
        assert world.call("POST", f"{CHAT}/resume").status == 200
        live_through(world, 60, held=5)
        assert len(launched(world)) == 1

    def test_what_the_limits_of_the_deployment_hold_back_should_be_said(self) -> None:
        world = World(settings(GPULAUNCH_MAX_INSTANCES="1"))
        create(world)
        live_through(world, 200, rate=2.0, **BUSY)
        shown = show(world)
        assert (shown["replicas"], shown["ready_replicas"]) == (3, 1)
        assert "GPULAUNCH_MAX_INSTANCES" in shown["message"]

    def test_a_deleted_one_should_leave_no_decisions(self, world: World) -> None:
        create(world)
        live_through(world, 40, held=1)
        assert world.call("DELETE", CHAT).status == 202
        live_through(world, 10)
        world.run(900)
        assert world.call("GET", CHAT).status == 404
        assert [key for key in world.endpoints.rows if key.startswith("decisions|")] == []


class TestAtRest:
    """What an endpoint costs while nothing changes, in operations of storage."""

    def per_hour(self, world: World) -> Counter[str]:
        live_through(world, 900, **self.load)
        before = Counter(world.endpoints.calls.seen)
        for _ in range(60):
            tell(world, **self.load)
            world.run(30)
            tell(world, **self.load)
            world.run(30)
        return Counter(world.endpoints.calls.seen) - before

    load: dict[str, Any]

    @pytest.mark.parametrize("load", [{}, {"rate": 1.0, "running": 8, "running_mean": 8.0}])
    def test_a_sweep_should_read_all_endpoints_once_and_write_none(self, world: World, load: dict[str, Any]) -> None:
        self.load = load
        create(world)
        counts = self.per_hour(world)
        sweeps = timedelta(hours=1) / timedelta(seconds=30)
        assert counts["commit"] == 0
        assert counts["all"] <= sweeps + 1
        assert counts["gateways"] <= sweeps + 1
        assert counts.keys() <= {"all", "gateways", "load"}
