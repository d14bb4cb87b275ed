"""What a cloud offers to the node that runs on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from shared.agent.node.transport import Http

Run = Callable[..., Any]
"""`subprocess.run`, or its stand-in in tests."""
SUCCESS = range(200, 300)


class Interruption(NamedTuple):
    """The cloud is about to take the machine back."""

    seconds_left: float | None
    """None when the cloud does not say."""


class CloudNode(Protocol):
    is_virtual_machine: bool = False
    """Only virtual machines are asked for interruptions, and only they die with a delay that the agent waits for."""

    def interruption(self) -> Interruption | None:
        """The notice that the machine is taken back, once there is one.

        Raises:
            OSError, HTTPException, ValueError, KeyError, TypeError, AttributeError: No usable answer.
        """
        return None

    def endings(self) -> Sequence[Callable[[], bool]]:
        """Ways to end the node, the best first; each returns whether the request was granted."""
        ...


class MetadataService:
    """The address at which a cloud answers questions of its machines."""

    def __init__(self, transport: Http, url: str | None) -> None:
        self._http = transport
        self._url = url or "http://169.254.169.254"

    def ask(self, path: str, headers: Mapping[str, str], method: str = "GET", timeout: float = 10) -> tuple[int, str]:
        answer = self._http.read(method, f"{self._url}{path}", headers, timeout=timeout)
        return answer.status, answer.body.decode(errors="replace")


def shut_down(run: Run) -> bool:
    """Shut the machine down; needs root or sudo without a password."""
    command = ["shutdown", "-h", "now"] if os.geteuid() == 0 else ["sudo", "-n", "shutdown", "-h", "now"]
    return run(command, timeout=30, check=False).returncode == 0
