"""A given-up attempt's node is taken away; what follows depends on why."""

from gpulaunch.models.instances import EventType, Phase
from gpulaunch.models.times import seconds_between
from shared.domain.instance import AttemptState
from shared.lifecycle.observations import Released
from shared.lifecycle.provision import next_attempt
from shared.lifecycle.termination import finish, not_gone
from shared.lifecycle.timeouts import Timeouts
from shared.lifecycle.transition import Decision, Transition


def released(transition: Transition, found: Released, timeouts: Timeouts) -> Decision:
    """The provider answered a release."""
    attempt = transition.record.attempts[-1]
    if not found.gone:
        return not_gone(transition, "", timeouts)
    if (found.asked_at or transition.now) < attempt.submit_lease_until:
        # A submission may have been on its way when it was asked: only after its lease does absence prove anything.
        wait = seconds_between(transition.now, attempt.submit_lease_until)
        step = "teardown" if transition.record.phase is Phase.TERMINATING else "advance"
        return transition.requeue_after(step, wait)
    transition.change_attempt(state=AttemptState.GONE, gone_at=transition.now, node_phase=None)
    transition.event(EventType.ATTEMPT_GONE, f"Nothing is left of {attempt.cluster_name}.")
    match transition.record.phase:
        case Phase.TERMINATING:
            return finish(transition)
        case Phase.RECOVERING:
            transition.move(Phase.PROVISIONING, "Provisioning again.")
            return next_attempt(transition, timeouts)
        case _:
            return next_attempt(transition, timeouts)
