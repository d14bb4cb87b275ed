"""Install vLLM into its own environment, once per machine and version."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from shared.agent.node.cause import excerpt, of_installation
from shared.agent.node.config import Config
from shared.agent.node.errors import FatalError, StoppedError
from shared.agent.node.log import Log
from shared.agent.node.process import Child, lines_since, size_of, try_lock


class Installer:
    """Installs vLLM, or uses the one on the image."""

    def __init__(self, config: Config, environ: Mapping[str, str], log: Log, stop: threading.Event) -> None:
        self._config, self._environ, self._log, self._stop = config, environ, log, stop
        self.output = config.work / "install.log"
        self._began = 0
        """Where in the log its latest command begins."""
        self._code: int | None = None
        """With which that one ended."""

    def install(self) -> Path:
        """Return the `vllm` to run.

        Raises:
            FatalError: The environment cannot be made.
            StoppedError: The agent is ending.
        """
        if self._config.executable is not None and os.access(self._config.executable, os.X_OK):
            return Path(self._config.executable)
        requirement = self._config.requirement
        slug = re.sub(r"[^A-Za-z0-9.]+", "-", requirement)[:40]
        name = f"{slug}-{hashlib.sha256(requirement.encode()).hexdigest()[:8]}"
        folder = Path(self._environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpulaunch" / "venvs" / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.parent / f"{name}.lock").open("w") as lock:
            while not try_lock(lock):
                if self._stop.wait(1):
                    raise StoppedError
            if not (folder / ".complete").exists():
                shutil.rmtree(folder, ignore_errors=True)
                self._fill(folder, requirement)
                (folder / ".complete").touch()
        return folder / "bin" / "vllm"

    def _fill(self, folder: Path, requirement: str) -> None:
        uv = shutil.which("uv") or shutil.which("uv", path=f"{Path.home()}/.local/bin:{Path.home()}/.cargo/bin")
        python = str(folder / "bin" / "python")
        # A Python managed by uv comes with the C headers that Triton compiles against; a distribution's often does not.
        ways = [
            [uv, "venv", "--python", "3.12", "--python-preference", kind, str(folder)]
            for kind in ("only-managed", "system")
            if uv
        ]
        ways += [[found, "-m", "venv", str(folder)] for found in self._pythons()]
        if not any(self._run(way) and Path(python).exists() for way in ways):
            raise self._failure("cannot create an environment")
        if uv is None and self._run([python, "-m", "pip", "install", "--quiet", "uv"]):
            uv = str(folder / "bin" / "uv")
        command = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install"]
        if not self._run([*command, requirement]):
            raise self._failure(f"cannot install {requirement}")
        if not os.access(folder / "bin" / "vllm", os.X_OK):
            raise FatalError("install_failed", f"{requirement} installed no `vllm` command")

    @staticmethod
    def _pythons() -> list[str]:
        names = ("python3.12", "python3.11", "python3.13", "python3.10")
        return [*(found for found in map(shutil.which, names) if found), sys.executable]

    def _run(self, command: Sequence[str]) -> bool:
        self._log(f"running {' '.join(command)}")
        self._began = size_of(self.output)
        child = Child(command, self._environ, self.output, signal.SIGKILL, self._config.work)
        while child.poll() is None:
            if self._stop.wait(0.2):
                child.stop(2)
                raise StoppedError
        self._code = child.poll()
        return self._code == 0

    def _failure(self, what: str) -> FatalError:
        lines = lines_since(self.output, self._began)
        why, place = of_installation(lines, self._code)
        return FatalError("install_failed", f"{what}: {why}", excerpt(lines, place))
