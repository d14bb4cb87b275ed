"""Wishes without effect are said."""

from typing import Any

import pytest

from shared.planning.launch_warnings import unheeded, unused_gpus
from tests.twins.factories import make_offer, make_request

OWN = {"provider": "slurm", "region": "here", "instance_type": None, "price_per_hour": 0.0}
JOB = {"command": ["x"], "timeout_minutes": 60}


@pytest.mark.parametrize(
    ("request_", "offer", "begins"),
    [
        ({"budget_usd": 5}, OWN, "budget_usd has no effect"),
        ({"provider": "slurm", "disk_size": 500}, OWN, "disk_size has no effect on slurm"),
        ({"vllm_args": ["--ignore-patterns", "*.bin"]}, {}, "--ignore-patterns has no effect"),
        ({"vllm_args": ["--ignore_patterns=*.bin"]}, {}, "--ignore-patterns has no effect"),
        ({"idle_minutes": 60, "max_lifetime_minutes": 60}, {}, "idle_minutes has no effect"),
        ({"labels": {"team": "a", "gpulaunch-deployment": "x"}}, {}, "Not put on the machine: gpulaunch-deployment, "),
        ({"labels": {"SkyPilot-user": "x", "azure.x": "y"}}, {}, "Not put on the machine: SkyPilot-user, azure.x, "),
        ({"job": JOB, "max_lifetime_minutes": 30}, {}, "The job's timeout_minutes has no effect"),
    ],
)
def test_a_wish_without_effect_should_be_said(request_: dict[str, Any], offer: dict[str, Any], begins: str) -> None:
    (said,) = unheeded(make_request(**request_), [make_offer(**offer)])
    assert said.startswith(begins)


FINE: list[tuple[dict[str, Any], list[dict[str, Any]]]] = [
    ({"budget_usd": 5, "disk_size": 500}, [{}]),
    ({"budget_usd": 5}, [OWN, {**OWN, "price_per_hour": 0.4}]),
    ({"idle_minutes": 59, "max_lifetime_minutes": 60}, [{}]),
    ({"idle_minutes": 59}, [OWN]),
    ({"labels": {"team": "a", "gpulaunch-exempt": "true", "gpulaunch": "x"}}, [{}]),
    ({"job": JOB, "max_lifetime_minutes": 90}, [{}]),
    ({"job": {"command": ["x"]}, "max_lifetime_minutes": 90}, [{}]),
]


@pytest.mark.parametrize(("request_", "offers"), FINE)
def test_other_wishes_should_not(request_: dict[str, Any], offers: list[dict[str, Any]]) -> None:
    assert list(unheeded(make_request(**request_), [make_offer(**offer) for offer in offers])) == []


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "vLLM uses 1 of the machine's 4 GPUs, and all are paid for: add --tensor-parallel-size=4"),
        (["-tp", "2"], "vLLM uses 2 of the machine's 4 GPUs, and all are paid for: raise"),
        (["--data-parallel-size=3"], "vLLM uses 3 of the machine's 4 GPUs"),
    ],
)
def test_gpus_that_are_paid_for_and_idle_should_be_said(args: list[str], says: str) -> None:
    said = unused_gpus(make_request(vllm_args=args), [make_offer(gpu_count=8), make_offer(gpu_count=4)])
    assert said is not None
    assert said.startswith(says)


@pytest.mark.parametrize(
    "args",
    [["-tp", "4"], ["-tp=2", "--pipeline-parallel-size", "2"], ["-dp", "4"], ["-tp", "2", "-dp=2"], ["-tp", "8"]],
)
def test_gpus_that_are_all_used_should_not(args: list[str]) -> None:
    assert unused_gpus(make_request(vllm_args=args), [make_offer(gpu_count=4)]) is None
    assert unused_gpus(make_request(), [make_offer(gpu_count=1)]) is None
