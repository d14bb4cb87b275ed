"""Calls of nodes: each proves itself by its attempt's token, renews the lease, and may change the record."""

from dataclasses import dataclass
from datetime import timedelta

from gpulaunch.models.instances import Phase
from shared.auth import Deriver
from shared.backends.base import Assignments
from shared.clock import Clock
from shared.control.observer import redacted
from shared.control.records import Records
from shared.domain.errors import AttemptOverError, InstanceNotFoundError, NodeTokenError
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


class NodeDoor:
    """Lets nodes in by their tokens."""

    def __init__(self, store: InstanceStore, deriver: Deriver) -> None:
        self._store = store
        self._deriver = deriver

    def caller(self, instance_id: str, token: str) -> NodeCaller:
        """The node that a token belongs to; one read.

        Raises:
            NodeTokenError: The token belongs to no attempt of that instance.
        """
        found = self._store.load(instance_id)
        for attempt in reversed(found.record.attempts if found is not None else []):
            if found is not None and self._deriver.is_node(token, instance_id, attempt.number):
                return NodeCaller(found, attempt.number)
        raise NodeTokenError


class NodeCalls:
    """What nodes ask for and report."""

    def __init__(
        self,
        records: Records,
        assignments: Assignments,
        clock: Clock,
        redactor: Redactor,
        lease_seconds: int,
    ) -> None:
        self._records = records
        self._assignments = assignments
        self._clock = clock
        self._redactor = redactor
        self._lease_seconds = lease_seconds

    def assignment(self, caller: NodeCaller) -> Assignment:
        """What the node has to do.

        Raises:
            AttemptOverError: The attempt is over.
        """
        if not self.lease(caller).renewed:
            raise AttemptOverError
        return self._assignments.make(caller.found.record, caller.attempt)

    def lease(self, caller: NodeCaller) -> LeaseAnswer:
        """Whether the node may go on living, and for how long."""
        return self._lease(caller.found.record, caller.attempt)

    def progress(self, caller: NodeCaller, status: NodeStatus) -> LeaseAnswer:
        """The node reports its progress."""
        return self._apply(caller, Reported(caller.attempt, redacted(self._redactor, status)))

    def register(self, caller: NodeCaller, registration: NodeRegistration) -> LeaseAnswer:
        """The node serves."""
        return self._apply(caller, Registered(caller.attempt, registration))

    def notice(self, caller: NodeCaller, report: NoticeReport) -> LeaseAnswer:
        """The node expects an interruption."""
        leaves_at = None
        if report.seconds_left is not None:
            leaves_at = self._clock.now() + timedelta(seconds=report.seconds_left)
        return self._apply(caller, Noticed(caller.attempt, report.notice, leaves_at))

    def complete(self, caller: NodeCaller, result: JobResult) -> LeaseAnswer:
        """The instance's job ended."""
        return self._apply(caller, Reported(caller.attempt, NodeStatus(phase=NodePhase.SERVING, job=result)))

    def _apply(self, caller: NodeCaller, observed: Observation) -> LeaseAnswer:
        instance_id = caller.found.record.instance_id
        changed = self._records.change(instance_id, observed, caller.found)
        if changed is None:
            raise InstanceNotFoundError(instance_id)
        return self._lease(changed, caller.attempt)

    def _lease(self, record: InstanceRecord, attempt: int) -> LeaseAnswer:
        latest = record.attempt
        renewed = (
            latest is not None
            and latest.number == attempt
            and latest.state in (AttemptState.SUBMITTING, AttemptState.SUBMITTED)
            and record.phase not in (Phase.TERMINATING, Phase.TERMINATED, Phase.FAILED)
        )
        return LeaseAnswer(renewed=renewed, lease_seconds=self._lease_seconds if renewed else 0)
