"""The OpenAPI document is valid, complete and made of the models."""

import json
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from gpulaunch.models.queries import CostsQuery, InstanceQuery
from gpulaunch.models.requests import LaunchRequest
from gpulaunch.operations import COSTS, LIST, OPERATIONS, Scope
from shared.api.openapi import document

SEED = {
    "model_name": "meta-llama/Llama-3.1-8B-Instruct",
    "provider": "azure",
    "region": "eastus",
    "instance_type": "Standard_NV36ads_A10_v5",
    "use_spot": True,
}


def test_the_document_should_be_valid_openapi_3_1() -> None:
    OpenAPIV31SpecValidator(document()).validate()  # pyright: ignore[reportUnknownMemberType]
    assert document()["openapi"] == "3.1.0"


def test_every_operation_should_be_in_it_once() -> None:
    found = {
        (method.upper(), path, described["operationId"])
        for path, methods in document()["paths"].items()
        for method, described in methods.items()
    }
    assert found == {(operation.method, operation.path, operation.name) for operation in OPERATIONS}


def test_alerts_should_be_described() -> None:
    schema = document()["components"]["schemas"]["AlertData"]
    assert {"instance_id", "sequence", "phase", "message"} <= set(schema["properties"])
    assert document()["webhooks"]["alert"]["post"]["requestBody"]


def test_fields_should_be_described_by_their_docstrings() -> None:
    properties = document()["components"]["schemas"]["LaunchRequest"]["properties"]
    assert properties["gpu"]["description"].startswith("GPU and count per node")
    assert "description" not in properties["labels"]  # it has no docstring


def test_every_reference_should_lead_somewhere() -> None:
    text = json.dumps(document())
    schemas = document()["components"]["schemas"]
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names
    assert names <= set(schemas)


def test_guarded_calls_should_say_what_token_they_want() -> None:
    for operation in OPERATIONS:
        described = document()["paths"][operation.path][operation.method.lower()]
        assert bool(described["security"]) == (operation.scope is not Scope.OPEN)
        assert ("401" in described["responses"]) == (operation.scope is not Scope.OPEN)


def test_queries_should_be_described_by_the_models_that_validate_them() -> None:
    for operation, kind in ((LIST, InstanceQuery), (COSTS, CostsQuery)):
        described = document()["paths"][operation.path]["get"]["parameters"]
        assert tuple(one["name"] for one in described if one["in"] == "query") == kind.names()
        assert all(one["description"] for one in described)
    phase = document()["paths"]["/api/instances"]["get"]["parameters"][0]
    assert phase["schema"] == {"$ref": "#/components/schemas/Phase"}


def test_a_termination_should_be_answered_by_an_instance_or_an_unreadable_one() -> None:
    answer = document()["paths"]["/api/instances/{instanceId}"]["delete"]["responses"]["202"]
    names = [one["$ref"].rpartition("/")[2] for one in answer["content"]["application/json"]["schema"]["anyOf"]]
    assert names == ["InstanceView", "UnreadableView"]


def test_the_launch_body_should_be_the_model_that_validates_it() -> None:
    schema: dict[str, Any] = document()["components"]["schemas"]["LaunchRequest"]
    assert set(schema["properties"]) == set(LaunchRequest.model_fields)
    assert schema["additionalProperties"] is False
    assert LaunchRequest.model_validate(SEED).region == "eastus"


@pytest.mark.parametrize("secret", ["master_key", "hub_token", "admin_tokens"])
def test_no_secret_should_have_a_place_in_what_users_see(secret: str) -> None:
    schemas = document()["components"]["schemas"]
    for name in ("ConfigAnswer", "InstanceView", "LaunchAnswer", "EventList"):
        assert secret not in schemas[name]["properties"]
