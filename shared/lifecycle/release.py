"""A given-up attempt's node is taken away; what follows depends on why."""

from shared.lifecycle.decision import Decision, Draft
from shared.lifecycle.limits import Limits
from shared.lifecycle.provisioning import next_attempt
from shared.lifecycle.termination import finish, not_gone
from shared.models.records import AttemptState, EventType, Phase


def released(draft: Draft, gone: bool, limits: Limits) -> Decision:
    """The provider answered a release."""
    attempt = draft.record.attempts[-1]
    if not gone:
        return not_gone(draft, "", limits)
    if draft.now < attempt.submit_lease_until:
        # A submission may still be on its way: only after its lease does absence prove anything.
        wait = (attempt.submit_lease_until - draft.now).total_seconds()
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
