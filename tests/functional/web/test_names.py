"""An instance is called by its id or, while live, by its name or the end of its id: API, pages and client alike."""

import pytest

from gpulaunch import ConflictError, GpuLaunch, NotFoundError
from tests.contract.test_unreadable_rows import later_phase
from tests.functional.cli.conftest import ADDRESS, WorldTime, WorldTransport
from tests.functional.test_bad_rows import document_with
from tests.functional.web.visitor import Visitor, text_of
from tests.functional.world import ADMIN, READER, World


@pytest.fixture
def gpu(world: World) -> GpuLaunch:
    time = WorldTime(world)
    return GpuLaunch(ADDRESS, ADMIN, transport=WorldTransport(world), sleep=time.sleep, clock=time.clock)


def ways(instance_id: str) -> list[str]:
    return [instance_id, "chat-prod", instance_id[-5:], instance_id[-8:].lower(), instance_id[5:]]


@pytest.mark.parametrize("path", ["", "/events", "/logs", "/credentials"])
def test_every_call_should_take_names_and_ends_of_ids(world: World, path: str) -> None:
    instance_id = world.launch(name="chat-prod")
    world.launch(name="other")
    world.run(100)
    expected = world.call("GET", f"/api/instances/{instance_id}{path}").json
    for called in ways(instance_id):
        assert world.call("GET", f"/api/instances/{called}{path}").json == expected


def test_an_id_should_cost_no_walk(world: World) -> None:
    instance_id = world.launch(name="chat-prod")
    world.store.calls.seen.clear()
    world.show(instance_id)
    assert world.store.calls.seen == ["load"]


def test_terminating_by_name_should_end_that_instance_alone(world: World) -> None:
    mine, other = world.launch(name="mine"), world.launch(name="other")
    answer = world.call("DELETE", "/api/instances/mine")
    assert (answer.status, answer.json["instance_id"]) == (202, mine)
    assert answer.headers["Location"] == f"http://test/api/instances/{mine}"
    assert world.show(other)["phase"] == "queued"


def test_a_name_of_several_should_be_refused_with_their_ids(world: World, admin: Visitor) -> None:
    ids = [world.launch(name="twin"), world.launch(name="twin")]
    answer = world.call("DELETE", "/api/instances/twin")
    assert (answer.status, answer.json["code"]) == (409, "ambiguous_name")
    assert all(one in answer.json["detail"] for one in ids)
    page = admin.get("/instances/twin")
    assert page.status == 409
    assert all(f'href="/instances/{one}"' in page.body.decode() for one in ids)
    assert {world.show(one)["phase"] for one in ids} == {"queued"}


def test_an_ended_instance_should_free_its_name(world: World) -> None:
    old = world.launch(name="chat")
    world.delete(old)
    world.run(60)
    assert world.call("GET", "/api/instances/chat").status == 404
    new = world.launch(name="chat")
    assert world.call("GET", "/api/instances/chat").json["instance_id"] == new
    assert world.call("GET", f"/api/instances/{old}").json["phase"] == "terminated"


UNKNOWN = ["chat-prd", "nobody", "0000", "inst-", "INST-0", "a" * 300, "..", "ILOU!", "chat%20prod", "%00", "01"]


@pytest.mark.parametrize("called", UNKNOWN)
def test_what_no_instance_is_called_should_be_a_404(world: World, called: str) -> None:
    world.launch(name="chat-prod")
    answer = world.call("GET", f"/api/instances/{called}")
    assert (answer.status, answer.json["code"]) == (404, "not_found")
    assert len(answer.json["detail"]) < 200
    assert ("Did you mean chat-prod?" in answer.json["detail"]) is called.startswith("chat")


def test_nodes_should_be_known_by_their_ids_alone(world: World) -> None:
    world.launch(name="chat-prod")
    assert world.call("POST", "/api/nodes/chat-prod/heartbeat", {}).status in (401, 404)


def test_an_unreadable_instance_should_be_found_by_the_end_of_its_id(world: World) -> None:
    instance_id = world.launch(name="chat-prod")
    document_with(later_phase)(world, instance_id)
    assert world.call("DELETE", f"/api/instances/{instance_id[-6:]}").json["instance_id"] == instance_id


def test_pages_should_have_names_as_addresses(world: World, admin: Visitor) -> None:
    instance_id = world.launch(name="chat-prod")
    world.run(100)
    page = admin.get("/instances/chat-prod")
    assert page.status == 200
    assert instance_id in page.body.decode()
    assert f'hx-get="/instances/{instance_id}/live"' in page.body.decode()
    for path in ("live", "terminate", "key"):
        assert admin.get(f"/instances/chat-prod/{path}").status == 200
    missing = admin.get("/instances/chat-pro")
    assert missing.status == 404
    assert "Did you mean chat-prod?" in text_of(missing)
    assert Visitor(world).get("/instances/chat-prod").status == 303
    assert Visitor(world).sign_in(READER).get("/instances/chat-prod").status == 200


def test_a_wait_by_name_should_go_on_with_the_instance_it_began_with(world: World, gpu: GpuLaunch) -> None:
    instance_id = world.launch(name="chat")
    assert gpu.wait_until_ready("chat").instance_id == instance_id
    terminating = gpu.terminate("chat")
    assert terminating.instance_id == instance_id
    world.launch(name="chat")
    with pytest.raises(ConflictError, match="called 'chat'; use an id"):
        gpu.get("chat")
    assert gpu.wait_until_ended(instance_id).phase.ended
    with pytest.raises(NotFoundError, match="There is no instance 'nobody'"):
        gpu.get("nobody")
