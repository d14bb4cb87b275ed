"""Terminate an instance whose record cannot be read: delete what carries its name, then close its row."""

import logging
from dataclasses import dataclass

from shared.clock import Clock
from shared.control.clusters import ClusterListing
from shared.control.garbage_report import GarbageReports
from shared.control.records import Records
from shared.domain.errors import InstanceChangedError, InstanceNotFoundError
from shared.domain.instance import InstanceRecord
from shared.errors import StaleRecordError
from shared.lifecycle.observations import TerminationRequested
from shared.lifecycle.rules import user_asked
from shared.storage.base import InstanceStore, Marker, Unreadable, UnreadableRecordError, Versioned

log = logging.getLogger("gpulaunch.lifecycle")

TERMINATE_UNREADABLE = "terminate-unreadable"
"""Markers of unreadable instances that a user has terminated; the key is the instance's id."""


@dataclass(frozen=True)
class UnreadableTermination:
    store: InstanceStore
    listing: ClusterListing
    reports: GarbageReports
    clock: Clock

    def request(self, row: Unreadable) -> bool:
        """Begin to terminate; True once nothing is left and the row is closed. Intent is written before the act.

        Raises:
            StaleRecordError: The row was changed meanwhile; ask again.
        """
        if row.ended:
            return True
        self.store.put_marker(Marker(kind=TERMINATE_UNREADABLE, key=row.instance_id, at=self.clock.now()))
        return self.advance(row)

    def requested(self) -> set[str]:
        """The ids of unreadable instances that a user has terminated."""
        return {marker.key for marker in self.store.markers(TERMINATE_UNREADABLE)}

    def forget(self, instance_id: str) -> None:
        self.store.drop_marker(TERMINATE_UNREADABLE, instance_id)

    def advance(self, row: Unreadable) -> bool:
        """Delete what there is; True once nothing is left and the row is closed.

        What exists is known from the listings alone: a row that makes no sense may name too few clusters. While
        SkyPilot has lost some of its records, its listing proves nothing.
        """
        running = self.listing.read()
        left = [
            name
            for name, (source, _) in running.clusters.items()
            if row.owns(name) and not self.listing.delete(source, name)
        ]
        if left or not running.complete or self.reports.read().report.lost:
            return False
        self.store.close_unreadable(row)
        self.forget(row.instance_id)
        log.warning("%s could not be read; nothing is left of its nodes, and its row is closed", row.instance_id)
        return True


@dataclass(frozen=True)
class Terminator:
    records: Records
    unreadable: UnreadableTermination

    def terminate(self, instance_id: str) -> InstanceRecord | Unreadable:
        """Begin to terminate an instance, in whatever phase; harmless when it is terminating or has ended.

        Returns the record as it stands then, or the row that cannot be read.

        Raises:
            InstanceNotFoundError: There is no such instance.
            StaleRecordError: Others kept changing the record; ask again.
        """
        try:
            record = self.records.change(instance_id, TerminationRequested(user_asked()))
        except UnreadableRecordError as error:
            self.unreadable.request(error.unreadable)
            return error.unreadable
        if record is None:
            raise InstanceNotFoundError(instance_id)
        return record

    def terminate_seen(self, seen: Versioned) -> InstanceRecord:
        """As `terminate`, of a record that is as its caller has seen it.

        Raises:
            InstanceChangedError: It has changed meanwhile.
        """
        try:
            return self.records.change_seen(seen, TerminationRequested(user_asked()))
        except StaleRecordError as error:
            raise InstanceChangedError from error

    def terminate_again(self, instance_id: str) -> bool:
        """Terminate an instance that a user terminated while its record could not be read; whether that has begun.

        Raises:
            StaleRecordError: Others kept changing the record; ask again.
        """
        try:
            found = self.terminate(instance_id)
        except InstanceNotFoundError:
            found = None
        if isinstance(found, Unreadable):
            return False
        self.unreadable.forget(instance_id)
        return found is not None
