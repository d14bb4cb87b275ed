"""A user wants an instance gone."""

from shared.engine.changing import change
from shared.engine.parts import Parts
from shared.lifecycle.observations import EndAsked
from shared.models.records import InstanceRecord
from shared.policy.termination import user_asked
from shared.problems import not_found


def end_instance(parts: Parts, instance_id: str) -> InstanceRecord:
    """Begin to end an instance, in whatever phase; harmless when it is ending or has ended.

    Raises
    ------
    ProblemError
        404: there is no such instance.
    StaleRecordError
        The record kept changing; the caller may ask again.
    """
    record = change(parts, instance_id, EndAsked(user_asked()))
    if record is None:
        raise not_found(f"instance {instance_id}")
    return record
