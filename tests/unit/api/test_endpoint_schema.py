"""The JSON schema of files of endpoints takes what the model takes, and describes every field."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gpulaunch.models.endpoint_file import EndpointFile
from gpulaunch.models.endpoints import NOT_OF_REPLICAS
from shared.api.endpoint_schema import endpoint_file_schema

LAUNCH: dict[str, Any] = {"model_name": "org/model", "gpu": "A10"}


def is_valid(launch: dict[str, Any], **fields: Any) -> bool:
    file = {"endpoints": [{"name": "chat", "launch": LAUNCH | launch, **fields}]}
    return Draft202012Validator(endpoint_file_schema()).is_valid(file)  # pyright: ignore[reportUnknownMemberType]


def test_the_schema_should_be_one() -> None:
    Draft202012Validator.check_schema(endpoint_file_schema())


@pytest.mark.parametrize(
    ("launch", "fields"),
    [
        ({}, {}),
        (
            {"region": ["eastus", "westus2"], "labels": {"team": "x"}, "vllm_args": ["--max-model-len=8192"]},
            {"replicas": 3},
        ),
        ({"region": None}, {"drain_seconds": 0}),
    ],
)
def test_what_the_model_takes_should_be_valid(launch: dict[str, Any], fields: dict[str, Any]) -> None:
    EndpointFile.model_validate({"endpoints": [{"name": "chat", "launch": LAUNCH | launch, **fields}]})
    assert is_valid(launch, **fields)


REFUSED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"gpuu": "A10"}, {}),
    ({"gpu": 10}, {}),
    ({"labels": {"team": 5}}, {}),
    ({}, {"replicas": -1}),
    ({}, {"name": "Chat"}),
    *(({name: None}, {}) for name in NOT_OF_REPLICAS),
]


@pytest.mark.parametrize(("launch", "fields"), REFUSED)
def test_what_makes_no_sense_in_a_file_should_not_be_valid(launch: dict[str, Any], fields: dict[str, Any]) -> None:
    assert not is_valid(launch, **fields)


def test_every_field_should_be_described() -> None:
    schema = endpoint_file_schema()
    for one in (schema, *schema["$defs"].values()):
        assert [name for name, field in one.get("properties", {}).items() if not field.get("description")] == []
    assert set(schema["$defs"]) == {"EndpointLaunch", "EndpointRequest"}
