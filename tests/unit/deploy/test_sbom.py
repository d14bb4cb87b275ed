"""The bill of materials: valid, whole, and the same for the same locks."""

import json
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from deploy.sbom import bill
from tests.unit.infra.test_package import locked

BILL = bill()


def test_the_bill_should_be_valid_by_its_schema() -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(BILL)) is None
    broken: dict[str, Any] = {**BILL, "components": [{"name": "x"}]}
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(broken)) is not None


def test_every_locked_package_should_be_in_it_with_hashes() -> None:
    there = {(one["name"], one["version"]): one for one in BILL["components"]}
    for name, versions in (locked("app") | locked("skypilot-server")).items():
        for version in versions:
            assert there[name, version]["hashes"], name


@pytest.mark.parametrize(("name", "part"), [("htmx.org", "pages"), ("redoc", "pages"), ("skypilot", "skypilot-server")])
def test_what_is_deployed_beside_the_app_should_be_in_it(name: str, part: str) -> None:
    (component,) = (one for one in BILL["components"] if one["name"] == name)
    assert component["properties"] == [{"name": "gpulaunch:part", "value": part}]


def test_what_is_only_used_for_tests_should_not_be_in_it() -> None:
    assert not {"pytest", "moto", "ruff"} & {one["name"] for one in BILL["components"]}


def test_the_same_locks_should_make_the_same_bill() -> None:
    assert bill() == BILL
