"""What follows a failed attempt: a word for every reason."""

import pytest

from gpulaunch.models.instances import Reason
from shared.lifecycle.provision import Retry, retry_after

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
