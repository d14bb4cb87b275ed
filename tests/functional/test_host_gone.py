"""A worker whose host was killed writes nothing more: `kill -9` of the genuine host leaves its worker behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WORKER = "import os, time, function_app; print(os.getpid(), flush=True); time.sleep(60)"
HOST = "import signal, subprocess, sys; subprocess.Popen([sys.executable, '-c', sys.argv[1]]); signal.pause()"


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text("utf-8").rpartition(")")[2].split()[0] not in "ZX"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("started_by", "ends"), [({"FUNCTIONS_WORKER_RUNTIME": "python"}, True), ({}, False)])
def test_a_worker_should_end_with_its_host_and_what_no_host_started_should_not(
    started_by: dict[str, str], ends: bool
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "FUNCTIONS_WORKER_RUNTIME"}
    host = subprocess.Popen(
        [sys.executable, "-c", HOST, WORKER], cwd=ROOT, env=environment | started_by, stdout=subprocess.PIPE
    )
    assert host.stdout is not None
    worker = int(host.stdout.readline())
    assert alive(worker)
    host.kill()
    host.wait()
    host.stdout.close()
    try:
        deadline = time.monotonic() + (60 if ends else 1.5)
        while alive(worker) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert alive(worker) is not ends
    finally:
        if alive(worker):
            os.kill(worker, signal.SIGKILL)
