"""Addresses where there is nothing."""

import re

import pytest

from gpulaunch.operations import OPERATIONS, Scope
from shared.web.rendering import pages_hash, static_files
from shared.web.routes import PAGES
from tests.functional.test_endpoints import create
from tests.functional.web.visitor import Visitor
from tests.functional.world import World

INSTANCE = "/instances/inst-01ARZ3NDEKTSV4RRFFQ69G5FAV"


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        ("/nope", []),
        ("/instance", ["/instances"]),
        ("/lunch", ["/launch"]),
        ("/Cost", ["/costs"]),
        ("/setings/", ["/settings"]),
        (f"{INSTANCE}/nope", [INSTANCE]),
        ("/inst-01ARZ3NDEKTSV4RRFFQ69G5FAV", [INSTANCE]),
        ("/a/b/c/d", []),
        ("/<script>alert(1)</script>", []),
        ("/" + "x" * 2000, []),
    ],
)
def test_an_unknown_page_should_be_a_404_with_what_is_alike(
    world: World, admin: Visitor, path: str, nearest: list[str]
) -> None:
    for visitor in (admin, Visitor(world)):
        answer = visitor.get(path)
        body = answer.body.decode()
        assert answer.status == 404
        assert "There is no page at /" in body
        assert "<script>alert" not in body
        assert len(body) < 5000
        assert re.findall(r'<a href="([^"]+)">\1</a>', body) == nearest
        assert "Back to instances" in body
        assert "Content-Security-Policy" in answer.headers


@pytest.mark.parametrize("path", ["/api/nope", "/api/instance", "/API/Nope", "/api/instances/a/b/c"])
def test_an_unknown_call_should_be_a_problem(world: World, path: str) -> None:
    answer = world.call("GET", path)
    assert (answer.status, answer.json["code"]) == (404, "not_found")
    assert "/api/openapi.json" in answer.json["detail"]
    assert answer.headers["Content-Type"].startswith("application/problem+json")


def test_what_exists_should_not_be_missing(world: World, admin: Visitor) -> None:
    instance_id = world.launch()
    create(world)
    key_id = world.call("POST", "/api/endpoints/chat/keys", {"name": "search"}).json["key_id"]
    world.run(100)
    paths = [page.route for page in PAGES if page.method == "GET" and page.name != "web_missing"]
    paths += [one.route for one in OPERATIONS if one.method == "GET" and one.scope is not Scope.NODE]
    for path in paths:
        filled = path.replace("{instanceId}", instance_id).replace("{file}", next(iter(static_files())))
        filled = filled.replace("{endpointName}", "chat").replace("{change}", "pause").replace("{keyId}", key_id)
        assert admin.get("/" + filled.strip("/")).status not in (404, 500), path


def test_every_answer_should_name_the_version_of_the_pages(world: World, admin: Visitor) -> None:
    instance_id = world.launch()
    page = admin.get(f"/instances/{instance_id}")
    assert f'data-pages="{pages_hash()}"' in page.body.decode()
    part = admin.part(f"/instances/{instance_id}/live")
    unchanged = admin.part(f"/instances/{instance_id}/live", part.headers["ETag"])
    for answer in (page, part, unchanged, admin.get("/nope"), Visitor(world).part("/instances")):
        assert answer.headers["X-Gpulaunch-Pages"] == pages_hash()
    assert unchanged.status == 304
