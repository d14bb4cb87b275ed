"""A clock and a transport for the agent's parts, and its configuration."""

import io
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from shared.agent.node.clock import NodeClock
from shared.agent.node.config import Config
from shared.agent.node.transport import Http

NOW = 1_770_000_000.0


class FakeClock(NodeClock):
    def __init__(self) -> None:
        self.at = 0.0
        self.waited: list[float] = []

    def now(self) -> float:
        return NOW + self.at

    def ticks(self) -> float:
        return self.at

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.waited.append(seconds)
        self.at += seconds
        return event.is_set()


class Answer(io.BytesIO):
    def __init__(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(body)
        self.status = status
        self.headers = dict(headers or {})


class FakeHttp(Http):
    """Answers from a function of (method, url, headers)."""

    def __init__(self, answer: Callable[[str, str, Mapping[str, str]], Answer]) -> None:
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self._answer = answer

    def open(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None, timeout: float = 30.0
    ) -> Any:
        self.seen.append((method, url, dict(headers)))
        return self._answer(method, url, headers)


Answers = Callable[[str, str, Mapping[str, str]], Answer]


def always(make: Callable[[], Answer]) -> Answers:
    """The same answer to every request, newly made for each."""

    def answer(method: str, url: str, headers: Mapping[str, str]) -> Answer:
        return make()

    return answer


def json_answer(status: int, value: object, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, json.dumps(value).encode(), headers)


def node_config(**values: str) -> Config:
    base = {"GPULAUNCH_INSTANCE": "inst-1", "GPULAUNCH_ATTEMPT": "1", "GPULAUNCH_LEASE_SECONDS": "900"}
    base |= {
        "GPULAUNCH_DEADLINE": "2026-01-31T10:00:00.000Z",
        "GPULAUNCH_URL": "https://app",
        "GPULAUNCH_CLUSTER": "gl-1",
    }
    return Config.take(base | values)
