"""Nodes whose control plane is gone for good: the app, its storage and SkyPilot's server are killed and stay dead.

Two instances run side by side on the Slurm node: one has its deadline before its lease ends, the other a lease only.
Nobody but Slurm and the two agents is left to end them.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from shared.auth import Deriver, Purpose
from tests.e2e.stack.app import MASTER_KEY, App
from tests.e2e.stack.assembly import Stack
from tests.e2e.stack.processes import StackError, port_open, run, wait_until

TMP = Path("/tmp")  # noqa: S108 - where SkyPilot writes a job's script on a Slurm node
LEASE_SECONDS = 75
"""The shortest that is allowed is 60; the rest is for heartbeats, every fifth of it, on a busy machine."""
LIFETIME_MINUTES = 6
"""Two launches at once and two starts of vLLM take two to four on two cores."""
BEFORE_DEADLINE_SECONDS = 30
"""How long before the deadline everything is killed: half of what is left at least of a lease at that moment."""
ENDING_SECONDS = 45
"""What an agent's end takes: vLLM's, at most 10 s, scancel, and Slurm's epilog, at most 10 s; the rest is for a busy
machine."""


@pytest.fixture
def app(stack: Stack) -> Iterator[App]:
    """The app, told by its nodes; after the test the dead parts are started again, for whatever comes then."""
    running = App(stack)
    running.start({"GPULAUNCH_PUBLIC_URL": running.url, "GPULAUNCH_LEASE_SECONDS": str(LEASE_SECONDS)})
    yield running
    running.stop()
    stack.azurite.stop()
    # Without its data, or the next app would recover what was lost here.
    shutil.rmtree(stack.azurite.folder)
    stack.azurite.start()
    stack.sky.stop()
    stack.sky.start()
    # Its books still have the clusters of jobs that ended by themselves.
    stack.sky.clear()


def node_processes(stack: Stack, cluster: str) -> dict[int, str]:
    """The agent, vLLM and all else that runs on the node for a cluster."""
    return stack.processes.leftovers(f"GPULAUNCH_CLUSTER={cluster}")


def job_of(stack: Stack, cluster: str) -> int:
    (job,) = (one for one in stack.slurm.squeue() if one.name.startswith(cluster))
    return job.job_id


def gone(stack: Stack, cluster: str) -> bool:
    return not any(one.name.startswith(cluster) for one in stack.slurm.squeue()) and not node_processes(stack, cluster)


def holding(stack: Stack, secret: str) -> list[Path]:
    """The node's files that contain a secret."""
    files = [*TMP.glob("sky_*"), *stack.slurm.folder.rglob("*"), *(stack.folder / "node").rglob("*")]
    found: list[Path] = []
    for path in files:
        with contextlib.suppress(FileNotFoundError):
            small = path.is_file() and not path.is_symlink() and path.stat().st_size < 10_000_000
            if small and secret.encode() in path.read_bytes():
                found.append(path)
    return found


def test_without_any_control_plane_nodes_end_at_their_deadline_and_when_their_lease_is_over(
    app: App, stack: Stack
) -> None:
    leased, dated = app.launch(), app.launch(max_lifetime_minutes=LIFETIME_MINUTES)
    shown: dict[str, Any] = {one: app.wait(one, "ready", seconds=LIFETIME_MINUTES * 60) for one in (dated, leased)}
    clusters = {one: shown[one]["attempts"][0]["cluster_name"] for one in shown}
    deadline = datetime.fromisoformat(shown[dated]["deadline_at"])
    jobs = {one: job_of(stack, clusters[one]) for one in shown}
    for one in shown:
        assert any("vllm" in command for command in node_processes(stack, clusters[one]).values())

    secrets = [Deriver(SecretStr(MASTER_KEY)).derive(one, 1, Purpose.NODE) for one in shown]
    # SkyPilot's copies in the cluster's own folder and Slurm's in its state are theirs; the one in /tmp is removed.
    theirs = (stack.slurm.home / ".sky_clusters", stack.slurm.folder / "state")
    held = [path for secret in secrets for path in holding(stack, secret)]
    assert held
    assert not [path for path in held if not any(path.is_relative_to(folder) for folder in theirs)]
    left = (deadline - datetime.now(UTC)).total_seconds()
    if left < BEFORE_DEADLINE_SECONDS:
        raise StackError(f"both were ready only {left:.0f} s before the deadline: the machine is too busy")
    time.sleep(left - BEFORE_DEADLINE_SECONDS)
    app.kill()
    stack.azurite.kill()
    stack.sky.kill()
    killed = time.monotonic()

    # The deadline comes first: that node ends while the other one's lease lasts.
    wait_until(
        lambda: gone(stack, clusters[dated]),
        seconds=BEFORE_DEADLINE_SECONDS + ENDING_SECONDS,
        what="the end of the node whose deadline is over",
    )
    at_deadline = time.monotonic() - killed
    assert at_deadline >= BEFORE_DEADLINE_SECONDS - 5
    assert not gone(stack, clusters[leased])

    wait_until(
        lambda: gone(stack, clusters[leased]),
        seconds=LEASE_SECONDS + ENDING_SECONDS,
        what="the end of the node whose lease is over",
    )
    at_lease = time.monotonic() - killed
    assert LEASE_SECONDS * 4 / 5 - 5 <= at_lease <= LEASE_SECONDS + ENDING_SECONDS

    for job_id in jobs.values():
        state = run(["scontrol", "show", "job", str(job_id)], env=stack.slurm.environment())
        assert not re.search("JobState=(PENDING|RUNNING|COMPLETING)", state), state
    assert not any(map(port_open, (app.port, stack.azurite.table_port, stack.sky.port))), "nobody came back"
    print(f"\nwithout a control plane: gone {at_deadline:.0f} s after it (deadline), {at_lease:.0f} s (lease)")
