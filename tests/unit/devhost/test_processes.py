"""What ends a process's descendants; `make run` as a whole is in tests/functional/devhost/test_run.py."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux hands orphans to a process that asks for them"
)
HUNG = """
import os, signal, sys, time
os.fork() and os._exit(0)
os.setsid()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
time.sleep(600)
"""


def test_a_hung_process_without_a_parent_should_be_killed() -> None:
    body = (
        "import subprocess, sys\n"
        "from devhost.processes import end_descendants, watched\n"
        "def body():\n"
        f"    subprocess.run([sys.executable, '-c', {HUNG!r}], check=True)\n"
        "    end_descendants(0.2)\n"
        "    return 7\n"
        "sys.exit(watched(body))\n"
    )
    ended = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 7, ended.stderr
    assert not Path(f"/proc/{int(ended.stdout)}").exists()


def test_a_fault_of_the_body_should_be_shown_and_end_with_status_1() -> None:
    body = "import sys\nfrom devhost.processes import watched\nsys.exit(watched(lambda: 1 // 0))\n"
    ended = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert ended.stderr.count("ZeroDivisionError") == 1
