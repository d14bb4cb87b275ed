"""Visitors of the pages."""

import pytest

from tests.functional.web.visitor import Visitor
from tests.functional.world import READER, World


@pytest.fixture
def admin(world: World) -> Visitor:
    return Visitor(world).sign_in()


@pytest.fixture
def reader(world: World) -> Visitor:
    return Visitor(world).sign_in(READER)
