"""Terminate an instance whose record cannot be read: delete what carries its name, then close its row."""

import logging

from shared.clock import Clock
from shared.control.clusters import ClusterListing
from shared.storage.base import InstanceStore, Marker, Unreadable

log = logging.getLogger("gpulaunch.lifecycle")

TERMINATE_UNREADABLE = "terminate-unreadable"
"""Markers of unreadable instances that a user has terminated; the key is the instance's id."""


class UnreadableTermination:
    """Terminates unreadable instances; the sweep goes on with what one call does not finish."""

    def __init__(self, store: InstanceStore, listing: ClusterListing, clock: Clock) -> None:
        self._store = store
        self._listing = listing
        self._clock = clock

    def request(self, row: Unreadable) -> bool:
        """Begin to terminate; True once nothing is left and the row is closed. Intent is written before the act.

        Raises:
            StaleRecordError: The row was changed meanwhile; ask again.
        """
        if row.ended:
            return True
        marker = Marker(kind=TERMINATE_UNREADABLE, key=row.instance_id, at=self._clock.now(), text=row.why[:200])
        self._store.put_marker(marker)
        return self.advance(row)

    def requested(self) -> set[str]:
        """The ids of unreadable instances that a user has terminated."""
        return {marker.key for marker in self._store.markers(TERMINATE_UNREADABLE)}

    def advance(self, row: Unreadable) -> bool:
        """Delete what there is; True once nothing is left and the row is closed.

        What exists is known from the listings alone: a row that makes no sense may name too few clusters.
        """
        running = self._listing.read()
        left = [
            name
            for name, (source, _) in running.clusters.items()
            if row.owns(name) and not self._listing.delete(source, name)
        ]
        if left or not running.complete:
            return False
        self._store.close_unreadable(row)
        self._store.drop_marker(TERMINATE_UNREADABLE, row.instance_id)
        log.warning("%s could not be read; nothing is left of its nodes, and its row is closed", row.instance_id)
        return True
