"""What follows a failed attempt: a word for every reason."""

from dataclasses import replace

import pytest

from gpulaunch.models.instances import Phase, Reason
from shared.domain.instance import AttemptState
from shared.lifecycle.provision import Retry, give_up_attempt, retry_after
from shared.lifecycle.transition import Transition
from tests.twins.clock import START
from tests.twins.factories import make_attempt, make_record
from tests.unit.lifecycle.story import LIMITS, failure

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


def given_up(*before: Reason | None, tried: int = 1, same_offer: int = 2) -> tuple[int, int]:
    """What is tried next, and how many offers count as tried, once the latest attempt has met a port conflict."""
    attempts = [
        make_attempt(number=number, state=AttemptState.GONE, gone_at=START, failure=reason and failure(reason))
        for number, reason in enumerate(before, 1)
    ]
    attempts.append(make_attempt(number=len(attempts) + 1, state=AttemptState.SUBMITTED))
    record = make_record(mode="real", phase=Phase.PROVISIONING, attempts=attempts, next_offer=1, tried_in_round=tried)
    limits = replace(LIMITS, same_offer=same_offer)
    after = give_up_attempt(Transition(record, START), failure(Reason.PORT_TAKEN), limits).record
    return after.next_offer, after.tried_in_round


@pytest.mark.parametrize(
    ("before", "again"),
    [
        ((), True),
        ((Reason.PORT_TAKEN,), False),
        ((Reason.NO_CAPACITY,), True),
        ((Reason.PORT_TAKEN, Reason.NO_CAPACITY), True),
        ((Reason.PORT_TAKEN, None), True),
    ],
)
def test_tries_of_one_offer_should_be_counted_back_to_the_last_other_failure(
    before: tuple[Reason | None, ...], *, again: bool
) -> None:
    assert given_up(*before) == ((0, 0) if again else (1, 1))


def test_what_counts_as_tried_should_never_be_less_than_nothing() -> None:
    assert given_up(tried=0) == (0, 0)
