"""What several suites share: a real Azurite, started once per test process."""

from collections.abc import Iterator

import pytest

from devhost.azurite import Azurite, start
from devhost.config import HostError
from shared import app as runtime

_TRIES = 3
"""A port that was free may be taken by another test process before Azurite binds it."""


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """An Azurite of this test process, with nothing in it, gone at the end."""
    failures: list[str] = []
    for _ in range(_TRIES):
        try:
            running = start(tmp_path_factory.mktemp("azurite"))
        except HostError as error:
            failures.append(str(error))
        else:
            yield running
            running.stop()
            return
    pytest.fail("; ".join(failures))


@pytest.fixture(scope="module", autouse=True)
def no_app_left() -> Iterator[None]:
    """No module finds the app of another one's tests in this process."""
    yield
    runtime.use(None)
