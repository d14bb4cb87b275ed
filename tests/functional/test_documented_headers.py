"""Each header of an answer is one that the document has for that operation and status, and none of those is missing."""

from collections.abc import Mapping
from typing import Any

import pytest

from gpulaunch.operations import OPERATIONS, Operation
from shared.api.http import API_HEADERS
from shared.api.openapi import document
from tests.functional.world import SEED, Answer, World

EVERYWHERE = {"Content-Type", *API_HEADERS}
"""Of every answer, whatever it is; what a client does with them is no part of this API."""
SPEC = {"name": "chat", "launch": {"model_name": "meta-llama/Llama-3.1-8B-Instruct", "gpu": "A10"}, "replicas": 1}
LAUNCH = "/api/instances/launch"


def described(operation: Operation, status: int) -> dict[str, Any]:
    found: dict[str, Any] = document()["paths"][operation.path][operation.method.lower()]["responses"][str(status)]
    if "$ref" in found:
        found = document()["components"]["responses"][found["$ref"].rpartition("/")[2]]
    return found


def check(operation: Operation, answer: Answer) -> None:
    documented = set(described(operation, answer.status)["headers"])
    required = {name for name in documented if document()["components"]["headers"][name].get("required")}
    sent = set(answer.headers) - EVERYWHERE
    assert required <= sent <= documented, f"{operation.name} {answer.status}"


def path_of(operation: Operation, world: World, instance_id: str) -> str:
    values = {"instanceId": instance_id, "endpointName": "chat", "keyId": "none", "operation": "launch"}
    return operation.path.format(**values)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.name)
def test_headers_of_refusals_should_be_documented(operation: Operation) -> None:
    world = World()
    instance_id = world.launch()
    path = path_of(operation, world, instance_id)
    text = {"Content-Type": "text/plain"}
    checked = {
        answer.status
        for answer in (
            world.call(operation.method, path, token=None),
            world.call(operation.method, path, raw=b"x", headers=text),
            world.call(operation.method, path, raw=b"{", headers={"Content-Type": "application/json"}),
        )
        if check(operation, answer) is None
    }
    assert 415 in checked


def test_headers_of_answers_should_be_documented() -> None:
    world = World()
    instance_id = str(world.call("POST", LAUNCH, SEED).json["instance_id"])
    assert world.call("POST", "/api/endpoints", SPEC).status == 201
    bodies: Mapping[str, object] = {
        "launch_instance": SEED,
        "plan_launch": SEED,
        "create_endpoint_key": {"name": "web"},
    }
    bodies = {**bodies, "create_endpoint": SPEC, "put_endpoint": {"launch": SPEC["launch"]}, "change_endpoint": {}}
    seen: set[str] = set()
    for operation in sorted(OPERATIONS, key=lambda one: one.method == "DELETE"):
        if operation.body is None or operation.name in bodies:
            path = path_of(operation, world, instance_id)
            answer = world.call(operation.method, path, bodies.get(operation.name))
            check(operation, answer)
            seen |= set(answer.headers)
            if "ETag" in answer.headers and operation.method == "GET":
                known = {"If-None-Match": answer.headers["ETag"]}
                again = world.call("GET", path, headers=known)
                assert again.status == 304
                check(operation, again)
    assert {"Location", "Operation-Location", "Retry-After", "ETag"} <= seen


def test_headers_of_repeated_launches_should_be_documented() -> None:
    world = World()
    (operation,) = (one for one in OPERATIONS if one.path == LAUNCH)
    for body, status in ((SEED, 202), ({**SEED, "name": "other"}, 409)):
        answer = world.call("POST", LAUNCH, body, headers={"Repeatability-Request-ID": "one"})
        assert answer.status == status
        assert "Repeatability-Result" in answer.headers
        check(operation, answer)
