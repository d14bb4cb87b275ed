"""queued → validating → provisioning."""

import pytest

from gpulaunch.models.instances import EventType, Phase, Reason
from shared.domain.model import ModelFacts
from shared.domain.node import NodePhase
from shared.domain.provider import Availability, NodeState
from shared.lifecycle.observations import Checked, CheckProvider, LaunchRefused, Observation, ProviderUnavailable
from shared.lifecycle.transition import NextStep
from tests.unit.lifecycle.story import (
    DEAD,
    ENABLED,
    GONE,
    LIMITS,
    TAKEN,
    TICK,
    Story,
    completed,
    looked,
    noticed,
    probed,
    refused,
    registered,
    reported,
    validating,
)

CHECKING = Checked(Availability(enabled=False, reason="SkyPilot's check still runs.", wait_seconds=2.5))
SILENT = ProviderUnavailable("The SkyPilot server does not answer.")
NODES: list[Observation] = [
    looked(NodeState.UP, NodePhase.SERVING),
    registered(),
    reported(NodePhase.INSTALLING),
    completed(),
    noticed(),
    probed(DEAD),
    TAKEN,
    refused(Reason.NO_CAPACITY),
    GONE,
]


def test_a_queued_instance_should_be_validated_at_once() -> None:
    story = Story().wait(3)
    decision = story.see(TICK)
    assert (story.phase, decision.next_step) == (Phase.VALIDATING, NextStep("advance", 0.0))
    assert decision.events[0].duration_seconds == 3.0
    assert story.act() == CheckProvider()


@pytest.mark.parametrize("found", [ENABLED, SILENT, *NODES], ids=lambda found: type(found).__name__)
def test_a_queued_instance_should_not_be_moved_by_anything_else(found: Observation) -> None:
    assert not Story().decide(found).changed


@pytest.mark.parametrize(
    "found",
    [TICK, *(one for one in NODES if not isinstance(one, LaunchRefused))],
    ids=lambda found: type(found).__name__,
)
def test_a_validating_instance_should_not_be_moved_by_anything_but_its_check(found: Observation) -> None:
    assert not validating().decide(found).changed


def test_an_enabled_provider_should_lead_to_the_first_attempt() -> None:
    story = validating().wait(1.5).tell(ENABLED)
    assert (story.phase, story.attempt.number) == (Phase.PROVISIONING, 1)
    moved = story.of(EventType.PHASE)[-1]
    assert (moved.message, moved.duration_seconds) == ("SkyPilot's azure is enabled.", 1.5)


def test_a_provider_that_is_not_enabled_should_fail_the_launch_and_say_why() -> None:
    story = validating().tell(Checked(Availability(enabled=False, reason="Run `sky check azure`.")))
    assert (story.phase, story.ending, story.record.attempts) == (Phase.FAILED, Reason.PROVIDER_UNAVAILABLE, [])
    assert story.events[-1].message == "Run `sky check azure`."


def test_a_check_that_still_runs_should_be_asked_again_when_it_says() -> None:
    story = validating()
    decision = story.see(CHECKING)
    assert decision.next_step == NextStep("advance", 2.5)
    assert (story.phase, decision.events) == (Phase.VALIDATING, ())


def test_a_provider_that_does_not_answer_should_be_asked_again() -> None:
    story = validating()
    assert story.see(SILENT).next_step == NextStep("advance", LIMITS.unanswered_poll)
    assert story.phase is Phase.VALIDATING


@pytest.mark.parametrize("found", [CHECKING, SILENT])
def test_a_check_should_not_be_waited_for_without_end(found: Observation) -> None:
    story = validating().wait(LIMITS.provisioning - 0.001).tell(found)
    assert story.phase is Phase.VALIDATING
    story.wait(0.001).tell(found)
    assert (story.phase, story.ending) == (Phase.FAILED, Reason.PROVIDER_UNAVAILABLE)
    assert story.record.ending is not None
    assert story.record.ending.message


FACTS = ModelFacts(source="hf://org/m@abc", repository="org/m", commit="abc", total_bytes=2 * 10**9, weight_bytes=10**9)
ON = Availability(enabled=True, reason="SkyPilot's azure is enabled.")


def test_a_model_that_no_node_could_serve_should_end_the_launch_before_anything_is_paid_for() -> None:
    story = validating().tell(refused(Reason.MODEL_FETCH_FAILED))
    assert (story.phase, story.ending, story.record.attempts) == (Phase.FAILED, Reason.MODEL_FETCH_FAILED, [])


def test_what_was_found_of_the_model_should_stay_in_the_record() -> None:
    story = validating().tell(Checked(ON, FACTS))
    assert (story.phase, story.record.model) == (Phase.PROVISIONING, FACTS)
    assert "hf://org/m@abc, 2.0 GB" in story.of(EventType.PHASE)[-1].message


def test_machines_that_cannot_serve_the_model_should_not_be_tried() -> None:
    story = validating()
    first, *others = story.record.offers
    story.tell(Checked(ON, FACTS, {first.key: "it needs 100 GiB"}))
    assert story.record.offers == others
    assert f"Excluded: {first.key}: it needs 100 GiB." in story.of(EventType.PHASE)[-1].message


def test_a_model_that_fits_none_of_the_machines_should_be_refused_with_what_would_fit() -> None:
    story = validating()
    unfit = {offer.key: "it needs 100 GiB" for offer in story.record.offers}
    story.tell(Checked(ON, FACTS, unfit, "It fits an A100-80GB:2."))
    assert (story.phase, story.ending, story.record.attempts) == (Phase.FAILED, Reason.DOES_NOT_FIT, [])
    assert story.events[-1].message == "hf://org/m@abc does not fit: it needs 100 GiB. It fits an A100-80GB:2."


@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.0])
def test_a_check_that_takes_a_moment_should_be_waited_for(seconds: float) -> None:
    story = validating()
    found = Checked(Availability(enabled=False, reason="it is being checked", wait_seconds=seconds))
    assert story.see(found).next_step == NextStep("advance", seconds)
    assert story.phase is Phase.VALIDATING
