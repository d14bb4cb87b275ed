"""The OpenAPI document is valid, complete and made of the models."""

import json
from collections.abc import Iterator
from typing import Any, cast

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from gpulaunch.models import decisions, endpoints, garbage, problems, requests, responses
from gpulaunch.models.queries import CostsQuery, InstanceQuery
from gpulaunch.models.requests import LaunchRequest
from gpulaunch.operations import COSTS, LIST, OPERATIONS, Scope
from shared.api.examples import EXAMPLES
from shared.api.openapi import document
from shared.domain import node

SCHEMAS: dict[str, Any] = document()["components"]["schemas"]
MODULES = (requests, responses, endpoints, decisions, garbage, problems, node)
SEED = {
    "model_name": "meta-llama/Llama-3.1-8B-Instruct",
    "provider": "azure",
    "region": "eastus",
    "instance_type": "Standard_NV36ads_A10_v5",
    "use_spot": True,
}


def keys_of(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        held = cast("dict[str, Any]", schema)
        yield from held
        yield from keys_of(list(held.values()))
    elif isinstance(schema, list):
        for inner in cast("list[Any]", schema):
            yield from keys_of(inner)


def test_the_document_should_be_valid_openapi_3_1() -> None:
    OpenAPIV31SpecValidator(document()).validate()  # pyright: ignore[reportUnknownMemberType]
    assert document()["openapi"] == "3.1.0"


def test_every_operation_should_be_in_it_once() -> None:
    found = {
        (method.upper(), path, described["operationId"])
        for path, methods in document()["paths"].items()
        for method, described in methods.items()
    }
    assert found == {(operation.method, operation.path, operation.operation_id) for operation in OPERATIONS}


def test_alerts_should_be_described() -> None:
    schema = document()["components"]["schemas"]["Alert"]["properties"]["data"]
    assert {"instance_id", "sequence", "phase", "budget_usd", "count", "source"} <= set(schema["properties"])
    assert "message" in schema["required"]
    assert "phase" not in schema["required"]
    assert document()["webhooks"]["alert"]["post"]["requestBody"]


def test_fields_should_be_described_by_their_docstrings() -> None:
    schemas = document()["components"]["schemas"]
    assert schemas["LaunchRequest"]["properties"]["gpu"]["description"].startswith("GPU and count per node")
    assert schemas["EndpointRequest"]["properties"]["replicas"] == schemas["EndpointSpec"]["properties"]["replicas"]


def test_every_schema_and_field_should_be_described() -> None:
    bare = [
        f"{name}.{field}"
        for name, schema in SCHEMAS.items()
        for field, described in [("", schema), *schema.get("properties", {}).items()]
        if not described.get("description") and name != "ParameterCounts"
    ]
    assert bare == []


def test_there_should_be_no_union_and_no_name_for_a_field() -> None:
    """Generators make an empty class of each union, and a class of each title."""
    words = {"anyOf", "oneOf", "allOf", "nullable", "x-nullable-reference", "patternProperties"}
    assert words & set(keys_of(document())) == set()
    for name, schema in SCHEMAS.items():
        assert schema.get("title", name) == name
        assert not [field for field, one in schema.get("properties", {}).items() if "title" in one]


def test_what_may_be_null_should_have_null_among_its_types() -> None:
    instance = SCHEMAS["InstanceView"]["properties"]
    assert instance["name"]["type"] == ["string", "null"]
    assert instance["generation"]["type"] == ["integer", "null"]
    # An object that is null in some places only is written out there, else it may be null itself.
    assert SCHEMAS["ReasonView"]["type"] == ["object", "null"]
    assert instance["ending"]["$ref"] == "#/components/schemas/ReasonView"
    replica = SCHEMAS["ReplicaView"]["properties"]["offer"]
    assert SCHEMAS["Offer"]["type"] == "object"
    assert replica["type"] == ["object", "null"]
    assert replica["properties"] == SCHEMAS["Offer"]["properties"]
    # The body of a request is never null, although the same object is in another place.
    assert SCHEMAS["JobResult"]["type"] == "object"


def test_several_kinds_of_a_value_should_be_types_of_one_schema() -> None:
    region = SCHEMAS["LaunchRequest"]["properties"]["region"]
    assert region["type"] == ["string", "array", "null"]
    assert region["items"]["type"] == "string"
    labels = SCHEMAS["LaunchRequest"]["properties"]["labels"]
    assert labels["additionalProperties"]["type"] == "string"
    assert labels["propertyNames"]["pattern"]


def test_fields_of_requests_should_be_left_out_at_will_and_those_of_answers_always_be_there() -> None:
    request = SCHEMAS["LaunchRequest"]
    assert request["required"] == ["model_name"]
    assert not [name for name, one in request["properties"].items() if "default" in one]
    assert request["properties"]["use_spot"]["description"].endswith("By default `true`.")
    for name in ("InstanceView", "InstanceList", "LaunchAnswer", "Offer", "HealthAnswer"):
        assert SCHEMAS[name]["required"] == list(SCHEMAS[name]["properties"])
    problem = SCHEMAS["Problem"]
    assert {"limit", "request_id"} & set(problem["required"]) == set()
    assert problem["properties"]["request_id"]["type"] == "string"


def test_numbers_of_bytes_and_parameters_should_have_64_bits_and_others_32() -> None:
    wide = {"fetched_bytes", "total_bytes", "size", "part_bytes"}
    wide |= {"tokens_per_month", "tokens_this_month", "requests_this_month"}
    for name, schema in SCHEMAS.items():
        for field, one in schema.get("properties", {}).items():
            if "integer" in one.get("type", ()) or one.get("type") == "integer":
                assert one["format"] == ("int64" if field in wide else "int32"), f"{name}.{field}"
    assert SCHEMAS["ParameterCounts"]["additionalProperties"]["format"] == "int64"


def test_times_and_addresses_should_have_a_format() -> None:
    times = {"at", "since", "timestamp", "billed_from", "confirmed_until", "idle_since"}
    for name, schema in SCHEMAS.items():
        for field, one in schema.get("properties", {}).items():
            if field in times or field.endswith("_at"):
                assert one["format"] == "date-time", f"{name}.{field}"
    for name, field in (
        ("InstanceView", "endpoint"),
        ("InstanceList", "nextLink"),
        ("EndpointView", "address"),
        ("OperationView", "resourceLocation"),
        ("ModelFile", "url"),
    ):
        assert SCHEMAS[name]["properties"][field]["format"] == "uri"


def test_values_that_later_versions_may_add_should_be_texts_and_those_of_a_query_an_enumeration() -> None:
    phase = SCHEMAS["InstanceView"]["properties"]["phase"]
    assert phase["type"] == "string"
    assert "enum" not in phase
    assert {"queued", "ready", "failed"} <= set(phase["x-extensible-enum"])
    query = document()["paths"]["/api/instances"]["get"]["parameters"][0]
    assert (query["name"], query["schema"]["enum"][0]) == ("phase", "queued")


def test_examples_should_be_what_the_models_take() -> None:
    for operation in OPERATIONS:
        if operation.body is not None:
            assert operation.body in EXAMPLES
    for name, example in EXAMPLES.items():
        model = next(getattr(module, name) for module in MODULES if hasattr(module, name))
        model.model_validate_json(json.dumps(example), strict=True)


def test_names_of_operations_should_be_without_underscores() -> None:
    found = [one["operationId"] for methods in document()["paths"].values() for one in methods.values()]
    assert len(set(found)) == len(found)
    assert "launchInstance" in found
    assert all(name.isalnum() and name[0].islower() for name in found)


def test_the_document_should_name_its_server_its_licence_and_how_alerts_are_signed() -> None:
    assert document()["servers"][0]["url"] == "/"
    assert document()["info"]["license"]["identifier"] == "Apache-2.0"
    (requirement,) = document()["webhooks"]["alert"]["post"]["security"]
    assert set(requirement) <= set(document()["components"]["securitySchemes"])


def test_health_should_be_described_as_it_is_answered() -> None:
    answers = document()["paths"]["/api/health"]["get"]["responses"]
    content = answers["503"]["content"]
    assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/HealthAnswer"}
    assert content["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/Problem"}


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
    assert phase["schema"]["type"] == "string"


def test_a_termination_should_be_answered_by_an_instance_or_an_unreadable_one() -> None:
    answer = document()["paths"]["/api/instances/{instanceId}"]["delete"]["responses"]["202"]
    assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/TerminationView"}
    schema = SCHEMAS["TerminationView"]
    assert set(schema["required"]) == {"instance_id", "phase", "mode", "provider"}
    assert {"why", "cost_usd", "ending"} <= set(schema["properties"])


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
