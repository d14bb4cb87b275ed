"""A machine that has built no image must not replace those that run."""

from pathlib import Path
from typing import Any

import pytest

from deploy import images as deploy_images
from deploy.arm import Arm
from deploy.images import images, keep, unknown_images
from tests.standins.azure import SUBSCRIPTION, ResourceManager
from tests.standins.azure.shapes import Resource
from tests.unit.infra.snapshots import container
from tests.unit.infra.templates import INFRA, ROOT

HERE = {"AZURE_SUBSCRIPTION_ID": SUBSCRIPTION, "AZURE_ENV_NAME": "prod"}
BUILT = "cr1.azurecr.io/gpulaunch/skypilot-prod:azd-deploy-1"


def _deploy(manager: ResourceManager, name: str, image: str, **tags: str) -> None:
    manager.add_group("rg-prod")
    properties: dict[str, Any] = {"template": {"containers": [{"image": image}]}}
    app = Resource(
        group="rg-prod",
        namespace="Microsoft.App",
        kind="containerApps",
        name=name,
        location="eastus",
        created_at=manager.now(),
        tags=tags,
        properties=properties,
    )
    manager.add(app)


def test_an_image_that_runs_should_be_known_before_anything_is_provisioned(manager: ResourceManager, arm: Arm) -> None:
    _deploy(manager, "ca-skypilot-1", BUILT, **{"azd-service-name": "skypilot"})
    _deploy(manager, "ca-other", "cr1.azurecr.io/other:1")
    assert unknown_images(arm, HERE) == {"SERVICE_SKYPILOT_IMAGE_NAME": BUILT}


def test_an_image_that_azd_knows_should_stay_as_it_is(manager: ResourceManager, arm: Arm) -> None:
    _deploy(manager, "ca-skypilot-1", BUILT, **{"azd-service-name": "skypilot"})
    assert unknown_images(arm, HERE | {"SERVICE_SKYPILOT_IMAGE_NAME": "cr1.azurecr.io/newer:2"}) == {}


def test_a_placeholder_should_not_be_kept(manager: ResourceManager, arm: Arm) -> None:
    _deploy(manager, "ca-gateway-1", container("prod", "gateway")["image"], **{"azd-service-name": "gateway"})
    assert unknown_images(arm, HERE) == {}


@pytest.mark.parametrize("missing", ["AZURE_SUBSCRIPTION_ID", "AZURE_ENV_NAME"])
def test_before_azd_knows_where_nothing_should_be_asked(manager: ResourceManager, arm: Arm, missing: str) -> None:
    assert unknown_images(arm, {name: value for name, value in HERE.items() if name != missing}) == {}
    assert manager.calls == []


def test_an_environment_that_is_not_deployed_yet_should_have_none(arm: Arm) -> None:
    assert unknown_images(arm, HERE) == {}


def test_azd_should_be_told_by_the_names_that_the_template_reads(
    manager: ResourceManager, arm: Arm, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], *, check: bool) -> None:
        assert check
        ran.append(command)

    def connected(_: object) -> Arm:
        return arm

    keep("A", "b", run)
    assert ran == [["azd", "env", "set", "A", "b"]]
    for service in ("skypilot", "gateway"):
        _deploy(manager, f"ca-{service}-1", BUILT, **{"azd-service-name": service})
    kept: dict[str, str] = {}
    monkeypatch.setattr(deploy_images, "Arm", connected)
    monkeypatch.setattr(deploy_images, "keep", kept.__setitem__)
    for name, value in HERE.items():
        monkeypatch.setenv(name, value)
    images()
    parameters = (INFRA / "main.parameters.json").read_text("utf-8")
    assert len(kept) == 2
    assert [name for name in kept if f"${{{name}=}}" not in parameters] == []


def test_azd_should_ask_before_it_provisions() -> None:
    text = (Path(ROOT) / "azure.yaml").read_text("utf-8")
    assert "run: .venv/bin/python -m deploy images" in text[text.index("preprovision:") : text.index("postprovision:")]
