"""Recovery: release a lost node, then try the next offer."""

from gpulaunch.models.instances import EventType, Phase
from gpulaunch.models.times import seconds_between
from shared.domain.instance import AttemptState, Failure
from shared.lifecycle.rules import lost_too_often
from shared.lifecycle.termination import end
from shared.lifecycle.timeouts import Timeouts
from shared.lifecycle.transition import Decision, Transition


def recover(transition: Transition, failure: Failure, timeouts: Timeouts) -> Decision:
    """Give up a ready instance's node and start a new round of offers, unless it was lost too often."""
    record = transition.record
    attempt = record.attempts[-1]
    transition.change_attempt(state=AttemptState.RELEASING, failure=failure, release_since=transition.now)
    transition.event(
        EventType.ATTEMPT_FAILED,
        failure.message,
        reason=failure.reason,
        duration=seconds_between(attempt.started_at, transition.now),
        data={"region": attempt.offer.region, "offer": attempt.offer.key},
    )
    ending = lost_too_often(record, timeouts.max_recoveries, failure)
    if ending is not None:
        return end(transition, ending)
    transition.change(recoveries=record.recoveries + 1, tried_in_round=0, epoch=record.epoch + 1, health=None)
    transition.move(Phase.RECOVERING, "Deleting the lost node before provisioning a new one.", failure.reason)
    return transition.requeue_after("advance")
