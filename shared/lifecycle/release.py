"""Release an attempt's node; what follows depends on the reason."""

from gpulaunch.models.instances import EventType, Phase
from gpulaunch.models.times import seconds_between
from shared.domain.instance import AttemptState
from shared.lifecycle.observations import Released
from shared.lifecycle.provision import next_attempt
from shared.lifecycle.termination import finish, not_gone
from shared.lifecycle.timeouts import Timeouts
from shared.lifecycle.transition import Decision, Transition


def released(transition: Transition, found: Released, timeouts: Timeouts) -> Decision:
    """Apply the provider's answer to a release."""
    attempt = transition.record.attempts[-1]
    if not found.gone:
        return not_gone(transition, "", timeouts)
    if (found.asked_at or transition.now) < attempt.submit_lease_until:
        # A submission may have been in progress: absence proves nothing until its lease has expired.
        wait = seconds_between(transition.now, attempt.submit_lease_until)
        step = "teardown" if transition.record.phase is Phase.TERMINATING else "advance"
        return transition.requeue_after(step, wait)
    transition.change_attempt(state=AttemptState.GONE, gone_at=transition.now, node_phase=None)
    transition.event(EventType.ATTEMPT_GONE, f"Node {attempt.cluster_name} deleted.")
    match transition.record.phase:
        case Phase.TERMINATING:
            return finish(transition)
        case Phase.RECOVERING:
            transition.move(Phase.PROVISIONING, "Provisioning a new node.")
            return next_attempt(transition, timeouts)
        case _:
            return next_attempt(transition, timeouts)
