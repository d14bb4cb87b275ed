"""azure.yaml: what azd deploys after it has provisioned, and where it finds it."""

import json
import re

import pytest

from tests.unit.infra.snapshots import CASES, resources
from tests.unit.infra.templates import INFRA, ROOT, parsed

TEXT = (ROOT / "azure.yaml").read_text("utf-8")
PARAMETERS = json.loads((INFRA / "main.parameters.json").read_text("utf-8"))["parameters"]


def _services() -> dict[str, str]:
    section = TEXT[TEXT.index("services:\n") : TEXT.index("hooks:\n")]
    parts = re.split(r"^  (\w+):\n", section, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _tagged(case: str) -> set[str]:
    tags = [found.get("tags", {}).get("azd-service-name") for found in resources(case)]
    return {tag for tag in tags if tag}


@pytest.mark.parametrize(
    ("case", "own"),
    [
        ("dev", {"GPULAUNCH_OWN_SKYPILOT": "true", "GPULAUNCH_OWN_GATEWAY": "false"}),
        ("prod", {"GPULAUNCH_OWN_SKYPILOT": "true", "GPULAUNCH_OWN_GATEWAY": "true"}),
        ("existing-server", {"GPULAUNCH_OWN_SKYPILOT": "false", "GPULAUNCH_OWN_GATEWAY": "false"}),
    ],
)
def test_each_service_should_have_a_resource_whenever_its_condition_holds(case: str, own: dict[str, str]) -> None:
    deployed = {
        name
        for name, service in _services().items()
        if not (condition := re.search(r"condition: \$\{(\w+)=\w+\}", service)) or own[condition[1]] == "true"
    }
    assert _tagged(case) == deployed
    assert (CASES / f"{case}.bicepparam").is_file()


def test_conditions_should_have_the_defaults_of_the_parameters() -> None:
    given = {value["value"] for value in PARAMETERS.values()}
    conditions = re.findall(r"condition: (\$\{\w+=\w+\})", TEXT)
    assert len(conditions) == 2
    assert {*conditions} <= given


def test_images_that_azd_has_built_should_be_kept_by_the_next_provision() -> None:
    images = {name for name, service in _services().items() if "language: docker" in service}
    assert images == {"skypilot", "gateway"}
    for name in images:
        value = PARAMETERS[f"{name}Image"]["value"]
        assert value.startswith(f"${{SERVICE_{name.upper()}_IMAGE_NAME=")


@pytest.mark.parametrize("name", ["skypilot", "gateway"])
def test_a_services_image_should_be_there(name: str) -> None:
    service = _services()[name]
    (project,) = re.findall(r"project: (\S+)", service)
    (path,) = re.findall(r"path: (\S+)", service)
    assert (ROOT / project / path).is_file()
    context = re.findall(r"context: (\S+)", service)
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", (ROOT / project / path).read_text("utf-8"), re.MULTILINE)
    folder = ROOT / project / (context[0] if context else ".")
    assert [one for line in copied for one in line.split() if not (folder / one).exists()] == []


def test_hooks_should_find_every_name_that_they_read_among_the_outputs() -> None:
    read = set(re.findall(r'"((?:GPULAUNCH|AZURE)_\w+)"', (ROOT / "deploy" / "secrets.py").read_text("utf-8")))
    outputs = set(parsed(INFRA / "main.bicep")["outputs"])
    # azd knows the subscription itself; the master key is given by hand.
    assert read - outputs == {"AZURE_SUBSCRIPTION_ID", "GPULAUNCH_MASTER_KEY"}
