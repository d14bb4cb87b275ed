"""The lifecycle in two questions: what is to be done for this record now, and what follows from what was found.

Both are pure: record, observation and time in, act or decision out.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from gpulaunch.models.instances import Phase, Reason
from shared.domain.instance import AttemptState, Failure, InstanceRecord
from shared.lifecycle import progress, release, termination, validation
from shared.lifecycle import provision as provisioning
from shared.lifecycle import ready as health
from shared.lifecycle.observations import (
    Act,
    Check,
    Checked,
    Decide,
    EndAsked,
    Look,
    Looked,
    NotEnabled,
    Nothing,
    Noticed,
    Observation,
    Poisoned,
    Probed,
    Refused,
    Registered,
    Release,
    Released,
    Reported,
    Submit,
    Submitted,
    Tick,
    Unanswered,
)
from shared.lifecycle.rules import next_check, overdue, verdict
from shared.lifecycle.timeouts import Limits
from shared.lifecycle.transition import Decision, Draft, unchanged

EARLY = timedelta(seconds=1)
"""A message may come this much before its step is due: queues count delays in whole seconds."""


_DONE = (Tick, Checked, Submitted, Refused, NotEnabled, Unanswered, Looked, Released)
"""What steps find, whatever it is."""


def next_act(record: InstanceRecord, now: datetime, *, claimed: bool) -> Act:
    """What to do for an instance whose step message came.

    `claimed`: this very step wrote the attempt's submit lease a moment ago.
    """
    if record.ended or (not claimed and record.due_at is not None and now + EARLY < record.due_at):
        return Nothing()
    if record.phase is Phase.TERMINATING or _releasing(record):
        return Release()
    if verdict(record, now) is not None or record.phase in (Phase.QUEUED, Phase.READY):
        return Decide()
    if record.phase is Phase.VALIDATING:
        return Check()
    attempt = record.attempt
    if attempt is None or attempt.state is AttemptState.GONE:
        return Decide()
    if attempt.state is AttemptState.SUBMITTING:
        return Submit() if claimed else Decide()
    return Look()


def decide(record: InstanceRecord, found: Observation, now: datetime, limits: Limits) -> Decision:
    """What follows from what was found. An observation that no longer fits the record changes nothing."""
    if record.ended:
        return unchanged(record)
    decision = _decide(record, found, now, limits)
    if record.poisoned and decision.changed and isinstance(found, _DONE):
        # A step that came as far as to be decided on is none that always fails.
        return replace(decision, record=decision.record.model_copy(update={"poisoned": 0}))
    return decision


def _decide(record: InstanceRecord, found: Observation, now: datetime, limits: Limits) -> Decision:
    draft = Draft(record, now)
    match found:
        case Poisoned():
            return termination.poisoned(draft, found, limits)
        case EndAsked():
            if _releasing(record):
                termination.alert_when_late(draft, "", limits)
            return termination.end(draft, found.failure)
        case Released():
            if record.phase is Phase.TERMINATING or _releasing(record):
                return release.released(draft, found, limits)
            return unchanged(record)
        case Unanswered() | NotEnabled() if record.phase is Phase.TERMINATING or _releasing(record):
            return termination.not_gone(draft, found.message, limits)
        case _ if record.phase is Phase.TERMINATING or _releasing(record):
            return unchanged(record)
        case Probed() | Noticed() | Reported() | Registered():
            return _told(draft, found, limits)
        case _:
            pass
    ending = verdict(record, now)
    if ending is not None:
        return termination.end(draft, ending)
    return _step(draft, found, limits)


def _step(draft: Draft, found: Observation, limits: Limits) -> Decision:
    """A step's own observation, for a record that goes on."""
    record = draft.record
    match record.phase, found:
        case Phase.QUEUED, Tick():
            return validation.begin(draft)
        case Phase.VALIDATING, Checked():
            return validation.checked(draft, found, limits)
        case Phase.VALIDATING, Unanswered():
            return validation.unanswered(draft, found, limits)
        case Phase.READY, Tick():
            due = next_check(record, draft.now)
            return unchanged(record) if record.due_at == due else draft.rest(due)
        case Phase.RECOVERING | Phase.PROVISIONING, Tick():
            return _provision(draft, limits)
        case Phase.PROVISIONING, Submitted() if _submitting(record):
            return provisioning.submitted(draft, found.request_id)
        case Phase.PROVISIONING, Refused() if _submitting(record):
            return provisioning.refused(draft, found.failure, limits)
        case Phase.VALIDATING | Phase.PROVISIONING, NotEnabled():
            failure = Failure(reason=Reason.PROVIDER_UNAVAILABLE, message=found.message)
            return termination.end(draft, failure)
        case _, Looked() if _submitted(record) and record.phase is not Phase.READY:
            return progress.looked(draft, found, limits)
        case _, Unanswered() | NotEnabled() if record.attempt is not None and record.phase is not Phase.READY:
            return progress.unanswered(draft, found, limits)
        case _:
            return unchanged(record)


def _provision(draft: Draft, limits: Limits) -> Decision:
    attempt = draft.record.attempt
    if attempt is None or attempt.state is AttemptState.GONE:
        return provisioning.next_attempt(draft, limits)
    if attempt.state is not AttemptState.SUBMITTING:
        return unchanged(draft.record)
    if draft.now < attempt.submit_lease_until:
        # Another step holds the lease: it may be submitting at this moment.
        return draft.follow("advance", (attempt.submit_lease_until - draft.now).total_seconds())
    late = overdue(draft.record, draft.now, limits.allowed)
    if late is not None:
        return provisioning.give_up_attempt(draft, late, limits)
    return provisioning.claim_again(draft, limits)


def _told(draft: Draft, found: Probed | Noticed | Reported | Registered, limits: Limits) -> Decision:
    """What a node or a probe said, for the present attempt only."""
    record = draft.record
    attempt = record.attempt
    if attempt is None or attempt.state not in (AttemptState.SUBMITTING, AttemptState.SUBMITTED):
        return unchanged(record)
    if not isinstance(found, Probed) and found.attempt != attempt.number:
        return unchanged(record)
    # A node ends itself at its deadline and says so: that is no loss to recover from. Only a good probe goes first,
    # since it may show that the node was not idle.
    ending = None if isinstance(found, Probed) and found.probe.alive else verdict(record, draft.now)
    if ending is not None:
        return termination.end(draft, ending)
    ready = record.phase is Phase.READY
    match found:
        case Probed():
            return health.probed(draft, found, limits) if ready else unchanged(record)
        case Noticed() if ready:
            return health.noticed(draft, found, limits)
        case Noticed():
            return provisioning.give_up_attempt(draft, progress.leaving(found.notice), limits)
        case Reported():
            return health.reported(draft, found, limits) if ready else progress.reported(draft, found, limits)
        case Registered():
            return unchanged(record) if ready else progress.registered(draft, found)


def _releasing(record: InstanceRecord) -> bool:
    return record.attempt is not None and record.attempt.state is AttemptState.RELEASING


def _submitting(record: InstanceRecord) -> bool:
    return record.attempt is not None and record.attempt.state is AttemptState.SUBMITTING


def _submitted(record: InstanceRecord) -> bool:
    return record.attempt is not None and record.attempt.state is AttemptState.SUBMITTED
