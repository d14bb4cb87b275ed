"""Slurm: `scancel` of the agent's own job. Where no job id is found, only the agent's processes end."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from shared.agent.node.clouds.base import CloudNode, Run
from shared.agent.node.log import Log


class SlurmJob(CloudNode):
    """A job; its notice is SIGTERM."""

    def __init__(self, log: Log, run: Run) -> None:
        self._log, self._run = log, run

    def endings(self) -> Sequence[Callable[[], bool]]:
        return [self.cancel]

    def cancel(self) -> bool:
        job = job_id(os.environ, Path("/proc"))
        places = f"{os.environ.get('PATH', os.defpath)}:/usr/bin:/usr/local/bin:/opt/slurm/bin:/usr/local/slurm/bin"
        scancel = shutil.which("scancel", path=places)
        if job is None or scancel is None:
            self._log(f"cannot find {'a job id' if job is None else 'scancel'}")
            return False
        self._log(f"scancel {job}")
        return self._run([scancel, job], timeout=30, check=False).returncode == 0


def job_id(environ: Mapping[str, str], proc: Path) -> str | None:
    """The Slurm job of this process: by its environment, its control group, or an ancestor's environment."""
    if environ.get("SLURM_JOB_ID", "").isdigit():
        return environ["SLURM_JOB_ID"]
    pid = "self"
    try:
        found = re.search(r"/job_(\d+)", (proc / pid / "cgroup").read_text())
        while found is None and pid not in ("0", "1"):
            pid = (proc / pid / "stat").read_text().rpartition(")")[2].split()[1]
            inherited = (proc / pid / "environ").read_text(errors="replace")
            found = re.search(r"(?:^|\0)SLURM_JOB_ID=(\d+)\0", inherited)
    except OSError:
        return None
    return None if found is None else found[1]
