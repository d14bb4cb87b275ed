"""What Azure's SDKs expect of a service, with azure-core's own pipeline, poller and pager as callers."""

from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from azure.core import PipelineClient
from azure.core.exceptions import HttpResponseError
from azure.core.paging import ItemPaged
from azure.core.pipeline.policies import HeadersPolicy
from azure.core.pipeline.transport import RequestsTransport
from azure.core.polling import LROPoller
from azure.core.polling.base_polling import LROBasePolling
from azure.core.rest import HttpRequest
from requests import PreparedRequest, Response, Session
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPResponse

from tests.functional.world import ADMIN, SEED, Answer, World

ORIGIN = "http://test"
BEARER = {"Authorization": f"Bearer {ADMIN}"}
LAUNCH = "/api/instances/launch"


class Into(BaseAdapter):
    """Carries the requests of a session into a world."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.sent: list[tuple[str, str]] = []

    def send(self, request: PreparedRequest, *_: object, **__: object) -> Response:
        url = urlsplit(str(request.url))
        assert f"{url.scheme}://{url.netloc}" == ORIGIN, request.url
        path = url.path + (f"?{url.query}" if url.query else "")
        method = str(request.method)
        self.sent.append((method, path))
        given: Any = request.body or b""
        body: bytes = given.encode() if isinstance(given, str) else given
        headers = {name: str(value) for name, value in request.headers.items()}
        answer = self.world.call(method, path, token=None, headers=headers, raw=body)
        made = Response()
        made.status_code, made.url = answer.status, str(request.url)
        made.headers = CaseInsensitiveDict(answer.headers)
        made.raw = HTTPResponse(BytesIO(answer.body), status=answer.status, preload_content=False)
        return made

    def close(self) -> None: ...


class Wire(RequestsTransport):
    """azure-core's own transport; pauses pass in the world, so that nothing waits."""

    def __init__(self, world: World) -> None:
        self.into = Into(world)
        session = Session()
        session.mount(ORIGIN, self.into)
        super().__init__(session=session)  # pyright: ignore[reportUnknownMemberType] - its keywords have no types
        self.pauses: list[float] = []

    def sleep(self, duration: float) -> None:
        self.pauses.append(duration)
        self.into.world.run(duration)


@pytest.fixture
def wire(world: World) -> Wire:
    return Wire(world)


@pytest.fixture
def client(wire: Wire) -> Any:
    """The base of every client that Azure's generators make, with a token as any bearer."""
    return cast("Any", PipelineClient)(ORIGIN, transport=wire, per_call_policies=[HeadersPolicy(BEARER)])


def run(client: Any, request: HttpRequest) -> Any:
    """What the generated methods do with a request."""
    return client._pipeline.run(request)


def begin(client: Any, method: str, path: str, body: object = None) -> LROPoller[Any]:
    """What a generated `begin_…` method does."""
    initial = run(client, HttpRequest(method, f"{ORIGIN}{path}", json=body))
    assert initial.http_response.status_code == 202, initial.http_response.read()

    def outcome(response: Any) -> Any:
        return response.http_response.json()

    return LROPoller(client, initial, outcome, cast("Any", LROBasePolling(timeout=30)))


def test_a_launch_should_be_followed_by_azures_poller_until_it_is_ready(world: World, wire: Wire, client: Any) -> None:
    poller = begin(client, "POST", LAUNCH, SEED)
    ready = poller.result()
    assert poller.status() == "Succeeded"
    assert (ready["phase"], ready["request"]["model_name"]) == ("ready", SEED["model_name"])
    # 82 s, asked every 5 s as Retry-After wants it, then the instance itself.
    assert set(wire.pauses) == {5}
    assert 16 <= len(wire.pauses) <= 18
    assert wire.into.sent[-1] == ("GET", f"/api/instances/{ready['instance_id']}")


def test_a_launch_that_fails_should_be_raised_with_its_reason(client: Any) -> None:
    poller = begin(client, "POST", LAUNCH, {**SEED, "labels": {"simulate.no-capacity": "99"}})
    with pytest.raises(HttpResponseError) as raised:
        poller.result()
    assert poller.status() == "Failed"
    assert raised.value.error is not None
    assert raised.value.error.code == "no_offers_left"
    assert raised.value.error.message


def test_a_launch_that_its_user_ends_should_be_canceled(world: World, client: Any) -> None:
    poller = begin(client, "POST", LAUNCH, SEED)
    instance_id = world.call("GET", "/api/instances").json["instances"][0]["instance_id"]
    world.delete(instance_id)
    with pytest.raises(HttpResponseError):
        poller.result()
    assert poller.status() == "Canceled"


def test_a_launch_should_have_succeeded_even_after_the_instance_has_ended(world: World) -> None:
    instance_id = world.to_ready()
    world.delete(instance_id)
    world.run(60)
    found = operation(world, instance_id, "launch")
    assert (world.show(instance_id)["phase"], found["status"], found["error"]) == ("terminated", "Succeeded", None)


def test_a_termination_should_be_followed_until_nothing_is_left(world: World, client: Any) -> None:
    instance_id = world.to_ready()
    poller = begin(client, "DELETE", f"/api/instances/{instance_id}")
    poller.wait()
    assert poller.status() == "Succeeded"
    assert world.show(instance_id)["phase"] == "terminated"
    assert world.running() == 0


def test_a_termination_that_nobody_asked_for_should_not_be_found(world: World) -> None:
    instance_id = world.to_ready()
    for kind in ("terminate", "delete", "resize"):
        assert world.call("GET", f"/api/instances/{instance_id}/operations/{kind}").status == 404
    assert operation(world, instance_id, "launch")["status"] == "Succeeded"


def test_the_deletion_of_an_endpoint_should_be_followed_until_its_name_is_free(world: World, client: Any) -> None:
    spec = {"name": "chat", "launch": {"model_name": "meta-llama/Llama-3.1-8B-Instruct", "gpu": "A10"}}
    assert world.call("POST", "/api/endpoints", {**spec, "drain_seconds": 0}).status == 201
    assert world.call("GET", "/api/endpoints/chat/operations/delete").status == 404
    world.run(100)
    begin(client, "DELETE", "/api/endpoints/chat").wait()
    assert world.call("GET", "/api/endpoints/chat").status == 404
    assert world.call("GET", "/api/endpoints/chat/operations/delete").json["status"] == "Succeeded"


def operation(world: World, instance_id: str, kind: str) -> Any:
    answer = world.call("GET", f"/api/instances/{instance_id}/operations/{kind}")
    assert answer.status == 200, answer.body
    return answer.json


def test_azures_pager_should_find_every_instance_once(world: World, wire: Wire, client: Any) -> None:
    made = {world.launch(labels={"team": "a"}) for _ in range(5)}
    world.launch(labels={"team": "b"})
    first = f"{ORIGIN}/api/instances?label=team%3Da&page_size=2&api-version=2026-11-01"

    def get_next(link: str | None) -> Any:
        return run(client, HttpRequest("GET", link or first))

    def extract(response: Any) -> tuple[str | None, Iterator[Any]]:
        page = response.http_response.json()
        return page["nextLink"], iter(page["instances"])

    items: ItemPaged[Any] = ItemPaged(get_next, extract)
    found = [one["instance_id"] for one in items]
    assert sorted(found) == sorted(made)
    assert len(found) == 5
    assert len(wire.into.sent) == 3
    assert all("label=team%3Da" in path and "page_size=2" in path for _, path in wire.into.sent)


def test_the_last_page_should_have_no_next_link_and_none_a_functions_key(world: World) -> None:
    for _ in range(2):
        world.launch()
    page = world.call("GET", "/api/instances?page_size=1&code=functions-key").json
    assert page["next_token"] in page["nextLink"]
    assert "functions-key" not in page["nextLink"]
    last = world.call("GET", page["nextLink"].removeprefix(ORIGIN)).json
    assert (last["next_token"], last["nextLink"]) == (None, None)


@pytest.mark.parametrize(
    ("headers", "origin"),
    [
        ({}, "http://test"),
        ({"X-Forwarded-Proto": "https"}, "https://test"),
        ({"X-Forwarded-Host": "gpu.example.com", "X-Forwarded-Proto": "https"}, "https://gpu.example.com"),
        ({"X-Forwarded-Host": "gpu.example.com:8443, inner"}, "http://gpu.example.com:8443"),
        ({"X-Forwarded-Host": "[2001:db8::1]:80"}, "http://[2001:db8::1]:80"),
        ({"X-Forwarded-Host": "user@evil/path?"}, ""),
    ],
)
def test_locations_should_be_absolute_as_the_caller_knows_the_app(
    world: World, headers: Mapping[str, str], origin: str
) -> None:
    answer = world.call("POST", LAUNCH, SEED, headers=headers)
    path = f"/api/instances/{answer.json['instance_id']}"
    assert answer.headers["Location"] == f"{origin}{path}"
    assert answer.headers["Operation-Location"] == f"{origin}{path}/operations/launch"
    assert answer.headers["Retry-After"] == "5"
    ended = world.call("DELETE", path, headers=headers)
    assert ended.headers["Location"] == f"{origin}{path}"
    assert ended.headers["Operation-Location"] == f"{origin}{path}/operations/terminate"


@pytest.mark.parametrize(
    "path",
    ["/api/instances", "/api/catalog", "/api/costs", "/api/quota", "/api/config", "/api/health", "/api/endpoints"],
)
def test_an_api_version_should_be_tolerated_everywhere(world: World, path: str) -> None:
    assert world.call("GET", f"{path}?api-version=2026-11-01").status == 200


def repeated(world: World, body: object, **headers: str) -> Answer:
    return world.call("POST", LAUNCH, body, headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_a_repeatability_request_id_should_launch_once(world: World) -> None:
    first, second = (repeated(world, SEED, Repeatability_Request_ID="one") for _ in range(2))
    assert first.json["instance_id"] == second.json["instance_id"]
    assert first.headers["Repeatability-Result"] == second.headers["Repeatability-Result"] == "accepted"
    assert len(world.call("GET", "/api/instances").json["instances"]) == 1
    other = repeated(world, {**SEED, "name": "other"}, Repeatability_Request_ID="one")
    assert (other.status, other.json["code"]) == (409, "idempotency_key_reused")
    assert other.headers["Repeatability-Result"] == "rejected"
    # It is the same key by another name.
    assert repeated(world, SEED, Idempotency_Key="one").json == first.json
    assert "Repeatability-Result" not in repeated(world, SEED, Idempotency_Key="one").headers


def test_two_keys_of_one_launch_should_be_refused_unless_they_are_one(world: World) -> None:
    refused = repeated(world, SEED, Repeatability_Request_ID="one", Idempotency_Key="two")
    assert (refused.status, refused.json["errors"][0]["field"]) == (422, "Repeatability-Request-ID")
    assert repeated(world, SEED, Repeatability_Request_ID="one", Idempotency_Key="one").status == 202


@pytest.mark.parametrize("name", ["Repeatability-Request-ID", "Idempotency-Key"])
def test_an_empty_key_should_be_refused(world: World, name: str) -> None:
    """Its caller believes that the launch is safe to repeat."""
    assert world.call("POST", LAUNCH, SEED, headers={name: ""}).status == 422
    assert world.call("GET", "/api/instances").json["instances"] == []


@pytest.mark.parametrize("name", ["Repeatability-Request-ID", "Idempotency-Key"])
def test_a_key_should_be_refused_where_it_would_not_make_the_call_safe(world: World, name: str) -> None:
    spec = {"name": "chat", "launch": {"model_name": "meta-llama/Llama-3.1-8B-Instruct", "gpu": "A10"}}
    made = world.call("POST", "/api/endpoints", spec, headers={name: "one"})
    assert made.status == 201  # safe to repeat by itself
    refused = world.call("POST", "/api/endpoints/chat/rollout", headers={name: "one"})
    assert (refused.status, refused.json["errors"][0]["field"]) == (422, name)
    assert world.call("GET", "/api/endpoints/chat").json["generation"] == 1
    revision = {"If-Match": made.json["revision"]}
    assert world.call("POST", "/api/endpoints/chat/rollout", headers=revision).status == 200
    assert world.call("POST", "/api/endpoints/chat/rollout", headers=revision).status == 412


def test_a_termination_should_be_refused_if_the_instance_has_changed_since(world: World) -> None:
    instance_id = world.launch()
    path = f"/api/instances/{instance_id}"
    seen = world.call("GET", path).headers["ETag"]
    world.run(20)
    refused = world.call("DELETE", path, headers={"If-Match": seen})
    assert (refused.status, refused.json["code"]) == (412, "instance_changed")
    assert world.show(instance_id)["phase"] == "provisioning"
    seen = world.call("GET", path).headers["ETag"]
    assert world.call("DELETE", path, headers={"If-Match": seen}).status == 202
    assert world.show(instance_id)["phase"] == "terminating"


def test_a_termination_should_be_refused_if_the_instance_changes_under_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance_id = world.launch()
    path = f"/api/instances/{instance_id}"
    seen = world.call("GET", path).headers["ETag"]
    commit = world.store.commit

    def overtaken(*given: Any) -> str:
        monkeypatch.setattr(world.store, "commit", commit)
        world.run(20)
        return commit(*given)

    monkeypatch.setattr(world.store, "commit", overtaken)
    assert world.call("DELETE", path, headers={"If-Match": seen}).status == 412
    assert world.show(instance_id)["ending"] is None


def test_any_state_should_do_where_any_is_asked_for(world: World) -> None:
    instance_id = world.launch()
    assert world.call("DELETE", f"/api/instances/{instance_id}", headers={"If-Match": "*"}).status == 202


def test_an_endpoint_should_be_changed_over_its_etag_as_over_its_revision(world: World) -> None:
    spec = {"name": "chat", "launch": {"model_name": "meta-llama/Llama-3.1-8B-Instruct", "gpu": "A10"}, "replicas": 0}
    assert world.call("POST", "/api/endpoints", spec).status == 201
    path = "/api/endpoints/chat"
    seen = world.call("GET", path).headers["ETag"]
    assert world.call("PATCH", path, {"drain_seconds": 60}, headers={"If-Match": seen}).status == 200
    assert world.call("PATCH", path, {"drain_seconds": 90}, headers={"If-Match": seen}).status == 412
    assert world.call("DELETE", path, headers={"If-Match": seen}).status == 412
    seen = world.call("GET", path).headers["ETag"]
    assert world.call("DELETE", path, headers={"If-Match": seen}).status == 202


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/api/endpoints/chat/keys/some-key", None),
        ("POST", "/api/endpoints", {"name": "chat"}),
        ("POST", "/api/garbage/confirm", {"clusters": ["a"]}),
    ],
)
def test_a_condition_should_be_refused_where_none_is_kept(world: World, method: str, path: str, body: object) -> None:
    refused = world.call(method, path, body, headers={"If-Match": '"seen"'})
    assert (refused.status, refused.json["code"]) == (412, "no_condition")
    assert world.call(method, path, body, headers={"If-Match": "*"}).status != 412
