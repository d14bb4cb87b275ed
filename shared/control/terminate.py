"""A user wants an instance gone."""

from shared.api.problems import not_found
from shared.control.parts import Parts
from shared.control.records import change
from shared.domain.instance import InstanceRecord
from shared.lifecycle.observations import TerminationRequested
from shared.lifecycle.rules import user_asked


def end_instance(parts: Parts, instance_id: str) -> InstanceRecord:
    """Begin to end an instance, in whatever phase; harmless when it is ending or has ended.

    Raises
    ------
    ProblemError
        404: there is no such instance.
    StaleRecordError
        The record kept changing; the caller may ask again.
    """
    record = change(parts, instance_id, TerminationRequested(user_asked()))
    if record is None:
        raise not_found(f"instance {instance_id}")
    return record
