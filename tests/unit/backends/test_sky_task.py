"""The task that SkyPilot is asked for."""

import re
from dataclasses import replace
from typing import Any, cast

import pytest

from shared.backends.skypilot.task import labels_for, task_for
from shared.clouds.labels import ATTEMPT_LABEL, DEPLOYMENT_LABEL, INSTANCE_LABEL, WORKSPACE_LABEL, is_gc_protected
from shared.domain.provider import LaunchSpec
from tests.twins.clock import START
from tests.twins.factories import DEPLOYMENT, make_attempt, make_instance_id, make_offer

LABELS = {"Team": "Blue Sky", "app.kubernetes.io/name": "a@b:c", "UPPER": "x" * 64, "owner": ""}


def launch_spec(provider: str = "azure", labels: dict[str, str] | None = None, **offer: Any) -> LaunchSpec:
    return LaunchSpec(
        cluster_name=make_attempt().cluster_name,
        instance_id=make_instance_id(),
        attempt=2,
        offer=make_offer(provider=provider, **offer),
        labels=LABELS if labels is None else labels,
        environment={"A": "1"},
        secrets={"B": "2"},
        started_at=START,
        deployment=DEPLOYMENT,
    )


def resources(given: LaunchSpec, ports: list[int] | None = None) -> dict[str, Any]:
    return cast("dict[str, Any]", task_for(given, "run", ports or [], "default")["resources"])


@pytest.mark.parametrize(
    ("provider", "key", "value"),
    [
        ("aws", r"^(?!aws:)[\S]{1,127}$", r"^[\S]{0,255}$"),
        ("gcp", r"^[a-z]([a-z0-9_-]{0,62})?$", r"^[a-z0-9_-]{0,63}$"),
        (
            "kubernetes",
            r"^[a-z0-9]([-a-z0-9_.]{0,61}[a-z0-9])?$",
            r"^([a-zA-Z0-9]([-a-zA-Z0-9_.]{0,61}[a-zA-Z0-9])?)?$",
        ),
        ("azure", r"^[^<>%&\\?/]{1,512}$", r"^.{0,256}$"),
    ],
)
def test_labels_have_the_form_that_the_cloud_takes(provider: str, key: str, value: str) -> None:
    labels = labels_for(launch_spec(provider), "default")
    assert len(labels) == 4 + len(LABELS)
    for name, text in labels.items():
        assert re.match(key, name), name
        assert re.match(value, text), text


def test_our_own_labels_can_t_be_forged() -> None:
    forged = {INSTANCE_LABEL: "x", "GPUlaunch-attempt": "9", "skypilot-cluster-name": "y", "aws:x": "z", "ok": "1"}
    labels = labels_for(launch_spec("aws", forged), "default")
    ours = {
        INSTANCE_LABEL: make_instance_id(),
        ATTEMPT_LABEL: "2",
        WORKSPACE_LABEL: "default",
        DEPLOYMENT_LABEL: DEPLOYMENT,
    }
    assert labels == {**ours, "ok": "1"}


def test_the_exempting_label_passes() -> None:
    assert is_gc_protected(labels_for(launch_spec("gcp", {"gpulaunch-exempt": "Yes"}), "default"))
    assert not is_gc_protected(labels_for(launch_spec("gcp", {"gpulaunch-exempt": "false"}), "default"))
    assert not is_gc_protected(labels_for(launch_spec("gcp", {}), "default"))


def test_a_machine_type_is_asked_for_by_name() -> None:
    asked = resources(launch_spec(), [8000])
    assert asked["infra"] == "azure/eastus"
    assert asked["instance_type"] == "Standard_NV36ads_A10_v5"
    assert asked["use_spot"] is True
    assert asked["ports"] == ["8000"]
    assert "accelerators" not in asked


def test_on_gcp_the_gpu_is_asked_for_beside_the_machine_that_it_is_put_into() -> None:
    asked = resources(launch_spec("gcp", instance_type="n1-highmem-8", gpu="T4", region="us-central1"))
    assert asked["instance_type"] == "n1-highmem-8"
    assert asked["accelerators"] == {"T4": 1}


def test_where_there_are_no_types_the_gpu_is_asked_for_and_nothing_that_slurm_refuses() -> None:
    asked = resources(launch_spec("slurm", instance_type=None, region="e2e", gpu_count=2, use_spot=False))
    assert asked["infra"] == "slurm/e2e"
    assert asked["accelerators"] == {"A10": 2}
    assert not {"instance_type", "use_spot", "ports", "autostop"} & set(asked)


@pytest.mark.parametrize("provider", ["aws", "gcp", "kubernetes"])
def test_a_node_with_an_identity_of_its_own_takes_itself_away_when_its_job_ended(provider: str) -> None:
    assert resources(launch_spec(provider))["autostop"] == {"idle_minutes": 10, "down": True, "wait_for": "jobs"}


def test_azure_s_autodown_would_need_credentials_on_the_node() -> None:
    assert "autostop" not in resources(launch_spec("azure"))


def test_secrets_are_not_among_the_plain_environment() -> None:
    task = task_for(replace(launch_spec(), secrets={"TOKEN": "abc"}), "the script", [], "default")
    assert (task["envs"], task["secrets"], task["run"]) == ({"A": "1"}, {"TOKEN": "abc"}, "the script")
