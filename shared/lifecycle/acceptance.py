"""The first line of an instance's story: a request that was accepted."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from shared.models.offers import Offer
from shared.models.records import Event, EventType, InstanceRecord, Mode, Phase
from shared.models.requests import LaunchRequest


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
) -> tuple[InstanceRecord, tuple[Event, ...]]:
    """The record and the first event of a new instance; its first step is due at once."""
    record = InstanceRecord(
        instance_id=instance_id,
        request=request,
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
    )
    event = Event(
        sequence=0,
        at=now,
        type=EventType.ACCEPTED,
        phase=Phase.QUEUED,
        message=f"Launch of {request.model_name} on {request.provider} accepted ({mode}).",
        data={"mode": mode, "mode_reason": mode_reason, "offers": [offer.key for offer in offers]},
    )
    return record, (event,)
