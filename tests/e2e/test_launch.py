"""Launches for real, over HTTP only: SkyPilot, Slurm, vLLM and the object store's protocol; pretended are the GPUs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from gpulaunch import Credentials, node_client
from tests.e2e.stack.app import MASTER_KEY, TOKEN, App
from tests.e2e.stack.assembly import Stack
from tests.e2e.stack.processes import wait_until

READY_SECONDS = 300
"""A launch takes 20 s, vLLM 26 s on two idle cores; the rest is for a busy machine."""
GONE_SECONDS = 180
PHASES = [
    "queued",
    "validating",
    "provisioning",
    "installing",
    "loading_model",
    "starting_server",
    "registering",
    "ready",
    "terminating",
    "terminated",
]


@pytest.fixture(scope="module")
def app(stack: Stack) -> Iterator[App]:
    running = App(stack)
    running.start()
    yield running
    running.stop()


def ask(app: App, instance_id: str) -> None:
    """The endpoint answers with its key and refuses without it."""
    access = app.call("GET", f"/api/instances/{instance_id}/credentials")
    question = {
        "model": access["model_name"],
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 8,
    }
    url = f"{access['endpoint']}/chat/completions"
    with node_client(Credentials.model_validate(access), timeout=60) as client:
        answer = client.post(url, json=question, headers={"Authorization": f"Bearer {access['api_key']}"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["usage"]["completion_tokens"] > 0
        for headers in ({}, {"Authorization": f"Bearer {access['api_key'][:-1]}x"}):
            assert client.post(url, json=question, headers=headers).status_code == 401


def nothing_left(stack: Stack) -> None:
    """No job in Slurm, no cluster in SkyPilot."""
    wait_until(lambda: not stack.slurm.squeue(), seconds=60, what="an empty squeue")
    assert not re.search(r"\bgl-", stack.sky.cli("status"))


def jobs(stack: Stack) -> list[str]:
    return [job.name for job in stack.slurm.squeue()]


def test_a_launch_serves_the_model_and_goes_when_told(
    app: App, stack: Stack, bare: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    instance_id = app.launch()
    app.wait(instance_id, "ready", seconds=READY_SECONDS)
    ready = time.monotonic() - began
    ask(app, instance_id)
    assert len(jobs(stack)) == 1
    app.end(instance_id)
    app.wait(instance_id, "terminated", seconds=GONE_SECONDS)
    nothing_left(stack)
    phases = [event["data"]["to"] for event in app.events(instance_id) if event["type"] == "phase"]
    assert [phase for phase in PHASES if phase in phases] == phases
    assert {"provisioning", "registering", "ready", "terminating", "terminated"} <= set(phases)
    spent = app.durations(instance_id)
    with capsys.disabled():
        print("\na launch through gpulaunch:")
        print("\n".join(f"  {phase:<34}{seconds:7.1f} s" for phase, seconds in spent.items()))
        print(f"  {'accepted until ready':<34}{ready:7.1f} s")
        print("a bare sky launch of the same task, before it:")
        print("\n".join(f"  {stage:<34}{seconds:7.1f} s" for stage, seconds in bare.items()))
        until_healthy = bare["sky launch"] + bare["job start and vLLM until healthy"]
        print(f"  {'until healthy':<34}{until_healthy:7.1f} s, ratio {ready / until_healthy:.2f}")


def test_a_launch_deleted_in_mid_launch_leaves_nothing(app: App, stack: Stack) -> None:
    instance_id = app.launch()
    app.wait(instance_id, "provisioning", seconds=60)
    # In the midst of SkyPilot's work: the job is there, the node's set-up is not done.
    wait_until(lambda: jobs(stack), seconds=90, what="the Slurm job")
    app.end(instance_id)
    shown = app.wait(instance_id, "terminated", seconds=GONE_SECONDS)
    assert shown["ending"]["reason"] == "user_request"
    nothing_left(stack)


def test_a_killed_app_goes_on_and_a_lost_node_is_replaced(app: App, stack: Stack) -> None:
    instance_id = app.launch()
    app.wait(instance_id, "provisioning", seconds=60)
    wait_until(lambda: jobs(stack), seconds=90, what="the Slurm job")
    app.kill()
    time.sleep(5)
    app.start()
    app.wait(instance_id, "ready", seconds=READY_SECONDS)
    first = stack.slurm.squeue()
    assert len(first) == 1
    assert len(app.show(instance_id)["attempts"]) == 1
    ask(app, instance_id)

    stack.slurm.cancel(first[0].job_id)
    cancelled = time.monotonic()
    app.wait(instance_id, "recovering", "provisioning", seconds=180)
    noticed = time.monotonic() - cancelled
    app.wait(instance_id, "ready", seconds=READY_SECONDS)
    shown = app.show(instance_id)
    assert [attempt["state"] for attempt in shown["attempts"]] == ["gone", "submitted"]
    assert shown["attempts"][0]["failure"]["reason"] in ("node_lost", "unhealthy", "evicted")
    assert shown["recoveries"] == 1
    (second,) = stack.slurm.squeue()
    assert second.job_id != first[0].job_id
    ask(app, instance_id)
    print(f"\na job cancelled behind our back was noticed after {noticed:.0f} s")
    app.end(instance_id)
    app.wait(instance_id, "terminated", seconds=GONE_SECONDS)
    nothing_left(stack)


def test_no_secret_is_in_what_skypilot_and_the_logs_keep(app: App, stack: Stack) -> None:
    secrets = [TOKEN, MASTER_KEY, stack.s3.secret_access_key]
    kept = [*stack.processes.logs.glob("app.log"), *(stack.sky.home / "sky_logs").rglob("*.log")]
    kept += [stack.sky.home / ".sky" / "state.db"]
    assert kept
    for path in kept:
        text = path.read_bytes()
        for secret in secrets:
            assert secret.encode() not in text, f"a secret is in {path}"
