"""What users look at: lists, one instance, events, the catalog, the settings, health."""

import pytest

from shared.errors import StoreUnavailableError
from tests.functional.world import READER, World


def test_lists_should_page_newest_first_without_gaps(world: World) -> None:
    ids: list[str] = []
    for _ in range(7):
        ids.append(world.launch())
        world.run(1)
    world.delete(ids[3])
    world.run(5)
    found: list[str] = []
    token = ""
    while True:
        page = world.call("GET", f"/api/instances?page_size=3{token}", token=READER).json
        found += [instance["instance_id"] for instance in page["instances"]]
        if page["next_token"] is None:
            break
        token = f"&continuation_token={page['next_token']}"
    assert found == ids[::-1]


def test_lists_should_filter_by_phase_provider_label_and_life(world: World) -> None:
    ended = world.launch(labels={"team": "a"})
    world.delete(ended)
    world.run(5)
    live = world.launch(labels={"team": "b"})
    own = world.launch(provider="slurm", region="here", instance_type=None, gpu="A10")
    world.run(1)

    def ids(query: str) -> set[str]:
        return {found["instance_id"] for found in world.call("GET", f"/api/instances?{query}").json["instances"]}

    assert ids("phase=terminated") == {ended}
    assert ids("provider=slurm") == {own}
    assert ids("label=team") == {ended, live}
    assert ids("label=team=b") == {live}
    assert ids("live=false") == {ended}
    assert ids("live=true") == {live, own}


@pytest.mark.parametrize(
    "query",
    ["phase=reedy", "provider=azur", "page_size=0", "page_size=x", "page_size=\u0661", "live=yes", "colour=red"],
)
def test_a_query_that_makes_no_sense_should_be_named(world: World, query: str) -> None:
    answer = world.call("GET", f"/api/instances?{query}")
    assert answer.status == 422
    assert answer.json["errors"][0]["field"] == query.split("=", maxsplit=1)[0]


def test_a_foreign_continuation_token_should_be_refused(world: World) -> None:
    answer = world.call("GET", "/api/instances?continuation_token=bm9uc2Vuc2U")
    assert (answer.status, answer.json["errors"][0]["field"]) == (422, "continuation_token")


@pytest.mark.parametrize(
    "path",
    ["inst-01K0000000000000000000000A", "nonsense", "inst-01K0000000000000000000000A%0d%0aX: 1", "..", "inst-", "ñ"],
)
@pytest.mark.parametrize("tail", ["", "/events", "/logs", "/credentials"])
def test_an_unknown_instance_should_be_a_404(world: World, path: str, tail: str) -> None:
    answer = world.call("GET", f"/api/instances/{path}{tail}")
    assert (answer.status, answer.json["code"]) == (404, "not_found")


def test_an_unchanged_instance_should_cost_one_read_and_a_304(world: World) -> None:
    instance_id = world.launch()
    world.run(90)
    etag = world.call("GET", f"/api/instances/{instance_id}").headers["ETag"]
    world.store.calls.seen.clear()
    answer = world.call("GET", f"/api/instances/{instance_id}", headers={"If-None-Match": f'"x", {etag}'})
    assert answer.status == 304
    assert world.store.calls.seen == ["load"]
    world.delete(instance_id)
    assert world.call("GET", f"/api/instances/{instance_id}", headers={"If-None-Match": etag}).status == 200


def test_events_should_be_had_from_a_number_on(world: World) -> None:
    instance_id = world.launch()
    world.run(90)
    events = world.events(instance_id)
    later = world.call("GET", f"/api/instances/{instance_id}/events?after=3").json["events"]
    assert later == events[4:]


def test_a_timeline_should_say_what_phases_are_expected_to_take_until_ready(world: World) -> None:
    path = f"/api/instances/{world.launch()}/events"
    steps = world.call("GET", path).json["steps"]
    expected = {one["phase"]: one["most_seconds"] or 0 for one in steps}
    assert (expected["provisioning"], sum(expected.values())) == (30, 82)
    assert [one["state"] for one in steps] == ["now", *["waiting"] * 6]
    world.run(90)
    for since in ("", "?after=3"):
        steps = world.call("GET", path + since).json["steps"]
        assert {(one["state"], one["most_seconds"]) for one in steps} == {("done", None)}
        assert round(sum(one["seconds"] for one in steps)) == 82


def test_credentials_should_be_there_when_ready_and_for_admins_only(world: World) -> None:
    instance_id = world.launch()
    path = f"/api/instances/{instance_id}/credentials"
    assert (world.call("GET", path).status, world.call("GET", path).json["code"]) == (409, "not_ready")
    world.run(90)
    answer = world.call("GET", path)
    assert answer.status == 200
    assert answer.json["api_key"].startswith("gl-")
    assert answer.headers["Cache-Control"] == "no-store"
    assert world.call("GET", path, token=READER).status == 403


def test_logs_should_be_what_the_node_said_last(world: World) -> None:
    instance_id = world.launch()
    world.run(60)
    assert world.call("GET", f"/api/instances/{instance_id}/logs").json["lines"]


def test_the_catalog_should_have_offers_with_prices_and_their_date(world: World) -> None:
    catalog = world.call("GET", "/api/catalog?provider=azure&region=eastus&gpu=a10").json
    assert {offer["gpu"] for offer in catalog["offers"]} == {"A10"}
    assert catalog["prices_as_of"]
    assert "eastus" in catalog["regions"]
    assert world.call("GET", "/api/catalog?provider=aws").status == 422


def test_health_should_need_no_token_and_tell_of_storage(world: World) -> None:
    assert world.call("GET", "/api/health", token=None).json["status"] == "ok"
    world.store.calls.fail_next("markers", StoreUnavailableError("no answer"))
    answer = world.call("GET", "/api/health", token=None)
    assert (answer.status, answer.json["storage"]) == (503, "unavailable")


def test_the_openapi_document_should_be_served(world: World) -> None:
    assert world.call("GET", "/api/openapi.json", token=None).json["openapi"] == "3.1.0"
