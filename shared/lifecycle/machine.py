"""The lifecycle: what to do for a record now, and what follows from an observation. Pure."""

from dataclasses import replace
from datetime import datetime, timedelta

from gpulaunch.models.instances import Phase, Reason
from shared.domain.instance import AttemptState, Failure, InstanceRecord
from shared.domain.node import NodeRegistration
from shared.lifecycle import liveness, progress, termination, validation
from shared.lifecycle import provision as provisioning
from shared.lifecycle import ready as health
from shared.lifecycle.observations import (
    Act,
    Checked,
    CheckProvider,
    Decide,
    Describe,
    Heard,
    LaunchRefused,
    NotEnabled,
    Nothing,
    Noticed,
    Observation,
    Observed,
    Poisoned,
    Probed,
    ProviderUnavailable,
    Registered,
    Release,
    Released,
    Reported,
    StillReleasing,
    Submit,
    Submitted,
    TerminationRequested,
    TimerFired,
)
from shared.lifecycle.rules import decision_time, next_deadline, overdue, termination_reason
from shared.lifecycle.timeouts import Timeouts
from shared.lifecycle.transition import Decision, Transition, unchanged

EARLY = timedelta(seconds=1)
"""How early a message may arrive: queues count delays in whole seconds."""


_DONE = (TimerFired, Checked, Submitted, LaunchRefused, NotEnabled, ProviderUnavailable, Observed, Released)
"""Observations that prove that a step ran to its decision."""


def next_act(record: InstanceRecord, now: datetime, *, claimed: bool) -> Act:
    """Return what to do for an instance whose step message arrived.

    `claimed`: this very step has just written the attempt's submit lease.
    """
    now = decision_time(record, now)
    if record.ended or (not claimed and record.due_at is not None and now + EARLY < record.due_at):
        return Nothing()
    if record.phase is Phase.TERMINATING or _releasing(record):
        return Release()
    if termination_reason(record, now) is not None or record.phase in (Phase.QUEUED, Phase.READY):
        return Decide()
    if record.phase is Phase.VALIDATING:
        return CheckProvider()
    attempt = record.attempt
    if attempt is None or attempt.state is AttemptState.GONE:
        return Decide()
    if attempt.state is AttemptState.SUBMITTING:
        return Submit() if claimed else Decide()
    return Describe()


def decide(record: InstanceRecord, found: Observation, now: datetime, timeouts: Timeouts) -> Decision:
    """Return what follows from an observation. One that no longer fits the record changes nothing."""
    if record.ended:
        return unchanged(record)
    decision = _decide(record, found, decision_time(record, now), timeouts)
    if record.poisoned and decision.changed and isinstance(found, _DONE):
        # A step that reached a decision is not a poison message: reset the counter.
        return replace(decision, record=decision.record.model_copy(update={"poisoned": 0, "poison_ids": []}))
    return decision


def _decide(record: InstanceRecord, found: Observation, now: datetime, timeouts: Timeouts) -> Decision:
    transition = Transition(record, now)
    match found:
        case Poisoned():
            return termination.poisoned(transition, found, timeouts)
        case TerminationRequested():
            if _releasing(record):
                termination.alert_when_late(transition, "", timeouts)
            return termination.terminate(transition, found.failure)
        case Released():
            if record.phase is Phase.TERMINATING or _releasing(record):
                return provisioning.released(transition, found, timeouts)
            return unchanged(record)
        case ProviderUnavailable() | NotEnabled() if record.phase is Phase.TERMINATING or _releasing(record):
            return termination.not_gone(transition, found.message, timeouts)
        case StillReleasing():
            return termination.still_releasing(transition, timeouts) if _releasing(record) else unchanged(record)
        case _ if record.phase is Phase.TERMINATING or _releasing(record):
            return unchanged(record)
        case Probed() | Noticed() | Reported() | Registered() | Heard():
            return _reported(transition, found, timeouts)
        case _:
            pass
    ending = termination_reason(record, now)
    if ending is not None:
        return termination.terminate(transition, ending)
    return _step(transition, found, timeouts)


def _step(transition: Transition, found: Observation, timeouts: Timeouts) -> Decision:
    record = transition.record
    match record.phase, found:
        case Phase.QUEUED, TimerFired():
            return validation.begin(transition)
        case Phase.VALIDATING, Checked():
            return validation.checked(transition, found, timeouts)
        case Phase.VALIDATING, LaunchRefused():
            return validation.refused(transition, found)
        case Phase.VALIDATING, ProviderUnavailable():
            return validation.unanswered(transition, found, timeouts)
        case Phase.READY, TimerFired():
            due = next_deadline(record, transition.now)
            return unchanged(record) if record.due_at == due else transition.wait_until(due)
        case Phase.RECOVERING | Phase.PROVISIONING, TimerFired():
            return _provision(transition, timeouts)
        case Phase.PROVISIONING, Submitted() if _submitting(record):
            return provisioning.submitted(transition, found.request_id)
        case Phase.PROVISIONING, LaunchRefused() if _submitting(record):
            return provisioning.refused(transition, found.failure, timeouts)
        case Phase.VALIDATING | Phase.PROVISIONING, NotEnabled():
            failure = Failure(reason=Reason.PROVIDER_UNAVAILABLE, message=found.message)
            return termination.terminate(transition, failure)
        case _, Observed() if _submitted(record) and record.phase is not Phase.READY:
            return progress.observed(transition, found, timeouts)
        case _, ProviderUnavailable() | NotEnabled() if record.attempt is not None and record.phase is not Phase.READY:
            return progress.unanswered(transition, found, timeouts)
        case _:
            return unchanged(record)


def _provision(transition: Transition, timeouts: Timeouts) -> Decision:
    attempt = transition.record.attempt
    if attempt is None or attempt.state is AttemptState.GONE:
        return provisioning.next_attempt(transition, timeouts)
    if attempt.state is not AttemptState.SUBMITTING:
        return unchanged(transition.record)
    if transition.now < attempt.submit_lease_until:
        # Another step holds the lease and may be submitting right now.
        until = min(attempt.submit_lease_until, next_deadline(transition.record, transition.now))
        return transition.requeue_after("advance", (until - transition.now).total_seconds())
    if overdue(transition.record, transition.now, timeouts.allowed) is not None:
        # No step submits any more, but one may have: look before it is given up.
        return provisioning.submitted(transition, attempt.request_id)
    return provisioning.claim_again(transition, timeouts)


def _reported(
    transition: Transition, found: Probed | Noticed | Reported | Registered | Heard, timeouts: Timeouts
) -> Decision:
    """Decide on a node's report or a probe, for the current attempt only."""
    record = transition.record
    attempt = record.attempt
    if attempt is None or attempt.state not in (AttemptState.SUBMITTING, AttemptState.SUBMITTED):
        return unchanged(record)
    if not isinstance(found, Probed) and found.attempt != attempt.number:
        return unchanged(record)
    # A node that shuts itself down at its deadline says so; that is not a loss to recover from.
    ending = termination_reason(record, transition.now)
    if ending is not None:
        return termination.terminate(transition, ending)
    ready = record.phase is Phase.READY
    match found:
        case Probed():
            return health.probed(transition, found, timeouts) if ready else unchanged(record)
        case Noticed() if ready:
            return health.noticed(transition, found, timeouts)
        case Noticed():
            return provisioning.give_up_attempt(transition, progress.leaving(found.notice), timeouts)
        case Reported():
            return (
                health.reported(transition, found, timeouts)
                if ready
                else progress.reported(transition, found, timeouts)
            )
        case Registered():
            return unchanged(record) if ready else progress.registered(transition, found, timeouts)
        case Heard() if not ready and attempt.node_phase is None and (port := attempt.port or found.port) is not None:
            # Only a serving node sends heartbeats. What it reported was in a record that is lost; earlier agents do not
            # report again.
            return progress.registered(transition, Registered(found.attempt, NodeRegistration(port=port)), timeouts)
        case Heard():
            return liveness.heard(transition, timeouts)


def _releasing(record: InstanceRecord) -> bool:
    return record.attempt is not None and record.attempt.state is AttemptState.RELEASING


def _submitting(record: InstanceRecord) -> bool:
    return record.attempt is not None and record.attempt.state is AttemptState.SUBMITTING


def _submitted(record: InstanceRecord) -> bool:
    return record.attempt is not None and record.attempt.state is AttemptState.SUBMITTED
