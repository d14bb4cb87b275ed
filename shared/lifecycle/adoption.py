"""The record of a node that runs and has none: its table was lost. Pure."""

from datetime import datetime, timedelta

from gpulaunch.models.instances import EventType, Phase, Reason
from gpulaunch.models.offers import Offer
from gpulaunch.models.times import seconds_between
from shared.domain.instance import Attempt, AttemptState, Event, Failure, InstanceRecord, cluster_name
from shared.domain.request import StoredRequest
from shared.lifecycle.timeouts import Timeouts

_EPOCH = 1000
"""Above any epoch of the record that was lost, which rises with recoveries: messages that were sent for it, or lie in
a poison queue since no record was found, are of an earlier epoch and count for nothing."""


def adopted(
    instance_id: str,
    number: int,
    offer: Offer,
    *,
    model_name: str,
    created_at: datetime,
    now: datetime,
    lifetime_minutes: int,
    heard: bool,
    calls_us: bool,
    port: int | None,
    timeouts: Timeouts,
) -> tuple[InstanceRecord, tuple[Event, ...]]:
    """Return the record and first event of an instance whose attempt `number` runs on `offer` since `created_at`.

    Its phase follows from the node's next report, for which it has the time of an installation; `heard`: it has called
    lately. It costs from its creation. What was asked for is not known, so a loss is not recovered from.
    """
    here = Phase.INSTALLING
    lost = Failure(reason=Reason.PROVIDER_UNAVAILABLE, message="The record of this attempt was lost.")
    earlier = [
        Attempt(
            number=one,
            offer=offer,
            cluster_name=cluster_name(instance_id, one),
            state=AttemptState.GONE,
            submit_lease_until=created_at,
            started_at=created_at,
            gone_at=created_at,
            billed_from=None,
            failure=lost,
        )
        for one in range(1, number)
    ]
    name = cluster_name(instance_id, number)
    latest = Attempt(
        number=number,
        offer=offer,
        cluster_name=name,
        state=AttemptState.SUBMITTED,
        submit_lease_until=now,
        started_at=created_at,
        billed_from=created_at,
        node_up_at=now,
        listed=True,
        calls_us=calls_us,
        heard_at=now if heard else None,
        proves=True,
        tls=True,
        port=port,
    )
    request = StoredRequest(
        model_name=model_name,
        provider=offer.provider,
        region=offer.region,
        use_spot=offer.use_spot,
        spot_fallback=False,
        instance_type=offer.instance_type,
        gpu=offer.gpus if offer.instance_type is None else None,
    )
    deadline = created_at + timedelta(minutes=lifetime_minutes)
    message = f"Adopted {name}, which was running without a record."
    record = InstanceRecord(
        instance_id=instance_id,
        request=request,
        mode="real",
        mode_reason="Its record was lost; it was adopted from the cloud.",
        phase=here,
        phase_since=now,
        created_at=created_at,
        updated_at=now,
        deadline_at=deadline,
        due_at=now,
        offers=[offer],
        tried_in_round=1,
        attempts=[*earlier, latest],
        recoveries=timeouts.max_recoveries,
        epoch=_EPOCH,
        event_count=1,
        estimated_hourly_usd=offer.price_per_hour,
        worst_case_usd=offer.price_per_hour * seconds_between(created_at, deadline) / 3600,
    )
    event = Event(sequence=0, at=now, type=EventType.ACCEPTED, phase=here, message=message, attempt=number)
    return record, (event,)
