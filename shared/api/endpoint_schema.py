"""The JSON schema of the file that `gpulaunch apply` takes, generated from its model."""

from functools import lru_cache
from typing import Any

from gpulaunch.models import endpoint_file, endpoints, requests
from gpulaunch.models.endpoint_file import EndpointFile
from gpulaunch.models.endpoints import NOT_OF_REPLICAS
from shared.api.descriptions import add_descriptions


@lru_cache(maxsize=1)
def endpoint_file_schema() -> dict[str, Any]:
    schema = EndpointFile.model_json_schema()
    definitions: dict[str, Any] = schema["$defs"]
    add_descriptions({"EndpointFile": schema, **definitions}, (endpoint_file, endpoints, requests))
    for field in NOT_OF_REPLICAS:
        definitions["EndpointLaunch"]["properties"].pop(field)
    definitions.pop("Job")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Endpoints of gpulaunch",
    }
