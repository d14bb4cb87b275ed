"""What follows a failed attempt: a word for every reason."""

from dataclasses import replace

import pytest

from gpulaunch.models.instances import Phase, Reason
from shared.domain.provider import NodeState
from shared.lifecycle.provision import Retry, retry_after
from tests.unit.lifecycle.story import GONE, LIMITS, SPOT, TAKEN, failure, looked, submitted

SAME_OFFER = {Reason.PORT_TAKEN, Reason.PROVIDER_UNAVAILABLE}
GIVE_UP = {Reason.INVALID_TASK, Reason.INSTALL_FAILED, Reason.MODEL_FETCH_FAILED, Reason.SERVER_FAILED}
NEXT_OFFER = {
    Reason.NO_CAPACITY,
    Reason.QUOTA_EXCEEDED,
    Reason.PERMISSION_DENIED,
    Reason.IMAGE_UNAVAILABLE,
    Reason.NETWORK_FAILED,
    Reason.SETUP_FAILED,
    Reason.PROVISIONING_FAILED,
    Reason.PROVISIONING_TIMEOUT,
    Reason.INSTALL_TIMEOUT,
    Reason.MODEL_TIMEOUT,
    Reason.SERVER_TIMEOUT,
    Reason.REGISTRATION_TIMEOUT,
    Reason.NODE_LOST,
    Reason.EVICTED,
    Reason.UNHEALTHY,
}
OF_INSTANCES = {
    Reason.USER_REQUEST,
    Reason.JOB_COMPLETED,
    Reason.IDLE,
    Reason.DEADLINE,
    Reason.BUDGET,
    Reason.NO_OFFERS_LEFT,
    Reason.TOO_MANY_ATTEMPTS,
    Reason.TOO_MANY_RECOVERIES,
    Reason.POISON_MESSAGE,
    Reason.DOES_NOT_FIT,
}
"""Reasons for which instances end, never attempts."""


def test_every_reason_should_have_its_place_here() -> None:
    assert {*SAME_OFFER, *GIVE_UP, *NEXT_OFFER, *OF_INSTANCES} == set(Reason)


@pytest.mark.parametrize("reason", sorted(NEXT_OFFER))
def test_another_offer_should_be_tried_where_it_may_do_better(reason: Reason) -> None:
    assert retry_after(reason) is Retry.NEXT_OFFER


@pytest.mark.parametrize("reason", sorted(SAME_OFFER))
def test_the_same_offer_should_be_tried_again_where_nothing_speaks_against_it(reason: Reason) -> None:
    assert retry_after(reason) is Retry.SAME_OFFER


@pytest.mark.parametrize("reason", sorted(GIVE_UP))
def test_nothing_should_be_tried_again_where_it_would_fail_as_well(reason: Reason) -> None:
    assert retry_after(reason) is Retry.GIVE_UP


def test_tries_of_one_offer_should_be_counted_up_to_the_last_other_failure() -> None:
    """Two port conflicts, a lack of capacity, and another port conflict on one offer are one try, not three."""
    story = submitted(offers=(SPOT,), timeouts=replace(LIMITS, same_offer=3, max_attempts=9))
    busy = looked(NodeState.PENDING, failure=failure(Reason.PORT_TAKEN))
    story.tell(busy, GONE, TAKEN, busy)
    attempts = [one.model_copy(update={"failure": failure(Reason.NO_CAPACITY)}) for one in story.record.attempts[-1:]]
    story.record = story.record.model_copy(update={"attempts": [*story.record.attempts[:-1], *attempts]})
    story.tell(GONE, TAKEN, busy)
    assert (story.phase, story.ending) == (Phase.PROVISIONING, None)
    assert story.record.tried_in_round == 0


def test_an_attempt_without_a_failure_should_be_no_try() -> None:
    story = submitted(offers=(SPOT,), timeouts=replace(LIMITS, same_offer=2))
    busy = looked(NodeState.PENDING, failure=failure(Reason.PORT_TAKEN))
    story.tell(busy, GONE, TAKEN)
    earlier, latest = story.record.attempts
    attempts = [earlier.model_copy(update={"failure": None}), latest]
    story.record = story.record.model_copy(update={"attempts": attempts})
    story.tell(busy)
    assert (story.phase, story.record.tried_in_round) == (Phase.PROVISIONING, 0)
