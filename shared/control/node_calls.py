"""Calls of nodes: each proves itself by its attempt's token, renews the lease, and may change the record."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from gpulaunch.models.instances import Phase
from gpulaunch.models.requests import ProviderName
from shared.auth import Deriver
from shared.backends.base import Assignments
from shared.clock import Clock
from shared.control.observer import redacted
from shared.control.records import Records
from shared.domain.errors import (
    AttemptOverError,
    InstanceNotFoundError,
    NodeTokenError,
    RecordFullError,
    UnrecordedNodeError,
)
from shared.domain.instance import AttemptState, InstanceRecord, cluster_name
from shared.domain.node import (
    Assignment,
    JobResult,
    LeaseAnswer,
    NodePhase,
    NodeRegistration,
    NodeStatus,
    NoticeReport,
    ReportRequest,
)
from shared.errors import StoreError
from shared.lifecycle.observations import Heard, Noticed, Observation, Registered, Reported
from shared.redaction import Redactor
from shared.storage.base import UNRECORDED_CALLER, InstanceStore, Marker, UnreadableRecordError, Versioned

CALLED_FOR = timedelta(hours=1)
"""How long the marker of such a node is kept after its last call; it calls every minute."""
_ATTEMPTS = 100
"""Attempts beyond the recorded ones that a token is compared with, 3 µs each: more than five recoveries come to, unless
an offer is tried again and again."""

log = logging.getLogger("gpulaunch.lifecycle")


@dataclass(frozen=True)
class NodeCaller:
    """A node that has proved itself: the record as read with its call, and its attempt's number."""

    found: Versioned
    attempt: int


@dataclass(frozen=True)
class NodeDoor:
    store: InstanceStore
    deriver: Deriver
    clock: Clock

    def caller(self, instance_id: str, token: str) -> NodeCaller:
        """The node that a token belongs to; one read.

        Raises:
            NodeTokenError: The token belongs to no attempt of that instance.
            UnrecordedNodeError: The token is a node's, but the table has no record of its attempt, or none that this
                version can read.
        """
        try:
            found = self.store.load(instance_id)
        except UnreadableRecordError as error:
            if error.unreadable.ended:
                raise
            self._unrecorded(instance_id, token, 1)
            raise NodeTokenError from error
        attempts = [] if found is None else found.record.attempts
        for attempt in reversed(attempts):
            if found is not None and self.deriver.is_node(token, instance_id, attempt.number):
                return NodeCaller(found, attempt.number)
        if found is None or not found.record.ended:
            self._unrecorded(instance_id, token, len(attempts) + 1)
        raise NodeTokenError

    def _unrecorded(self, instance_id: str, token: str, first: int) -> None:
        """Note a node whose attempt is not in the table, for the garbage collection to show.

        Raises:
            UnrecordedNodeError: The token belongs to an attempt from `first` on.
        """
        now = self.clock.now()
        for number in range(first, first + _ATTEMPTS):
            if self.deriver.is_node(token, instance_id, number):
                name = cluster_name(instance_id, number)
                self.store.put_marker(Marker(kind=UNRECORDED_CALLER, key=name, at=now, until=now + CALLED_FOR))
                raise UnrecordedNodeError


@dataclass(frozen=True)
class NodeCalls:
    records: Records
    assignments: Assignments
    clock: Clock
    redactor: Redactor
    lease_seconds: int
    server_port: Callable[[ProviderName], int | None]
    """Where vLLM listens on a provider's nodes; None: they say it."""

    def assignment(self, caller: NodeCaller) -> Assignment:
        if not self.lease(caller).renewed:
            raise AttemptOverError
        return self.assignments.make(caller.found.record, caller.attempt)

    def lease(self, caller: NodeCaller) -> LeaseAnswer:
        """Whether the node may go on living, and for how long: never beyond the deadline."""
        return self._lease(caller.found.record, caller.attempt)

    def unrecorded(self) -> LeaseAnswer:
        """The lease of a node that the table has lost: it may be in use, so it runs until its own deadline.

        It is garbage that waits for a person, or another identity's, and shown as such.
        """
        return LeaseAnswer(renewed=True, lease_seconds=self.lease_seconds)

    def heartbeat(self, caller: NodeCaller) -> LeaseAnswer:
        """Renew the lease; now and then it is written down that the node was heard, which never stands in the way."""
        record = caller.found.record
        try:
            record = (
                self.records.change(record.instance_id, Heard(caller.attempt, self._port(record)), caller.found)
                or record
            )
        except StoreError as error:
            log.info("%s: a heartbeat is not written down: %s", record.instance_id, error)
        lease = self._lease(record, caller.attempt)
        if lease.renewed and record.phase is not Phase.READY and record.attempts[-1].node_phase != NodePhase.SERVING:
            # Only a serving node sends heartbeats: what it has reported was in a record that is lost.
            return ReportRequest(renewed=True, lease_seconds=lease.lease_seconds)
        return lease

    def _port(self, record: InstanceRecord) -> int | None:
        return None if record.attempt is None else self.server_port(record.attempt.offer.provider)

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
        latest, now, until = record.attempt, self.clock.now(), record.deadline_at
        lives = latest is not None and latest.state in (AttemptState.SUBMITTING, AttemptState.SUBMITTED)
        if latest is not None and latest.state is AttemptState.RELEASING and latest.drains_until is not None:
            lives, until = True, min(until, latest.drains_until)
        left = int((until - now).total_seconds())
        renewed = (
            left > 0
            and lives
            and latest is not None
            and latest.number == attempt
            and record.phase not in (Phase.TERMINATING, Phase.TERMINATED, Phase.FAILED)
        )
        return LeaseAnswer(renewed=renewed, lease_seconds=min(self.lease_seconds, left) if renewed else 0)
