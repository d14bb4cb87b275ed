"""Acceptance: the first record and event of an instance."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from gpulaunch.models.instances import EventType, Mode, Phase
from gpulaunch.models.offers import Offer
from gpulaunch.models.requests import LaunchRequest
from shared.domain.instance import Event, EventData, InstanceRecord
from shared.domain.request import StoredRequest


def accept(
    request: LaunchRequest,
    *,
    instance_id: str,
    now: datetime,
    offers: Sequence[Offer],
    mode: Mode,
    mode_reason: str,
    lifetime_minutes: int,
    estimated_hourly_usd: float,
    worst_case_usd: float,
    excluded: Mapping[str, str] | None = None,
    traceparent: str | None = None,
    replica_of: str | None = None,
    generation: int | None = None,
) -> tuple[InstanceRecord, tuple[Event, ...]]:
    """Return the record and first event of a new instance; its first step is due at once.

    `excluded` has the offers that are not tried, reason by key; the event shows them.
    """
    record = InstanceRecord(
        instance_id=instance_id,
        replica_of=replica_of,
        generation=generation,
        request=StoredRequest.of(request),
        mode=mode,
        mode_reason=mode_reason,
        phase=Phase.QUEUED,
        phase_since=now,
        created_at=now,
        updated_at=now,
        deadline_at=now + timedelta(minutes=lifetime_minutes),
        due_at=now,
        offers=list(offers),
        event_count=1,
        estimated_hourly_usd=estimated_hourly_usd,
        worst_case_usd=worst_case_usd,
        traceparent=traceparent,
    )
    data: EventData = {"mode": mode, "mode_reason": mode_reason, "offers": [offer.key for offer in offers]}
    if excluded:
        data["left_out"] = dict(excluded)
    event = Event(
        sequence=0,
        at=now,
        type=EventType.ACCEPTED,
        phase=Phase.QUEUED,
        message=_accepted(request, mode, replica_of),
        data=data,
    )
    return record, (event,)


def _accepted(request: LaunchRequest, mode: Mode, replica_of: str | None) -> str:
    what = "" if replica_of is None else f" as a replica of {replica_of}"
    return f"Launch of {request.model_name} on {request.provider}{what} accepted ({mode})."
