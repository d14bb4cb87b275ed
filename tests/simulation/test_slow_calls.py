"""A SkyPilot server that is slow rather than away: each question may take a minute and a half.

The launch itself, which the client gives up after ten seconds, is as quick as ever.
"""

from collections.abc import Callable
from typing import TypeVar

import pytest

from shared.backends.skypilot.provider import SkyPilotProvider
from tests.simulation.chaos import Chaos
from tests.simulation.mutations import always
from tests.simulation.simulator import play

T = TypeVar("T")
SLOW = 90.0


@pytest.fixture(autouse=True)
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    sky = Chaos.sky

    def slower(chaos: Chaos, what: str, effect: Callable[[], T], longest: float = 10.0) -> T:
        return sky(chaos, what, effect, longest if what.startswith("launch ") else max(longest, SLOW))

    monkeypatch.setattr(Chaos, "sky", slower)


def violations(first: int, last: int) -> list[str]:
    return [one for seed in range(first, last) for one in play(seed).violations]


def test_a_slow_server_should_not_be_asked_for_a_node_when_the_submission_may_be_over() -> None:
    assert violations(1, 31) == []


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_submission_that_is_not_checked_again_before_its_launch_should_be_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SkyPilotProvider, "_is_too_late", always(value=False))
    assert any(play(seed).violations for seed in range(1, 1001))
