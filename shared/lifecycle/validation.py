"""Validation: can the provider be used at all?"""

from gpulaunch.models.instances import Phase, Reason
from gpulaunch.models.times import seconds_between
from shared.domain.instance import Failure
from shared.lifecycle.observations import Checked, ProviderUnavailable
from shared.lifecycle.provision import next_attempt
from shared.lifecycle.termination import terminate
from shared.lifecycle.timeouts import Timeouts
from shared.lifecycle.transition import Decision, Transition


def begin(transition: Transition) -> Decision:
    transition.move(Phase.VALIDATING, "Checking the provider.")
    return transition.requeue_after("advance")


def checked(transition: Transition, found: Checked, timeouts: Timeouts) -> Decision:
    availability = found.availability
    if availability.wait_seconds > 0:
        if _overdue(transition, timeouts):
            message = f"The provider's check did not finish. {availability.reason}".rstrip()
            return terminate(transition, Failure(reason=Reason.PROVIDER_UNAVAILABLE, message=message))
        return transition.requeue_after("advance", availability.wait_seconds)
    if not availability.enabled:
        return terminate(transition, Failure(reason=Reason.PROVIDER_UNAVAILABLE, message=availability.reason))
    transition.move(Phase.PROVISIONING, availability.reason)
    return next_attempt(transition, timeouts)


def unanswered(transition: Transition, found: ProviderUnavailable, timeouts: Timeouts) -> Decision:
    if _overdue(transition, timeouts):
        return terminate(transition, Failure(reason=Reason.PROVIDER_UNAVAILABLE, message=found.message))
    return transition.requeue_after("advance", timeouts.unanswered_poll)


def _overdue(transition: Transition, timeouts: Timeouts) -> bool:
    return seconds_between(transition.record.phase_since, transition.now) >= timeouts.provisioning
