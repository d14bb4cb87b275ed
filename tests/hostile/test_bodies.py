"""Bodies, headers and queries that no schema would make: refused in the document's words, never a fault of ours."""

import itertools
import json
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpulaunch.models.problems import PROBLEM_TYPE
from shared.api.http import API_HEADERS
from shared.api.parse import MAX_BODY, MAX_NODE_BODY
from tests.functional.scripted import NodeWorld
from tests.functional.world import SEED, Answer, World
from tests.hostile import strategies

SOURCES = itertools.count()
NODE_CALLS = ("register", "progress", "heartbeat", "notice", "complete")
SAFE = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    database=None,
)


@pytest.fixture(scope="module")
def push() -> Iterator[tuple[NodeWorld, str]]:
    world = NodeWorld()
    instance_id = world.to_ready()
    yield world, instance_id
    assert world.errors == []


def refused(answer: Answer, *statuses: int) -> None:
    assert answer.status in statuses, answer.body
    assert answer.headers["Content-Type"] == PROBLEM_TYPE
    assert answer.json["status"] == answer.status
    assert answer.json["code"]


BODIES = [
    b"",
    b"null",
    b"[]",
    b'"text"',
    b"\xff\xfe\x00",
    b"{" * 100_00,
    b"[" * 60_000,
    b'{"model_name": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    b'{"model_name": 1e999}',
    b'{"model_name": NaN}',
    b'{"model_name": ' + b"9" * 5000 + b"}",
    b'{"\\ud800": 1}',
    b'{"model_name": "\\ud800"}',
    b'{"labels": {"\\udfff": "\\ud800"}}',
    b'{"model_name": "\\u0000"}',
    b'{"__proto__": {}, "__class__": "x"}',
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_strange_bodies_should_be_refused_by_launch_and_by_every_node_call(
    push: tuple[NodeWorld, str], body: bytes
) -> None:
    world, instance_id = push
    refused(world.call("POST", "/api/instances/launch", raw=body), 400, 422)
    headers = {"Authorization": f"Bearer {world.token(instance_id)}"}
    for name in NODE_CALLS:
        answer = world.call("POST", f"/api/nodes/{instance_id}/{name}", raw=body, token=None, headers=headers)
        refused(answer, 400, 422)


@SAFE
@given(body=st.binary(max_size=300) | strategies.json_bytes)
def test_any_bytes_should_be_answered_as_documented(push: tuple[NodeWorld, str], body: bytes) -> None:
    world, instance_id = push
    refused(world.call("POST", "/api/instances/launch", raw=body), 400, 422)
    headers = {"Authorization": f"Bearer {world.token(instance_id)}"}
    for name in ("register", "progress", "notice", "complete"):
        answer = world.call("POST", f"/api/nodes/{instance_id}/{name}", raw=body, token=None, headers=headers)
        refused(answer, 400, 422)


def test_bodies_over_the_limit_should_be_refused_before_they_are_read(push: tuple[NodeWorld, str]) -> None:
    world, instance_id = push
    refused(world.call("POST", "/api/instances/launch", raw=b"{" + b" " * MAX_BODY), 413)
    headers = {"Authorization": f"Bearer {world.token(instance_id)}"}
    for name, limit in (("progress", MAX_NODE_BODY), ("register", MAX_NODE_BODY), ("heartbeat", MAX_BODY)):
        path = f"/api/nodes/{instance_id}/{name}"
        refused(world.call("POST", path, raw=b"{" + b" " * limit, token=None, headers=headers), 413)


def test_bodies_at_the_limit_should_be_read(push: tuple[NodeWorld, str]) -> None:
    world, _ = push
    body = json.dumps(SEED).encode()
    assert world.call("POST", "/api/instances/launch", raw=body + b" " * (MAX_BODY - len(body))).status == 202


@SAFE
@given(value=strategies.header_text)
def test_any_token_and_key_should_be_answered_as_documented(push: tuple[NodeWorld, str], value: str) -> None:
    world, instance_id = push
    # More wrong tokens than one address has in a minute.
    source = {"X-Forwarded-For": f"203.0.113.{next(SOURCES) % 250}"}
    refused(world.call("GET", "/api/instances", token=value, headers=source), 401)
    headers = {"Authorization": f"Bearer {value}", **source}
    refused(world.call("GET", f"/api/nodes/{instance_id}/assignment", token=None, headers=headers), 401)
    assert world.call("GET", f"/api/instances/{instance_id}", headers={"If-None-Match": value}).status in (200, 304)
    answer = world.call("POST", "/api/instances/launch", SEED, headers={"Idempotency-Key": value})
    if answer.status != 202:
        refused(answer, 422)


@SAFE
@given(value=strategies.header_text)
def test_any_query_should_be_answered_as_documented(push: tuple[NodeWorld, str], value: str) -> None:
    world, instance_id = push
    for name in ("phase", "provider", "live", "page_size", "continuation_token"):
        refused(_ask(world, "/api/instances", {name: f"{value}x"}), 422)
    assert _ask(world, "/api/instances", {"label": value}).status == 200
    refused(_ask(world, f"/api/instances/{instance_id}/events", {"after": f"{value}x"}), 422)
    refused(_ask(world, f"/api/instances/{instance_id}/events", {"befor": value}), 422)
    assert _ask(world, "/api/catalog", {"region": value, "gpu": value}).status == 200


def _ask(world: World, path: str, query: dict[str, str]) -> Answer:
    return world.call("GET", f"{path}?{urllib.parse.urlencode(query, errors='surrogatepass')}")


TEXTS = [
    "a\r\nSet-Cookie: x=1",
    "a\nb",
    "a\x00b",
    "\uff41\uff42",
    "a\u202eb",
    "\u00e9",
    "a\tb",
    "a" * 5000,
    "\u2028x",
]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("field", ["name", "model_name", "label_key", "label_value", "region", "instance_type"])
def test_names_and_labels_should_hold_nothing_that_could_become_a_header(
    push: tuple[NodeWorld, str], field: str, text: str
) -> None:
    world, _ = push
    changes: dict[str, Any] = {
        "label_key": {"labels": {text: "x"}},
        "label_value": {"labels": {"x": text}},
    }.get(field, {field: text})
    refused(world.call("POST", "/api/instances/launch", SEED | changes), 422)


def test_no_header_of_an_answer_should_be_made_of_what_was_sent(push: tuple[NodeWorld, str]) -> None:
    world, _ = push
    labels = {"team": "a b:c@d/e"}
    answer = world.call("POST", "/api/instances/launch", SEED | {"labels": labels, "name": "x-y"})
    lasting = ("Location", "Operation-Location", "Retry-After")
    assert set(answer.headers) == {"Content-Type", *lasting, "X-Request-Id", *API_HEADERS}
    assert answer.headers["Location"] == f"http://test/api/instances/{answer.json['instance_id']}"


@pytest.mark.parametrize("number", ["1", "1.0", '"1"', "true"])
def test_types_should_be_those_of_the_document(push: tuple[NodeWorld, str], number: str) -> None:
    """Found by schemathesis: strings were taken for numbers."""
    world, _ = push
    body = json.dumps(SEED)[:-1] + f', "max_lifetime_minutes": {number}}}'
    assert world.call("POST", "/api/instances/launch", raw=body.encode()).status == (202 if number == "1" else 422)


def test_a_node_call_for_no_instance_should_be_answered_as_documented(push: tuple[NodeWorld, str]) -> None:
    """Found by schemathesis: the document did not know the 404."""
    world, _ = push
    document = world.call("GET", "/api/openapi.json").json
    for name in NODE_CALLS:
        refused(world.call("POST", f"/api/nodes/inst-x/{name}", {}, token=None), 404)
        assert "404" in document["paths"][f"/api/nodes/{{instanceId}}/{name}"]["post"]["responses"]
