"""Calls of nodes: each proves itself by its attempt's token, renews the lease, and may change the record."""

from dataclasses import dataclass
from datetime import timedelta

from gpulaunch.models.instances import Phase
from shared.auth import Deriver
from shared.backends.base import Assignments
from shared.clock import Clock
from shared.control.observer import redacted
from shared.control.records import Records
from shared.domain.errors import AttemptOverError, InstanceNotFoundError, NodeTokenError, RecordFullError
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
from shared.redaction import Redactor
from shared.storage.base import InstanceStore, Versioned


@dataclass(frozen=True)
class NodeCaller:
    """A node that has proved itself: the record as read with its call, and its attempt's number."""

    found: Versioned
    attempt: int


@dataclass(frozen=True)
class NodeDoor:
    store: InstanceStore
    deriver: Deriver

    def caller(self, instance_id: str, token: str) -> NodeCaller:
        """The node that a token belongs to; one read.

        Raises:
            NodeTokenError: The token belongs to no attempt of that instance.
        """
        found = self.store.load(instance_id)
        for attempt in reversed(found.record.attempts if found is not None else []):
            if found is not None and self.deriver.is_node(token, instance_id, attempt.number):
                return NodeCaller(found, attempt.number)
        raise NodeTokenError


@dataclass(frozen=True)
class NodeCalls:
    records: Records
    assignments: Assignments
    clock: Clock
    redactor: Redactor
    lease_seconds: int

    def assignment(self, caller: NodeCaller) -> Assignment:
        if not self.lease(caller).renewed:
            raise AttemptOverError
        return self.assignments.make(caller.found.record, caller.attempt)

    def lease(self, caller: NodeCaller) -> LeaseAnswer:
        """Whether the node may go on living, and for how long: never beyond the deadline."""
        return self._lease(caller.found.record, caller.attempt)

    def progress(self, caller: NodeCaller, status: NodeStatus) -> LeaseAnswer:
        """Apply a report.

        Raises:
            RecordFullError: The record has room for what leads to the end only.
        """
        if caller.found.record.is_full and not status.leads_to_end:
            raise RecordFullError
        return self._apply(caller, Reported(caller.attempt, redacted(self.redactor, status)))

    def register(self, caller: NodeCaller, registration: NodeRegistration) -> LeaseAnswer:
        return self._apply(caller, Registered(caller.attempt, registration))

    def notice(self, caller: NodeCaller, report: NoticeReport) -> LeaseAnswer:
        leaves_at = None
        if report.seconds_left is not None:
            leaves_at = self.clock.now() + timedelta(seconds=report.seconds_left)
        return self._apply(caller, Noticed(caller.attempt, report.notice, leaves_at))

    def complete(self, caller: NodeCaller, result: JobResult) -> LeaseAnswer:
        return self._apply(caller, Reported(caller.attempt, NodeStatus(phase=NodePhase.SERVING, job=result)))

    def _apply(self, caller: NodeCaller, observed: Observation) -> LeaseAnswer:
        instance_id = caller.found.record.instance_id
        changed = self.records.change(instance_id, observed, caller.found)
        if changed is None:
            raise InstanceNotFoundError(instance_id)
        return self._lease(changed, caller.attempt)

    def _lease(self, record: InstanceRecord, attempt: int) -> LeaseAnswer:
        latest = record.attempt
        left = int((record.deadline_at - self.clock.now()).total_seconds())
        renewed = (
            left > 0
            and latest is not None
            and latest.number == attempt
            and latest.state in (AttemptState.SUBMITTING, AttemptState.SUBMITTED)
            and record.phase not in (Phase.TERMINATING, Phase.TERMINATED, Phase.FAILED)
        )
        return LeaseAnswer(renewed=renewed, lease_seconds=min(self.lease_seconds, left) if renewed else 0)
