"""Worlds for the functional tests."""

from collections.abc import Iterator

import pytest

from tests.functional.scripted import NodeWorld
from tests.functional.world import World


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    assert made.errors == []


@pytest.fixture
def push() -> Iterator[NodeWorld]:
    """Nodes that call us."""
    made = NodeWorld()
    yield made
    assert made.errors == []
