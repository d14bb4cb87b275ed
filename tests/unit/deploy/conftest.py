"""A resource manager for the tests of this folder."""

from collections.abc import Iterator

import pytest

from deploy.arm import Arm
from tests.unit.deploy.manager import Manager, Signed, running


@pytest.fixture
def manager() -> Iterator[Manager]:
    with running() as made:
        yield made


@pytest.fixture
def arm(manager: Manager) -> Arm:
    return Arm(Signed(), manager.address)
