"""Whatever is sent, the answer is one that the document describes, and no fault of the control plane.

`make test` sends some hundred requests; `make fuzz` (`GPULAUNCH_FUZZ=800`) ten thousand and more.
"""

import os
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CHECKS  # pyright: ignore[reportUnknownVariableType] - half typed
from schemathesis.config import (
    CoveragePhaseConfig,
    GenerationConfig,
    PhasesConfig,
    ProjectConfig,
    ProjectsConfig,
    SchemathesisConfig,
)
from schemathesis.generation import GenerationMode

from tests.functional.world import SEED
from tests.hostile.api import Api

EXAMPLES = int(os.environ.get("GPULAUNCH_FUZZ", "10"))
"""Per operation, beside the cases that schemathesis makes of the document itself."""
SUPPRESSED = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
CHECKED = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "negative_data_rejection",
)
checks_by_name = cast("Any", CHECKS)
api = Api()
schema: Any = schemathesis.openapi.from_wsgi(
    "/api/openapi.json",
    api,
    config=SchemathesisConfig(
        projects=ProjectsConfig(
            default=ProjectConfig(
                generation=GenerationConfig(
                    deterministic=EXAMPLES < 100, database="none", with_security_parameters=False
                ),
                # A method that no function has is answered by the host, before any of ours is asked.
                phases=PhasesConfig(coverage=CoveragePhaseConfig(unexpected_methods=set())),
            )
        )
    ),
)


@pytest.fixture(autouse=True)
def world() -> Iterator[None]:
    """A world for each operation: whoever ends instances ends nobody else's."""
    api.fresh()
    yield
    api.close()


@pytest.fixture(autouse=True, scope="module")
def told() -> Iterator[None]:
    yield
    counted = ", ".join(f"{name} {status}: {count}" for (name, status), count in sorted(api.answers.items()))
    print(f"\n{api.answers.total()} requests ({counted})")


@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=SUPPRESSED)
def test_every_answer_should_be_one_of_the_document(case: Any) -> None:
    if "instanceId" in case.path and _given(case).startswith("inst-"):
        case.path_parameters["instanceId"] = api.an_instance()
    if case.path == "/api/instances/launch" and case.meta.generation.mode is GenerationMode.POSITIVE:
        # No offer is found by chance; what else the document allows stays as it was made.
        case.body = {**case.body, **SEED, "gpu": None, "max_hourly_cost": None}
    headers = api.headers_for(case.path, _given(case))
    response = case.call(headers=headers)
    # The host drops parameters without a value before a function sees them, so that they can't be refused.
    query: dict[str, object] = case.query or {}
    unseen = any(map(_is_empty, query.values()))
    # A body that is too large is refused before it is known to be wrong as well.
    accepted = unseen or response.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    checks = [checks_by_name.get_one(name) for name in CHECKED if not (accepted and name == "negative_data_rejection")]
    case.validate_response(response, checks=checks)


def _is_empty(value: object) -> bool:
    """Whether a parameter is sent without a value: `?page_size=`."""
    return all(map(_is_empty, cast("list[object]", value))) if isinstance(value, list) else value in ("", None)


def _given(case: Any) -> str:
    parameters: dict[str, object] = case.path_parameters or {}
    return str(parameters.get("instanceId", "inst-"))
