"""A provider whose credentials or set-up went missing after the launch: nothing may hang on it unseen."""

from collections.abc import Callable

import pytest

from gpulaunch.models.instances import EventType, Phase, Reason
from shared.domain.instance import AttemptState
from shared.lifecycle.observations import NotEnabled
from shared.lifecycle.transition import NextStep
from tests.unit.lifecycle.story import (
    GONE,
    LIMITS,
    ON_NODE,
    Story,
    node_in,
    ready,
    recovering,
    releasing,
    submitting,
    terminating,
    validating,
)

LOCKED_OUT = NotEnabled("Run `az login` where the API server runs.")


@pytest.mark.parametrize("story", [validating(), submitting()], ids=["validating", "submitting"])
def test_it_should_end_a_launch_that_has_no_node_yet_and_say_what_to_do(story: Story) -> None:
    story.tell(LOCKED_OUT)
    assert (story.phase.ended or story.phase is Phase.TERMINATING, story.ending) == (True, Reason.PROVIDER_UNAVAILABLE)
    assert story.record.ending is not None
    assert "az login" in story.record.ending.message


@pytest.mark.parametrize("make", [terminating, recovering, releasing])
def test_a_teardown_should_be_repeated_and_raise_its_alert(make: Callable[[], Story]) -> None:
    story = make()
    first = story.see(LOCKED_OUT)
    assert first.next_step == NextStep("teardown" if story.phase is Phase.TERMINATING else "advance", 2.0)
    assert story.attempt.release_tries == 1
    story.wait(LIMITS.release_alert).tell(LOCKED_OUT)
    assert "may still cost money. Run `az login`" in story.of(EventType.ALERT)[0].message
    assert story.attempt.state is AttemptState.RELEASING


@pytest.mark.parametrize("phase", ON_NODE)
def test_a_node_on_its_way_up_should_be_waited_for(phase: Phase) -> None:
    story = node_in(phase)
    decision = story.see(LOCKED_OUT)
    assert decision.next_step == NextStep("advance", LIMITS.unanswered_poll)
    assert story.phase is phase


@pytest.mark.parametrize("phase", ON_NODE)
def test_a_node_on_its_way_up_should_not_outlive_its_phase_s_time(phase: Phase) -> None:
    story = node_in(phase).wait(LIMITS.loading_model).tell(LOCKED_OUT)
    assert story.attempt.state is AttemptState.RELEASING


def test_a_ready_node_should_be_left_alone() -> None:
    assert not ready().decide(LOCKED_OUT).changed


def test_credentials_that_come_back_should_let_the_teardown_end() -> None:
    assert terminating().tell(LOCKED_OUT, GONE).phase is Phase.TERMINATED
