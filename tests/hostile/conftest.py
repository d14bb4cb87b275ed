"""A world of its own for each test that asks for one."""

from collections.abc import Iterator

import pytest

from shared import app as runtime
from tests.functional.world import World


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    runtime.use(None)
    assert made.errors == []
