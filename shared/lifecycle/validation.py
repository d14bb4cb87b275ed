"""queued → validating → provisioning: can the provider be used at all?"""

from gpulaunch.models.instances import Phase, Reason
from gpulaunch.models.times import seconds_between
from shared.domain.instance import Failure
from shared.lifecycle.observations import Checked, Unanswered
from shared.lifecycle.provision import next_attempt
from shared.lifecycle.termination import end
from shared.lifecycle.timeouts import Limits
from shared.lifecycle.transition import Decision, Draft


def begin(draft: Draft) -> Decision:
    """The first step of an instance."""
    draft.move(Phase.VALIDATING, "Checking the provider and the plan.")
    return draft.follow("advance")


def checked(draft: Draft, found: Checked, limits: Limits) -> Decision:
    """The provider answered."""
    availability = found.availability
    if availability.wait_seconds > 0:
        if _overdue(draft, limits):
            message = f"The provider's check did not end. {availability.reason}".rstrip()
            return end(draft, Failure(reason=Reason.PROVIDER_UNAVAILABLE, message=message))
        return draft.follow("advance", availability.wait_seconds)
    if not availability.enabled:
        return end(draft, Failure(reason=Reason.PROVIDER_UNAVAILABLE, message=availability.reason))
    draft.move(Phase.PROVISIONING, availability.reason)
    return next_attempt(draft, limits)


def unanswered(draft: Draft, found: Unanswered, limits: Limits) -> Decision:
    """The provider did not answer: ask again, for as long as provisioning itself may take."""
    if _overdue(draft, limits):
        return end(draft, Failure(reason=Reason.PROVIDER_UNAVAILABLE, message=found.message))
    return draft.follow("advance", limits.unanswered_poll)


def _overdue(draft: Draft, limits: Limits) -> bool:
    return seconds_between(draft.record.phase_since, draft.now) >= limits.provisioning
