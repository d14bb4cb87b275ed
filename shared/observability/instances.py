"""What telemetry is told of records: one place, so that names and attributes are the same everywhere."""

import json
import logging
from collections.abc import Sequence
from datetime import timedelta

from gpulaunch.models.instances import EventType, Phase
from gpulaunch.models.times import seconds_between
from shared.control.parts import Parts
from shared.domain.costs import micro_usd
from shared.domain.event import Event
from shared.domain.instance import InstanceRecord
from shared.domain.money import MICRO, CostEntry
from shared.observability.base import COST, FAILURES, LAUNCHES, PHASE_SECONDS, PHASES, READY_SECONDS, Value

log = logging.getLogger("gpulaunch.money")


def about(record: InstanceRecord) -> dict[str, Value]:
    """What every span of an instance says of it."""
    attempt = record.attempt
    return {
        "instance_id": record.instance_id,
        "attempt": attempt.number if attempt else None,
        "phase": record.phase.value,
        "mode": record.mode,
        "provider": record.request.provider,
    }


def record_accepted(parts: Parts, record: InstanceRecord) -> None:
    """A launch was accepted."""
    parts.telemetry.count(LAUNCHES, mode=record.mode, provider=record.request.provider)


def record_events(parts: Parts, record: InstanceRecord, events: Sequence[Event]) -> None:
    """A change was written: each phase and each failed attempt that it ended becomes a span of the launch's trace.

    What a process was about to tell when it died is never told; nothing is told twice.
    """
    for event in events:
        same: dict[str, Value] = {"mode": record.mode, "provider": record.request.provider}
        lasted = event.duration_seconds or 0.0
        begin = event.at - timedelta(seconds=lasted)
        span = {**about(record), "attempt": event.attempt}
        reason = event.reason.value if event.reason else None
        if event.type is EventType.PHASE:
            left, entered = str(event.data["from"]), event.phase
            span |= {"phase": left, "next_phase": entered.value, "reason": reason}
            parts.telemetry.finished(f"phase {left}", record.traceparent, begin, event.at, None, **span)
            parts.telemetry.measure(PHASE_SECONDS, lasted, phase=left, **same)
            parts.telemetry.count(PHASES, 1, phase=entered.value, **same)
            if entered is Phase.READY and record.recoveries == 0:
                parts.telemetry.measure(READY_SECONDS, seconds_between(record.created_at, event.at), **same)
        elif event.type is EventType.ATTEMPT_FAILED:
            where = {"region": str(event.data.get("region", "")), "reason": reason}
            parts.telemetry.finished("attempt", record.traceparent, begin, event.at, reason, **span | where)
            parts.telemetry.count(FAILURES, 1, **same, **where)


def record_costs(parts: Parts, costs: Sequence[CostEntry]) -> None:
    """Costs were booked: a metric by machine, and a line for each attempt, which has the labels too."""
    for cost in costs:
        usd = micro_usd(cost.price_per_hour, cost.up_at, cost.gone_at) / MICRO
        parts.telemetry.count(
            COST,
            usd,
            mode=cost.mode,
            provider=cost.provider,
            region=cost.region,
            instance_type=cost.instance_type,
            use_spot=cost.use_spot,
        )
        log.info(
            "%s cost %.6f USD in attempt %s",
            cost.instance_id,
            usd,
            cost.attempt,
            extra={
                "event": "cost",
                "instance_id": cost.instance_id,
                "attempt": cost.attempt,
                "mode": cost.mode,
                "provider": cost.provider,
                "cost_usd": usd,
                "labels": json.dumps(cost.labels),
            },
        )
