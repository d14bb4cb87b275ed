"""All parts of the end-to-end environment, started together and ended together."""

from __future__ import annotations

import shutil
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.stack import model, packages, skypilot, vllm
from tests.e2e.stack.azurite import ROOT, Azurite
from tests.e2e.stack.processes import Processes, free_port
from tests.e2e.stack.s3 import S3
from tests.e2e.stack.skypilot import SkyPilot
from tests.e2e.stack.slurm import Slurm
from tests.e2e.stack.vllm import Vllm

# SkyPilot puts these eight hexadecimal digits behind a cluster's name on the cloud.
USER_ID = "e2e00000"


@dataclass
class Stack:
    """The running environment. `times` holds the seconds that each part took to come up."""

    folder: Path
    processes: Processes
    slurm: Slurm
    sky: SkyPilot
    s3: S3
    azurite: Azurite
    vllm: Vllm
    model: Path
    # The model in the object store, as a launch request names it.
    model_source: str
    times: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def infra(self) -> str:
        return f"slurm/{self.slurm.host}"

    def close(self) -> dict[int, str]:
        """Stop everything, keep the logs, remove the work folder; returns processes that nobody had stopped.

        Those are ended as well: after this call no process of the run is alive.
        """
        try:
            self.sky.stop()
            self.slurm.stop()
            return self.processes.close()
        finally:
            _keep_logs(self.folder)
            shutil.rmtree(self.folder, ignore_errors=True)


CACHE = ROOT / ".cache" / "e2e"


def start(cache: Path = CACHE, image: Mapping[str, str] | None = None) -> Stack:
    """Install, make and start all parts; `cache` holds what is kept between runs, `image` are variables of the node.

    Raises StackError with one clear line when this machine can't run it; whatever was started is ended then.
    """
    packages.require_root()
    # Short, because munge's socket lies in it and a socket's path may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="gpulaunch-e2e-", dir="/tmp"))
    processes = Processes(run_id=uuid.uuid4().hex, logs=folder / "logs")
    times: dict[str, float] = {}
    clock = time.monotonic()

    def done(part: str) -> None:
        nonlocal clock
        times[part] = time.monotonic() - clock
        clock = time.monotonic()

    try:
        packages.install()
        done("Debian packages")
        environment = vllm.build(cache)
        done("vLLM environment")
        tiny = model.make(cache / model.NAME, environment.python)
        done("model")
        skypilot.write_programs(folder / "bin", skypilot.install_uv(cache), skypilot.find_python310())
        done("uv and Python 3.10")
        s3 = S3(processes)
        s3.start()
        source = s3.upload(tiny, model.NAME)
        done("S3 server")
        azurite = Azurite(folder / "azurite", processes)
        azurite.start()
        done("Azurite")
        # As the image of a real node would: vLLM's settings for this kind of machine are the node's, not the launch's.
        variables = {**skypilot.node_variables(), **environment.variables(), **(image or {})}
        slurm = Slurm("e2e", folder / "slurm", free_port(), processes, folder / "bin", variables)
        slurm.start()
        done("Slurm")
        sky = SkyPilot(folder / "sky", free_port(), USER_ID, processes)
        sky.prepare(slurm.host, slurm.ssh_config(), node_folder=folder / "node")
        sky.start()
        done("SkyPilot's API server")
    except BaseException:
        processes.close()
        _keep_logs(folder)
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Stack(folder, processes, slurm, sky, s3, azurite, environment, tiny, source, times)


def _keep_logs(folder: Path) -> None:
    """Copy the logs of the run to where the next run, or a person after a failure, finds them."""
    kept = ROOT / ".cache" / "e2e" / "logs"
    shutil.rmtree(kept, ignore_errors=True)
    for part in ("logs", "slurm/log", "slurm/home/.sky_provision", "sky/sky_logs", "sky/.sky/api_server"):
        source = folder / part
        if source.exists():
            shutil.copytree(source, kept / part, ignore=shutil.ignore_patterns("*.db*", "clients"))
