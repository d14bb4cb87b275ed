"""Keys of endpoints and the routes that the gateway reads: what stands in the row, and what never does."""

import json
from typing import Any

import pytest

from gateway.snapshot import Snapshot, snapshot_of
from gateway.table import unsealer
from gpulaunch.models.routes import hash_of_key
from shared.control.endpoint_keys import MOST_KEYS
from shared.errors import StaleRecordError
from shared.storage.endpoints import VersionedEndpoint
from tests.functional.test_endpoints import CHAT, PATH, create, served, show
from tests.functional.world import READER, SEED, Answer, World, settings
from tests.twins.clock import START

KEYS = f"{CHAT}/keys"


def make(world: World, name: str = "search", **given: Any) -> Answer:
    return world.call("POST", KEYS, {"name": name, **given})


def row(world: World) -> str:
    return str(world.endpoints.rows["endpoint|chat"][1]["doc"])


def as_gateway(world: World) -> Snapshot:
    """What a gateway reads that has only its own key."""
    unseal = unsealer(world.adapters.deriver.gateway_key())
    return snapshot_of([{**row, "RowKey": key} for key, (_, row) in world.endpoints.rows.items()], unseal, START)


class TestKeys:
    def test_a_key_should_be_shown_once_and_stored_as_its_hash(self, world: World) -> None:
        create(world)
        made = make(world, requests_per_minute=60)
        assert made.status == 201
        key = made.json["key"]
        assert len(key) > 40
        assert key not in row(world)
        assert hash_of_key(key) in row(world)
        listed = world.call("GET", KEYS)
        assert listed.json["keys"] == [{k: v for k, v in made.json.items() if k != "key"}]
        for path in (CHAT, PATH, KEYS):
            body = world.call("GET", path).body
            assert key.encode() not in body
            assert hash_of_key(key).encode() not in body

    def test_each_application_should_have_one_of_its_own(self, world: World) -> None:
        create(world)
        keys = {make(world, name).json["key"] for name in ("a", "b", "c")}
        assert len(keys) == 3
        again = make(world, "a")
        assert (again.status, again.json["code"]) == (409, "key_exists")

    def test_an_endpoint_should_have_so_many_and_no_more(self, world: World) -> None:
        create(world)
        for number in range(MOST_KEYS):
            assert make(world, f"app-{number}").status == 201
        refused = make(world, "one-more")
        assert (refused.status, refused.json["errors"][0]["field"]) == (422, "body")
        assert f"at most {MOST_KEYS} keys" in refused.json["errors"][0]["message"]

    def test_a_revoked_key_should_be_unknown_and_its_name_free(self, world: World) -> None:
        create(world)
        made = make(world).json
        other = make(world, "other").json
        for _ in range(2):
            left = world.call("DELETE", f"{KEYS}/{made['key_id']}")
            assert [one["key_id"] for one in left.json["keys"]] == [other["key_id"]]
        assert as_gateway(world).find_key(hash_of_key(made["key"])) is None
        assert as_gateway(world).find_key(hash_of_key(other["key"])) is not None
        assert make(world).status == 201

    def test_a_key_that_a_reading_did_not_know_yet_should_be_revoked(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        create(world)
        load = world.endpoints.load
        earlier = [load("chat")]
        made = make(world).json

        def slow(name: str) -> VersionedEndpoint | None:
            return earlier.pop() if earlier else load(name)

        monkeypatch.setattr(world.endpoints, "load", slow)
        assert world.call("DELETE", f"{KEYS}/{made['key_id']}").json["keys"] == []
        assert earlier == []
        assert as_gateway(world).find_key(hash_of_key(made["key"])) is None

    def test_keys_should_outlive_pauses_and_roll_outs_and_end_with_the_endpoint(self, world: World) -> None:
        create(world)
        hashed = hash_of_key(make(world).json["key"])
        world.call("POST", f"{CHAT}/pause")
        world.call("POST", f"{CHAT}/resume")
        world.call("POST", f"{CHAT}/rollout")
        world.call("PUT", CHAT, {"launch": SEED, "replicas": 3})
        world.run(300)
        assert as_gateway(world).find_key(hashed) is not None
        world.call("DELETE", CHAT)
        assert as_gateway(world).find_key(hashed) is None

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"name": "No"},
            {"name": "a", "requests_per_minute": 0},
            {"name": "a", "tokens_per_minute": 0},
            {"name": "a", "tokens_per_month": 1.5},
            {"name": "a", "requests_at_once": 0},
            {"name": "a", "x": 1},
        ],
    )
    def test_wrong_fields_should_be_refused(self, world: World, body: dict[str, Any]) -> None:
        create(world)
        assert world.call("POST", KEYS, body).status == 422

    def test_a_key_should_have_its_limits_where_gateways_read_them(self, world: World) -> None:
        create(world)
        limits = {"requests_per_minute": 60, "tokens_per_minute": 10_000, "tokens_per_month": 5_000_000_000}
        limits |= {"requests_at_once": 4}
        made = world.call("POST", KEYS, {"name": "search", **limits}).json
        assert {name: made[name] for name in limits} == limits
        found = as_gateway(world).find_key(hash_of_key(made["key"]))
        assert found is not None
        assert {name: getattr(found[1], name) for name in limits} == limits

    def test_what_a_key_has_used_this_month_should_be_shown(self, world: World) -> None:
        create(world)
        key_id = make(world).json["key_id"]
        part = {"requests": 2, "tokens": 30, "at": "2026-01-31T09:00:00Z"}
        usage = {"key_id": key_id, "ended": {"requests": 1, "tokens": 20}, "gateways": {"a": part, "b": part}}
        for month in ("2025-12", "2026-01"):
            row = {"RowKey": f"usage|{month}|{key_id}", "doc": json.dumps(usage)}
            world.endpoints.rows[row["RowKey"]] = ("", row)
            usage["gateways"] = {"a": part}
        [shown] = world.call("GET", KEYS).json["keys"]
        assert (shown["requests_this_month"], shown["tokens_this_month"]) == (3, 50)
        world.endpoints.rows[f"usage|2026-01|{key_id}"] = ("", {"RowKey": f"usage|2026-01|{key_id}", "doc": "{"})
        [unknown] = world.call("GET", KEYS).json["keys"]
        assert unknown["tokens_this_month"] == 0

    def test_a_reader_should_make_and_revoke_none(self, world: World) -> None:
        create(world)
        made = make(world).json
        assert world.call("POST", KEYS, {"name": "x"}, token=READER).status == 403
        assert world.call("DELETE", f"{KEYS}/{made['key_id']}", token=READER).status == 403
        assert len(world.call("GET", KEYS, token=READER).json["keys"]) == 1

    def test_of_a_missing_endpoint_there_should_be_none(self, world: World) -> None:
        assert (make(world).status, world.call("GET", KEYS).status) == (404, 404)

    def test_a_key_whose_write_was_repeated_should_be_there_once(self, world: World) -> None:
        create(world)
        world.endpoints.calls.fail_next("commit", StaleRecordError("its own work"), applied=True)
        assert make(world).status == 201
        assert len(world.call("GET", KEYS).json["keys"]) == 1


class TestRoutes:
    def test_a_gateway_should_reach_each_ready_node_with_its_own_key(self, world: World) -> None:
        shown = served(world)
        found = as_gateway(world).endpoints["chat"]
        assert {node.instance_id for node in found.nodes} == {one["instance_id"] for one in shown["members"]}
        for node in found.nodes:
            assert node.key == world.adapters.deriver.endpoint_key(node.instance_id, node.attempt)
            assert node.key not in row(world)
            assert (node.simulated, node.model) == (True, SEED["model_name"])

    def test_without_the_gateway_s_key_nobody_should_learn_a_node_s(self, world: World) -> None:
        served(world)
        rows = [{**row, "RowKey": key} for key, (_, row) in world.endpoints.rows.items()]
        stranger = unsealer("A" * 43 + "=")
        assert snapshot_of(rows, stranger, START).endpoints["chat"].nodes == ()

    def test_a_lost_node_should_have_no_route_and_its_successor_another(self, world: World) -> None:
        served(world, replicas=1, launch=SEED | {"labels": {"simulate.evict-after": "60"}})
        [before] = as_gateway(world).endpoints["chat"].nodes
        world.run(70)
        assert as_gateway(world).endpoints["chat"].nodes == ()
        assert as_gateway(world).endpoints["chat"].starting == 1
        world.run(120)
        [after] = as_gateway(world).endpoints["chat"].nodes
        assert (after.instance_id, after.attempt) == (before.instance_id, before.attempt + 1)
        assert after.key != before.key

    def test_a_draining_node_should_be_marked_before_it_is_terminated(self, world: World) -> None:
        served(world, replicas=1)
        world.call("POST", f"{CHAT}/pause")
        world.run(1)
        found = as_gateway(world).endpoints["chat"]
        assert ([node.draining for node in found.nodes], found.replicas) == ([True], 0)
        assert world.running() == 1

    def test_fields_of_a_later_version_should_not_keep_a_gateway_from_reading(self, world: World) -> None:
        served(world)
        etag, stored = world.endpoints.rows["endpoint|chat"]
        document = json.loads(stored["doc"])
        document["slots"][0]["route"]["tls"] = {"a": 1}
        document["later"] = 1
        world.endpoints.rows["endpoint|chat"] = (etag, stored | {"doc": json.dumps(document)})
        world.endpoints.rows["endpoint|torn"] = (etag, stored | {"doc": "{"})
        found = as_gateway(world)
        assert len(found.endpoints["chat"].nodes) == 2
        assert set(found.unreadable) == {"endpoint|torn"}

    def test_a_node_should_be_asked_for_its_own_model_while_others_are_rolled_to_another(self, world: World) -> None:
        create(world, replicas=2)
        world.run(120)
        old = {one.instance_id: one.model for one in as_gateway(world).endpoints["chat"].nodes}
        world.call("PATCH", CHAT, {"launch": {"model_name": "Qwen/Qwen2.5-7B-Instruct"}})
        kept = list[tuple[str, str]]()
        for _ in range(60):
            world.run(10)
            kept += [(one.instance_id, one.model) for one in as_gateway(world).endpoints["chat"].nodes]
        assert {(name, model) for name, model in kept if name in old} == set(old.items())
        assert {model for name, model in kept if name not in old} == {"Qwen/Qwen2.5-7B-Instruct"}


def test_the_address_should_be_shown_where_there_is_a_gateway(world: World) -> None:
    create(world)
    assert show(world)["address"] is None
    there = World(settings(GPULAUNCH_GATEWAY_URL="https://models.example.com"))
    create(there)
    assert show(there)["address"] == "https://models.example.com/v1"
