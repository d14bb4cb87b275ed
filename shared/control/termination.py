"""Terminate an instance at a user's request."""

from shared.control.records import Records
from shared.control.unreadable import UnreadableTermination
from shared.domain.errors import InstanceNotFoundError
from shared.domain.instance import InstanceRecord
from shared.lifecycle.observations import TerminationRequested
from shared.lifecycle.rules import user_asked
from shared.storage.base import Unreadable, UnreadableRecordError


class Terminator:
    """Terminates instances, readable or not."""

    def __init__(self, records: Records, unreadable: UnreadableTermination) -> None:
        self._records = records
        self._unreadable = unreadable

    def terminate(self, instance_id: str) -> InstanceRecord | Unreadable:
        """Begin to terminate an instance, in whatever phase; harmless when it is terminating or has ended.

        Returns the record as it stands then, or the row that cannot be read.

        Raises:
            InstanceNotFoundError: There is no such instance.
            StaleRecordError: Others kept changing the record; ask again.
        """
        try:
            record = self._records.change(instance_id, TerminationRequested(user_asked()))
        except UnreadableRecordError as error:
            self._unreadable.request(error.unreadable)
            return error.unreadable
        if record is None:
            raise InstanceNotFoundError(instance_id)
        return record
