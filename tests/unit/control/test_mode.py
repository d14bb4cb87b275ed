"""Whether a launch is real: how long each kind of orchestrator waits for SkyPilot, and what it says."""

from collections.abc import Sequence
from typing import Literal

import pytest

from gpulaunch.models.requests import ProviderName
from shared.control.mode import ModeChooser
from shared.domain.errors import BackendUnavailableError
from shared.domain.provider import Availability, ProviderUnavailableError
from shared.redaction import Redactor
from tests.unit.control.doubles import ProviderDouble

ENABLED = Availability(enabled=True, reason="azure is enabled")
DISABLED = Availability(enabled=False, reason="azure is not enabled")
Orchestrator = Literal["auto", "skypilot", "simulation"]


def checking(seconds: float) -> Availability:
    return Availability(enabled=False, reason="the check runs", wait_seconds=seconds)


class Provider(ProviderDouble):
    """Answers one after the other, the last one for ever."""

    def __init__(self, answers: Sequence[Availability | Exception]) -> None:
        super().__init__()
        self._answers = list(answers)

    def availability(self, provider: ProviderName, elapsed_seconds: float) -> Availability:
        self.available = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return super().availability(provider, elapsed_seconds)


class Choosing:
    def __init__(self, orchestrator: Orchestrator, *answers: Availability | Exception) -> None:
        self.provider, self.slept = Provider(answers), list[float]()
        self._chooser = ModeChooser(orchestrator, self.provider.backends(), Redactor(()), self.slept.append)

    def choose(self) -> tuple[str, str]:
        return self._chooser.choose("azure")


@pytest.mark.parametrize("orchestrator", ["auto", "skypilot"])
def test_a_provider_that_is_enabled_should_be_used_at_once(orchestrator: Orchestrator) -> None:
    choosing = Choosing(orchestrator, ENABLED)
    assert choosing.choose() == ("real", "azure is enabled")
    assert (choosing.slept, choosing.provider.acts) == ([], ["availability azure 0"])


def test_auto_should_wait_for_a_check_and_say_how_long_it_has() -> None:
    choosing = Choosing("auto", checking(5), checking(5), ENABLED)
    assert choosing.choose() == ("real", "azure is enabled")
    assert choosing.slept == [5, 5]
    assert choosing.provider.acts == [f"availability azure {waited}" for waited in (0, 5, 10)]


@pytest.mark.parametrize("seconds", [0.25, 1.0])
def test_auto_should_wait_for_a_check_that_takes_a_moment(seconds: float) -> None:
    choosing = Choosing("auto", checking(seconds), ENABLED)
    assert choosing.choose() == ("real", "azure is enabled")
    assert choosing.slept == [seconds]


def test_auto_should_not_wait_longer_than_its_patience() -> None:
    choosing = Choosing("auto", checking(5))
    with pytest.raises(BackendUnavailableError, match="the check runs; try again in some seconds"):
        choosing.choose()
    assert choosing.slept == [5, 5]


def test_auto_should_simulate_where_the_provider_is_not_enabled() -> None:
    choosing = Choosing("auto", DISABLED)
    assert (choosing.choose(), choosing.slept) == (("simulation", "azure is not enabled"), [])


def test_skypilot_should_leave_a_check_to_the_steps() -> None:
    choosing = Choosing("skypilot", checking(5))
    assert (choosing.choose(), choosing.slept) == (("real", "the check runs"), [])


def test_skypilot_should_never_be_replaced_by_a_simulation() -> None:
    with pytest.raises(BackendUnavailableError) as caught:
        Choosing("skypilot", DISABLED).choose()
    assert (caught.value.code, caught.value.retry_after) == ("provider_not_enabled", 60)


@pytest.mark.parametrize("orchestrator", ["auto", "skypilot"])
def test_a_server_that_does_not_answer_should_be_no_simulation_either(orchestrator: Orchestrator) -> None:
    with pytest.raises(BackendUnavailableError, match="no answer") as caught:
        Choosing(orchestrator, ProviderUnavailableError("no answer")).choose()
    assert caught.value.code == "skypilot_unavailable"


def test_a_simulation_should_ask_nobody() -> None:
    choosing = Choosing("simulation", ENABLED)
    assert choosing.choose()[0] == "simulation"
    assert choosing.provider.acts == []
