"""A given-up attempt's node is taken away; what follows depends on why."""

from gpulaunch.models.instances import EventType, Phase
from gpulaunch.models.times import seconds_between
from shared.domain.instance import AttemptState
from shared.lifecycle.observations import Released
from shared.lifecycle.provision import next_attempt
from shared.lifecycle.termination import finish, not_gone
from shared.lifecycle.timeouts import Limits
from shared.lifecycle.transition import Decision, Draft


def released(draft: Draft, found: Released, limits: Limits) -> Decision:
    """The provider answered a release."""
    attempt = draft.record.attempts[-1]
    if not found.gone:
        return not_gone(draft, "", limits)
    if (found.asked_at or draft.now) < attempt.submit_lease_until:
        # A submission may have been on its way when it was asked: only after its lease does absence prove anything.
        wait = seconds_between(draft.now, attempt.submit_lease_until)
        step = "teardown" if draft.record.phase is Phase.TERMINATING else "advance"
        return draft.follow(step, wait)
    draft.change_attempt(state=AttemptState.GONE, gone_at=draft.now, node_phase=None)
    draft.event(EventType.ATTEMPT_GONE, f"Nothing is left of {attempt.cluster_name}.")
    match draft.record.phase:
        case Phase.TERMINATING:
            return finish(draft)
        case Phase.RECOVERING:
            draft.move(Phase.PROVISIONING, "Provisioning again.")
            return next_attempt(draft, limits)
        case _:
            return next_attempt(draft, limits)
