"""Answers that are true: a 304 means the same body, a key belongs to its token, rows expire, stories stay readable."""

import hashlib
import json
from datetime import timedelta
from typing import Any

import pytest

from gpulaunch.operations import OPERATIONS
from shared.control.queries import FIRST_EVENTS, MOST_EVENTS
from shared.control.sweep.expiry import EVENTS_KEPT, KEPT, LIFETIME
from shared.domain.provider import NodeState, NodeView
from shared.storage.base import IdempotencyEntry
from tests.functional.scripted import NodeWorld
from tests.functional.web.visitor import Visitor
from tests.functional.world import ADMIN, SEED, World, settings
from tests.simulation.mutations import always

CONDITIONAL = [operation.route for operation in OPERATIONS if 304 in operation.answers]
OTHER = "another-admin-token-of-the-tests"
PATH = "/api/instances/launch"


@pytest.mark.parametrize("route", CONDITIONAL)
def test_304_should_mean_that_the_body_is_the_same(world: World, route: str) -> None:
    instance_id = world.launch(max_lifetime_minutes=600)
    assert world.call("POST", "/api/endpoints", {"name": "chat", "launch": SEED}).status == 201
    path = f"/{route}".replace("{instanceId}", instance_id).replace("{endpointName}", "chat")
    same = 0
    for wait in (1, 30, 60, 1, 29, 1, 5, 59, 1, 3 * 3600, 9 * 3600, 1, 3600):
        before = world.call("GET", path)
        world.run(wait)
        again = world.call("GET", path, headers={"If-None-Match": before.headers["ETag"]})
        now = world.call("GET", path)
        assert (again.status == 304) == (now.body == before.body), (wait, again.status)
        assert (now.headers["ETag"] == before.headers["ETag"]) == (now.body == before.body)
        same += again.status == 304
    assert same > 0


def test_304_should_be_answered_within_the_minute_and_not_after_it(world: World) -> None:
    instance_id = world.to_ready(max_lifetime_minutes=600)
    world.run(60 - world.clock.now().second)
    for path in (f"/api/instances/{instance_id}", "/api/instances"):
        etag = world.call("GET", path).headers["ETag"]
        world.run(50)
        assert world.call("GET", path, headers={"If-None-Match": etag}).status == 304
        world.run(10)
        answer = world.call("GET", path, headers={"If-None-Match": etag})
        assert answer.status == 200


def test_a_polled_part_of_a_page_should_follow_the_costs(world: World) -> None:
    instance_id = world.to_ready(max_lifetime_minutes=600)
    for part in (f"/instances/{instance_id}/live", "/instances"):
        admin = Visitor(world).sign_in()
        mark = admin.part(part).headers["ETag"]
        world.run(25 * 60)
        assert admin.part(part, mark).status == 200


class TestKeys:
    @pytest.fixture
    def two(self) -> World:
        return World(settings(GPULAUNCH_ADMIN_TOKENS=f"{ADMIN},{OTHER}"))

    def launch(self, world: World, token: str, body: Any = SEED) -> Any:
        return world.call("POST", PATH, body, token=token, headers={"Idempotency-Key": "1"})

    def test_two_callers_with_the_same_key_should_share_nothing(self, two: World) -> None:
        mine, theirs = self.launch(two, ADMIN), self.launch(two, OTHER)
        assert mine.json["instance_id"] != theirs.json["instance_id"]
        assert self.launch(two, ADMIN).json == mine.json
        assert self.launch(two, OTHER, SEED | {"use_spot": False}).status == 409

    def test_no_token_should_stand_in_a_row(self, two: World) -> None:
        self.launch(two, ADMIN)
        assert ADMIN not in str(two.store._rows)  # pyright: ignore[reportPrivateUsage]

    def test_a_key_of_an_earlier_version_should_answer_the_same_body_only(self, two: World) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("shared.auth.Deriver.derive", always(""))
            old = self.launch(two, ADMIN).json
        assert self.launch(two, ADMIN).json == old
        other = self.launch(two, OTHER, SEED | {"use_spot": False})
        assert other.status == 202
        assert other.json["instance_id"] != old["instance_id"]

    def test_an_earlier_version_should_find_a_key_of_this_one(self, two: World) -> None:
        """It looks for the key alone: while both run, a repetition that it gets must not launch again."""
        mine = self.launch(two, ADMIN).json
        found = two.store.idempotency(hashlib.sha256(b"1").hexdigest())
        assert found is not None
        assert json.loads(found.answer) == mine

    def test_an_earlier_version_that_is_first_should_be_answered_alike(
        self, two: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Both get the same call at once; this one looks before the other one writes."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("shared.auth.Deriver.derive", always(""))
            old = self.launch(two, ADMIN).json
        look, looks = two.store.idempotency, iter(range(9))

        def too_early(key: str) -> IdempotencyEntry | None:
            return look(key) if next(looks) >= 2 else None

        monkeypatch.setattr(two.store, "idempotency", too_early)
        assert self.launch(two, ADMIN).json == old
        assert len(list(two.store.live())) == 1

    def test_a_key_should_be_kept_for_a_week_and_then_expire(self, world: World) -> None:
        first = self.launch(world, ADMIN).json["instance_id"]
        world.clock.advance((KEPT - timedelta(hours=2)).total_seconds())
        world.run(3600)
        assert self.launch(world, ADMIN).json["instance_id"] == first
        world.run(2 * 3600)
        assert self.launch(world, ADMIN).json["instance_id"] != first
        keys = [key for key in world.store._rows if key.startswith("idem|")]  # pyright: ignore[reportPrivateUsage]
        assert len(keys) == 2

    def test_a_run_should_delete_a_bounded_number(self, world: World) -> None:
        for key in range(5):
            world.call("POST", PATH, SEED, headers={"Idempotency-Key": str(key)})
        later = world.clock.now() + timedelta(days=8)
        assert [world.store.expire_idempotency(later, 6) for _ in range(3)] == [6, 4, 0]


class TestFlapping:
    def flap(self, push: NodeWorld, times: int) -> None:
        for _ in range(times):
            for alive in (False, True):
                push.scripted.alive = alive
                push.run(30)

    def test_the_first_failure_and_its_end_should_be_told_at_once(self, push: NodeWorld) -> None:
        instance_id = push.to_ready()
        self.flap(push, 1)
        told = [event["message"] for event in push.events(instance_id) if event["type"] == "health"]
        assert told == ["The endpoint does not answer: ", "The endpoint answers again."]

    def test_a_flapping_node_should_write_few_events_that_count_the_others(self, push: NodeWorld) -> None:
        instance_id = push.to_ready(max_lifetime_minutes=600)
        self.flap(push, 60)
        told = [event["message"] for event in push.events(instance_id) if event["type"] == "health"]
        assert len(told) == 8
        assert sum("14 more times since" in message for message in told) == 3
        assert push.show(instance_id)["phase"] == "ready"
        push.scripted.alive = False
        push.scripted.view = NodeView(state=NodeState.ABSENT)
        push.run(31)
        assert push.show(instance_id)["attempts"][0]["failure"]["reason"] == "node_lost"


def test_events_should_be_kept_for_90_days_after_the_end_and_then_expire(world: World) -> None:
    instance_id = world.to_ready()
    world.delete(instance_id)
    world.run(60)
    record, story = world.show(instance_id), world.events(instance_id)
    world.clock.advance((LIFETIME + EVENTS_KEPT - timedelta(hours=2)).total_seconds())
    world.run(3600)
    assert world.events(instance_id) == story
    world.run(2 * 3600)
    assert world.events(instance_id) == []
    assert world.show(instance_id) == record
    assert Visitor(world).sign_in().get(f"/instances/{instance_id}").status == 200


def test_a_long_story_should_show_its_beginning_and_its_latest_events(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.control.queries.MOST_EVENTS", 6)
    monkeypatch.setattr("shared.control.queries.FIRST_EVENTS", 2)
    instance_id = world.to_ready()
    world.delete(instance_id)
    world.run(60)
    everything = world.store.events(instance_id)
    count = len(everything)
    assert count > 8
    shown = [event["sequence"] for event in world.events(instance_id)]
    assert shown == [0, 1, *range(count - 4, count)]
    rest = world.call("GET", f"/api/instances/{instance_id}/events?after=1").json["events"]
    assert [event["sequence"] for event in rest] == [2, 3, 4, 5, 6, 7]
    rest = world.call("GET", f"/api/instances/{instance_id}/events?after=0").json["events"]
    assert [event["sequence"] for event in rest] == [1, 2, 3, 4, 5, 6]
    page = Visitor(world).sign_in().get(f"/instances/{instance_id}").body.decode()
    assert everything[-1].message in page
    assert (MOST_EVENTS, FIRST_EVENTS) == (1000, 100)
