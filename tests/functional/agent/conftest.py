"""Fixtures: agents in their own processes and the stand-ins they talk to."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.functional.agent.processes import Nodes
from tests.functional.agent.servers import ControlPlane, Metadata, StandIn, Store

S = TypeVar("S", bound=StandIn)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    made = Nodes(tmp_path)
    yield made
    for node in made.started:
        if node.process.poll() is None:
            node.process.send_signal(signal.SIGKILL)
        node.process.wait()


def _served(kind: type[S]) -> Iterator[S]:
    made = kind()
    yield made
    made.close()


@pytest.fixture
def store() -> Iterator[Store]:
    yield from _served(Store)


@pytest.fixture
def control() -> Iterator[ControlPlane]:
    yield from _served(ControlPlane)


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    yield from _served(Metadata)
