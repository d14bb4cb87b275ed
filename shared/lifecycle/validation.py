"""Validation, before anything is paid for: can the provider be used, and the model be served by what is planned?"""

from gpulaunch.models.instances import Phase, Reason
from gpulaunch.models.times import seconds_between
from shared.domain.instance import Failure
from shared.lifecycle.observations import Checked, LaunchRefused, ProviderUnavailable
from shared.lifecycle.provision import next_attempt
from shared.lifecycle.termination import terminate
from shared.lifecycle.timeouts import Timeouts
from shared.lifecycle.transition import Decision, Transition


def begin(transition: Transition) -> Decision:
    transition.move(Phase.VALIDATING, "Checking the provider and the model.")
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
    if found.model is not None:
        transition.change(model=found.model)
    fitting = [offer for offer in transition.record.offers if offer.key not in found.unfit]
    if found.unfit and not fitting:
        return terminate(transition, Failure(reason=Reason.DOES_NOT_FIT, message=_misfit(found)))
    transition.change(offers=fitting)
    excluded = [f"{key}: {reason}" for key, reason in found.unfit.items()]
    notes = [
        found.note,
        f"Model: {found.model.words}." if found.model else "",
        f"Excluded: {'; '.join(excluded)}." if excluded else "",
    ]
    transition.move(Phase.PROVISIONING, " ".join(filter(None, (availability.reason, *notes))))
    return next_attempt(transition, timeouts)


def refused(transition: Transition, found: LaunchRefused) -> Decision:
    """End a launch whose model no node could serve; nothing was paid for."""
    return terminate(transition, found.failure)


def _misfit(found: Checked) -> str:
    reasons = list(dict.fromkeys(found.unfit.values()))
    model = found.model.source if found.model is not None else "The model"
    return f"{model} does not fit: {'; '.join(reasons)}. {found.advice}".rstrip()


def unanswered(transition: Transition, found: ProviderUnavailable, timeouts: Timeouts) -> Decision:
    if _overdue(transition, timeouts):
        return terminate(transition, Failure(reason=Reason.PROVIDER_UNAVAILABLE, message=found.message))
    return transition.requeue_after("advance", timeouts.unanswered_poll)


def _overdue(transition: Transition, timeouts: Timeouts) -> bool:
    return seconds_between(transition.record.phase_since, transition.now) >= timeouts.provisioning
