"""Azurite, Microsoft's emulator of Azure Storage: blobs, queues and tables on loopback ports."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.stack.processes import Processes, StackError, free_port, port_open, wait_until

ROOT = Path(__file__).resolve().parents[3]
ACCOUNT = "devstoreaccount1"
# The emulator's well-known key, the same on every machine in the world.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
# Three seconds on two idle cores.
START_SECONDS = 60


@dataclass
class Azurite:
    """The emulator with its data in `folder`; stopping and starting it again keeps the data."""

    folder: Path
    processes: Processes
    blob_port: int = field(default_factory=free_port)
    queue_port: int = field(default_factory=free_port)
    table_port: int = field(default_factory=free_port)
    _server: subprocess.Popen[bytes] | None = None

    @property
    def connection_string(self) -> str:
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
            f"BlobEndpoint=http://127.0.0.1:{self.blob_port}/{ACCOUNT};"
            f"QueueEndpoint=http://127.0.0.1:{self.queue_port}/{ACCOUNT};"
            f"TableEndpoint=http://127.0.0.1:{self.table_port}/{ACCOUNT};"
        )

    def start(self) -> None:
        """Start the emulator from node_modules; StackError when it or Node.js is missing."""
        node, program = shutil.which("node"), ROOT / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"
        if node is None or not program.exists():
            raise StackError("Azurite is missing: it needs Node.js and `npm ci` in the project's folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        ports = {"blob": self.blob_port, "queue": self.queue_port, "table": self.table_port}
        command: list[str | Path] = [node, program, "--silent", "--skipApiVersionCheck", "--disableTelemetry"]
        command += ["--location", self.folder]
        for kind, port in ports.items():
            command += [f"--{kind}Host", "127.0.0.1", f"--{kind}Port", str(port)]
        self._server = self.processes.start("azurite", command)
        wait_until(lambda: all(map(port_open, ports.values())), seconds=START_SECONDS, what="Azurite")

    def pause(self) -> None:
        """Let it answer nobody until `resume`: connections are taken, and stay silent."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._server is not None:
            os.killpg(self._server.pid, number)

    def kill(self) -> None:
        if self._server is not None:
            self.processes.kill(self._server)
            self._server = None

    def stop(self) -> None:
        if self._server is not None:
            self.processes.stop(self._server)
            self._server = None
