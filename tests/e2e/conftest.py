"""The end-to-end environment as a fixture. Every test in this folder is marked `e2e` and runs with `make e2e` only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.stack import assembly
from tests.e2e.stack.assembly import Stack
from tests.e2e.stack.bare import bare_launch
from tests.e2e.stack.processes import StackError

HERE = Path(__file__).parent
# The first test also waits for the whole environment: package installs on a bare machine take most of it.
TIMEOUT_SECONDS = 1800


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in this folder, before pytest deselects by marks."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(TIMEOUT_SECONDS))


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Slurm, SkyPilot, vLLM, the model, an S3 server and Azurite, all running; ended with the session for sure."""
    running, reason = _start()
    if running is None:
        pytest.fail(f"the end-to-end environment can't be had: {reason}", pytrace=False)
    try:
        yield running
    finally:
        left = running.close()
    assert not left, f"the tests left these processes running: {left}"


@pytest.fixture(scope="session")
def bare(stack: Stack) -> dict[str, float]:
    """Seconds of each stage of a bare `sky launch` of the same task, once a session: the yardstick."""
    return bare_launch(stack)


def _start() -> tuple[Stack | None, str]:
    # Apart, so that pytest prints the reason alone and not the exception that it came from.
    try:
        return assembly.start(), ""
    except StackError as error:
        return None, str(error)
