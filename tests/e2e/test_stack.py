"""The environment itself: what the launch tests rely on is there, real and private to the run."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from tests.e2e.stack import assembly, model, packages, skypilot
from tests.e2e.stack.assembly import Stack
from tests.e2e.stack.processes import Processes, StackError, run, wait_until


def test_a_bare_launch_serves_the_model_and_leaves_nothing(
    stack: Stack, bare: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        for title, seconds in (("the environment", stack.times), ("a bare sky launch", bare)):
            print(f"\n{title}:")
            print("\n".join(f"  {stage:<34}{value:7.1f} s" for stage, value in seconds.items()))
    assert stack.slurm.squeue() == []
    assert "bare" not in stack.sky.cli("status")


def test_the_node_offers_four_gpus_of_type_a10(stack: Stack) -> None:
    node = run(["scontrol", "show", "node"], env=stack.slurm.environment())
    assert "Gres=gpu:a10:4" in node


def test_a_job_taken_away_ends_although_it_ignores_sigterm(stack: Stack) -> None:
    # A process that outlives its parents is the hard case: Slurm's linuxproc loses sight of it.
    marker = stack.folder / "stubborn"
    script = f"import signal, time; signal.signal(15, signal.SIG_IGN); open('{marker}', 'w').close(); time.sleep(600)"
    wrapped = f"setsid {sys.executable} -c {shlex.quote(script)} & wait"
    run(["sbatch", "--gres=gpu:a10:1", "--output=/dev/null", f"--wrap={wrapped}"], env=stack.slurm.environment())
    wait_until(marker.exists, seconds=30, what="the job's process")
    (job,) = stack.slurm.squeue()
    stack.slurm.cancel(job.job_id, abruptly=False)
    assert stack.slurm.squeue() == []
    assert stack.processes.leftovers(f"SLURM_JOB_ID={job.job_id}") == {}


def test_the_model_lies_in_the_object_store_in_several_files(stack: Stack) -> None:
    listed = stack.s3.client().list_objects_v2(Bucket=stack.s3.bucket, Prefix=f"{model.NAME}/")
    stored = {Path(entry["Key"]).name: entry["Size"] for entry in listed["Contents"]}
    assert stored == {path.name: path.stat().st_size for path in model.files(stack.model)}
    assert sum(name.endswith(".safetensors") for name in stored) > 1


def test_the_machine_itself_is_left_alone(stack: Stack) -> None:
    assert stack.slurm.home != Path.home()
    assert stack.sky.environment()["HOME"] != str(Path.home())
    # SkyPilot logs in as root and writes to ~root, which is a folder of the run on the node only.
    assert f"root:x:0:0:root:{stack.slurm.home}:" not in Path("/etc/passwd").read_text()


def test_without_root_there_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(StackError, match="must run as root"):
        assembly.start()


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(packages.NEEDED, "no-such-program", "no-such-package")
    assert packages.missing() == ["no-such-package"]


def test_without_python310_uv_takes_the_running_python(tmp_path: Path) -> None:
    uv = tmp_path / "uv"
    uv.write_text('#!/bin/sh\necho "$@"\n')
    uv.chmod(0o755)
    skypilot.write_programs(tmp_path / "bin", uv, None)
    said = run([tmp_path / "bin" / "uv-any-python", "venv", "--seed", "a b", "--python", "3.10"])
    assert said.split() == ["venv", "--seed", "a", "b", "--python", sys.executable]


def test_curl_answers_for_uvs_installer_only(tmp_path: Path) -> None:
    skypilot.write_programs(tmp_path / "bin", Path(shutil.which("true") or "/bin/true"), Path(sys.executable))
    installer = run([tmp_path / "bin" / "curl", "-LsSf", skypilot.UV_INSTALLER])
    assert "UV_INSTALL_DIR" in installer
    page = tmp_path / "page"
    page.write_text("real")
    assert run([tmp_path / "bin" / "curl", "-sf", page.as_uri()]) == "real"


def test_a_process_that_slipped_away_is_found_and_ended(tmp_path: Path) -> None:
    processes = Processes(run_id="slipped-away", logs=tmp_path)
    processes.start("parent", ["sh", "-c", "setsid sleep 600 & exit 0"])
    # Only as `sleep` itself has it left its parent's process group.
    wait_until(lambda: list(processes.leftovers().values()) == ["sleep 600"], seconds=10, what="the process alone")
    assert list(processes.close().values()) == ["sleep 600"]
    assert processes.leftovers() == {}
