"""What is handed to SkyPilot: secrets stay in secrets, no value reaches a shell, ports are steady."""

import base64
import gzip
import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from gpulaunch.models.offers import Offer
from gpulaunch.models.requests import LaunchRequest
from shared.agent import task
from shared.auth import Deriver, Purpose
from shared.domain.instance import Attempt, InstanceRecord
from shared.domain.node import Assignment
from shared.domain.request import StoredRequest
from shared.settings import Settings

NOW = datetime(2026, 1, 31, 9, tzinfo=UTC)
INSTANCE = "inst-01KG9ZZZZZZZZZZZZZZZZZZZZZ"
CLUSTER = "gl-01kg9zzzzzzzzzzzzzzzzzzzzz-2"
DERIVER = Deriver(SecretStr("k" * 32))


def settings(**values: Any) -> Settings:
    return Settings.model_validate({"GPULAUNCH_MASTER_KEY": "key-of-the-tests-0123456789-abcdef", **values})


def record(provider: Any = "azure") -> InstanceRecord:
    offer = Offer(
        provider=provider, region="r", instance_type=None, gpu="A10", gpu_count=1, use_spot=True, price_per_hour=1
    )
    attempt = Attempt(number=2, offer=offer, cluster_name=CLUSTER, submit_lease_until=NOW, started_at=NOW)
    request = LaunchRequest(model_name="org/m", gpu="A10", vllm_args=["--seed", "$(touch owned)"])
    return InstanceRecord(
        instance_id=INSTANCE,
        request=StoredRequest.of(request),
        mode="real",
        phase_since=NOW,
        created_at=NOW,
        updated_at=NOW,
        deadline_at=NOW + timedelta(hours=1),
        due_at=None,
        offers=[offer],
        attempts=[attempt],
        estimated_hourly_usd=1,
        worst_case_usd=1,
    )


def assignment() -> Assignment:
    return Assignment(
        instance_id=INSTANCE,
        attempt=2,
        model_name="org/m",
        files=[],
        vllm_args=["--seed", "$(touch owned)"],
        api_key="gl-secret",
        port=None,
        deadline_at=NOW,
        lease_seconds=900,
    )


def test_push_hands_over_nothing_but_the_nodes_token() -> None:
    made = task.node_environment(
        settings(GPULAUNCH_PUBLIC_URL="https://app.example/"), DERIVER, record(), record().attempts[0]
    )
    assert dict(made.secrets) == {"GPULAUNCH_NODE_TOKEN": DERIVER.derive(INSTANCE, 2, Purpose.NODE)}
    assert made.environment["GPULAUNCH_URL"] == "https://app.example"
    assert made.environment["GPULAUNCH_DEADLINE"] == "2026-01-31T10:00:00.000Z"
    assert "GPULAUNCH_AGENT_PORT" not in made.environment


@pytest.mark.parametrize("tls", [True, False])
def test_an_agent_should_know_whether_its_assignment_has_to_bring_a_certificate(*, tls: bool) -> None:
    given = record()
    attempt = given.attempts[0].model_copy(update={"tls": tls})
    for more in ({"GPULAUNCH_PUBLIC_URL": "https://app.example.com"}, {}):
        made = task.node_environment(settings(**more), DERIVER, given, attempt, assignment())
        assert made.environment.get("GPULAUNCH_TLS") == ("1" if tls else None)


def test_pull_hands_over_the_assignment_in_the_secrets_only() -> None:
    made = task.node_environment(settings(), DERIVER, record("slurm"), record("slurm").attempts[0], assignment())
    packed = gzip.decompress(base64.b64decode(made.secrets["GPULAUNCH_ASSIGNMENT"]))
    assert Assignment.model_validate_json(packed) == assignment()
    assert made.secrets["GPULAUNCH_AGENT_TOKEN"] == DERIVER.derive(INSTANCE, 2, Purpose.AGENT)
    assert "GPULAUNCH_URL" not in made.environment
    assert made.environment["GPULAUNCH_AGENT_PORT"] == str(task.agent_port(CLUSTER, "slurm", settings()))
    assert "gl-secret" not in str(made.environment)
    assert not any(value in repr(made) for value in made.secrets.values())


def test_pull_without_an_assignment_is_an_error() -> None:
    with pytest.raises(ValueError, match="GPULAUNCH_PUBLIC_URL"):
        task.node_environment(settings(), DERIVER, record(), record().attempts[0])


def test_ports_on_machines_of_our_own_and_on_shared_ones() -> None:
    ports = {task.agent_port(f"gl-{number}", "slurm", settings()) for number in range(200)}
    assert len(ports) > 190
    assert all(20_000 <= port < 30_000 for port in ports)
    assert task.agent_port("gl-1", "slurm", settings()) == task.agent_port("gl-1", "slurm", settings())
    assert task.agent_port("gl-1", "azure", settings()) == 8001
    assert task.agent_port("gl-1", "azure", settings(GPULAUNCH_NODE_PORT=8001)) == 8002
    assert task.server_port("azure", settings()) == 8000
    assert task.server_port("slurm", settings()) is None


def test_only_ports_that_are_used_are_opened() -> None:
    pushed = settings(GPULAUNCH_PUBLIC_URL="https://app.example")
    assert task.open_ports(CLUSTER, "azure", pushed) == [8000]
    assert task.open_ports(CLUSTER, "azure", settings()) == [8000, 8001]
    assert task.open_ports(CLUSTER, "slurm", settings()) == []


def test_the_script_is_the_same_for_every_launch_and_small() -> None:
    script = task.run_script(b"print('x')")
    assert script == task.run_script(b"print('x')")
    assert max(len(line) for line in script.splitlines()) < 200


def run(script: str, home: Path, **environment: str) -> subprocess.Popen[str]:
    base = {"PATH": os.environ["PATH"], "HOME": str(home), "GPULAUNCH_INSTANCE": "inst-1", "GPULAUNCH_ATTEMPT": "2"}
    return subprocess.Popen(
        ["bash", "-c", script], env=base | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_the_script_becomes_the_agent(tmp_path: Path) -> None:
    source = "import os, sys\nprint(os.environ['GPULAUNCH_CLOUD'], 'ä', sys.argv[0])\nsys.exit(7)\n"
    process = run(
        task.run_script(source.encode()), tmp_path, GPULAUNCH_CLOUD="$(touch owned)", PYTHONIOENCODING="utf-8"
    )
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 7
    assert "$(touch owned)" in output
    assert str(tmp_path / "gpulaunch/inst-1-2/agent.pyz") in output
    assert not list(tmp_path.rglob("owned"))
    assert (tmp_path / "gpulaunch/inst-1-2/agent.pyz").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("name", "stays"), [("sky_app_ab12", False), ("my_job.sh", True)])
def test_the_file_that_skypilot_writes_secrets_into_is_gone_once_it_runs(
    tmp_path: Path, name: str, stays: bool
) -> None:
    file = tmp_path / name
    file.write_text(f"#!/bin/bash\nexport GPULAUNCH_NODE_TOKEN=secret\n{task.run_script(b'print(1 + 1)')}\n")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "GPULAUNCH_INSTANCE": "i",
        "GPULAUNCH_ATTEMPT": "1",
    }
    done = subprocess.run(["bash", "-i", file], env=environment, capture_output=True, text=True, check=True, timeout=20)
    assert done.stdout == "2\n"
    assert file.exists() is stays


def test_a_second_run_of_the_script_ends_quietly_while_the_first_lives(tmp_path: Path) -> None:
    script = task.run_script(b"import sys\nprint('up', flush=True)\nsys.stdin.read()\n")
    first = subprocess.Popen(
        ["bash", "-c", script],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GPULAUNCH_INSTANCE": "i", "GPULAUNCH_ATTEMPT": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "up\n"
        second = run(script, tmp_path, GPULAUNCH_INSTANCE="i", GPULAUNCH_ATTEMPT="1")
        assert "another agent" in second.communicate(timeout=20)[0]
        assert second.returncode == 0
    finally:
        first.communicate(timeout=20)
    third = run(script.replace("sys.stdin.read()", "pass"), tmp_path, GPULAUNCH_INSTANCE="i", GPULAUNCH_ATTEMPT="1")
    third.communicate(timeout=20)
    assert third.returncode == 0


def test_without_a_python_the_script_says_so(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "mkdir", "flock", "base64", "gzip", "mv"):
        found = shutil.which(tool)
        assert found is not None
        (tools / tool).symlink_to(found)
    process = run(task.run_script(b"pass"), tmp_path, PATH=str(tools))
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 3
    assert "no Python" in output


def test_the_agent_fits_into_a_task() -> None:
    # SkyPilot sends job scripts of up to 100 KiB inline (MAX_INLINE_COMMAND_LENGTH), longer ones as a file.
    assert len(task.run_script()) < 64_000
