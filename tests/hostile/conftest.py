"""A world of its own for each test that asks for one."""

from collections.abc import Iterator

import pytest

from shared import app as runtime
from tests.functional.world import World


@pytest.fixture
def world() -> Iterator[World]:
    """A simulation with tokens; gone from the process afterwards."""
    made = World()
    yield made
    runtime.use(None)
    assert made.errors == []
