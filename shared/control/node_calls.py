"""What nodes say: each call proves itself by its attempt's token, renews the lease, and may change the record."""

from datetime import timedelta

from gpulaunch.models.instances import Phase
from shared.api.problems import gone, not_found, unauthorized
from shared.control.launch_spec import redacted
from shared.control.parts import Parts
from shared.control.records import change
from shared.domain.instance import AttemptState, InstanceRecord
from shared.domain.node import (
    Assignment,
    JobResult,
    LeaseAnswer,
    NodePhase,
    NodeRegistration,
    NodeStatus,
    NoticeReport,
)
from shared.lifecycle.observations import Noticed, Observation, Registered, Reported
from shared.storage.base import Versioned


def node_record(parts: Parts, instance_id: str, token: str) -> tuple[InstanceRecord, int]:
    """The record that a node's token belongs to, and the attempt's number.

    Raises
    ------
    ProblemError
        401: the token is of no attempt of that instance.
    """
    found: Versioned | None = parts.store.load(instance_id)
    # The same answer for a wrong token and a wrong instance: nobody learns which instances exist.
    attempts = found.record.attempts if found is not None else []
    for attempt in reversed(attempts):
        if parts.deriver.is_node(token, instance_id, attempt.number) and found is not None:
            return found.record, attempt.number
    raise unauthorized("The token is not one of a node of this instance.")


def lease(parts: Parts, record: InstanceRecord, attempt: int) -> LeaseAnswer:
    """Whether the node of an attempt may go on living, and for how long."""
    latest = record.attempt
    renewed = (
        latest is not None
        and latest.number == attempt
        and latest.state in (AttemptState.SUBMITTING, AttemptState.SUBMITTED)
        and record.phase not in (Phase.TERMINATING, Phase.TERMINATED, Phase.FAILED)
    )
    return LeaseAnswer(renewed=renewed, lease_seconds=parts.settings.lease_seconds if renewed else 0)


def assignment(parts: Parts, record: InstanceRecord, attempt: int) -> Assignment:
    """What the node of an attempt has to do. Raises ProblemError (410) when the attempt is over."""
    if not lease(parts, record, attempt).renewed:
        raise gone("This attempt is over; the node ends itself.")
    return parts.assignments.make(record, attempt)


def report(parts: Parts, record: InstanceRecord, attempt: int, status: NodeStatus) -> LeaseAnswer:
    """Take in a node's progress."""
    return _apply(parts, record, attempt, Reported(attempt, redacted(parts, status)))


def register(parts: Parts, record: InstanceRecord, attempt: int, registration: NodeRegistration) -> LeaseAnswer:
    """Take in that a node serves."""
    return _apply(parts, record, attempt, Registered(attempt, registration))


def notice(parts: Parts, record: InstanceRecord, attempt: int, said: NoticeReport) -> LeaseAnswer:
    """Take in that a node expects to go away."""
    leaves_at = None
    if said.seconds_left is not None:
        leaves_at = parts.clock.now() + timedelta(seconds=said.seconds_left)
    return _apply(parts, record, attempt, Noticed(attempt, said.notice, leaves_at))


def complete(parts: Parts, record: InstanceRecord, attempt: int, result: JobResult) -> LeaseAnswer:
    """Take in that the instance's job ended."""
    return _apply(parts, record, attempt, Reported(attempt, NodeStatus(phase=NodePhase.SERVING, job=result)))


def _apply(parts: Parts, record: InstanceRecord, attempt: int, found: Observation) -> LeaseAnswer:
    changed = change(parts, record.instance_id, found)
    if changed is None:
        raise not_found(f"instance {record.instance_id}")
    return lease(parts, changed, attempt)
