"""Which refusals of offers are remembered, and how long."""

from datetime import timedelta

import pytest

from gpulaunch.models.instances import Reason
from shared.domain.instance import Failure
from shared.planning.failover import avoided_until
from tests.twins.clock import START
from tests.twins.factories import make_offer


@pytest.mark.parametrize(
    ("reason", "minutes"),
    [(Reason.NO_CAPACITY, 30), (Reason.EVICTED, 30), (Reason.QUOTA_EXCEEDED, 60), (Reason.PERMISSION_DENIED, 60)],
)
def test_a_refusal_that_another_launch_would_meet_too_should_be_remembered(reason: Reason, minutes: int) -> None:
    assert avoided_until(make_offer(), Failure(reason=reason, message="why"), START) == START + timedelta(
        minutes=minutes
    )


@pytest.mark.parametrize("reason", [Reason.SERVER_FAILED, Reason.MODEL_FETCH_FAILED, Reason.NODE_LOST])
def test_a_failure_of_the_launch_itself_should_not(reason: Reason) -> None:
    assert avoided_until(make_offer(), Failure(reason=reason, message="why"), START) is None


def test_ones_own_machines_should_never_be_put_back() -> None:
    own = make_offer(provider="slurm", instance_type=None, use_spot=False, price_per_hour=0.0)
    assert avoided_until(own, Failure(reason=Reason.NO_CAPACITY, message="busy"), START) is None
