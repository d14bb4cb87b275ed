"""Spans, counters and log lines about instances: one place, so that names and attributes agree everywhere."""

import json
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import timedelta

from gpulaunch.models.instances import EventType, Phase
from gpulaunch.models.times import seconds_between
from shared.domain.costs import micro_usd
from shared.domain.instance import Event, InstanceRecord
from shared.domain.money import MICRO, CostEntry
from shared.observability.base import (
    COST,
    FAILURES,
    LAUNCHES,
    PHASE_SECONDS,
    PHASES,
    READY_SECONDS,
    SILENT,
    Span,
    Telemetry,
    Value,
)

log = logging.getLogger("gpulaunch.money")


def about(record: InstanceRecord) -> dict[str, Value]:
    """The attributes of every span of an instance."""
    attempt = record.attempt
    return {
        "instance_id": record.instance_id,
        "attempt": attempt.number if attempt else None,
        "phase": record.phase.value,
        "mode": record.mode,
        "provider": record.request.provider,
    }


class InstanceTelemetry:
    """Telemetry in the program's own terms. Delivery is at most once: a crash loses what was not yet sent."""

    def __init__(self, telemetry: Telemetry = SILENT) -> None:
        self._telemetry = telemetry

    def span(self, name: str, record: InstanceRecord) -> AbstractContextManager[Span]:
        """A span around a block, below the launch of the instance."""
        return self._telemetry.span(name, record.traceparent, **about(record))

    def launch(self, trace: str | None) -> AbstractContextManager[Span]:
        """The span of a launch, below the caller's trace (W3C traceparent) if there is one."""
        return self._telemetry.span("launch", trace)

    def traceparent(self) -> str | None:
        """See Telemetry."""
        return self._telemetry.traceparent()

    def accepted(self, record: InstanceRecord) -> None:
        self._telemetry.count(LAUNCHES, mode=record.mode, provider=record.request.provider)

    def events(self, record: InstanceRecord, events: Sequence[Event]) -> None:
        """Each phase and each failed attempt that a change ended becomes a span of the launch's trace."""
        for event in events:
            if event.type is EventType.PHASE:
                self._phase(record, event)
            elif event.type is EventType.ATTEMPT_FAILED:
                self._failure(record, event)

    def _phase(self, record: InstanceRecord, event: Event) -> None:
        same: dict[str, Value] = {"mode": record.mode, "provider": record.request.provider}
        lasted = event.duration_seconds or 0.0
        left, entered = event.data.get("from", ""), event.phase
        span = about(record) | {
            "attempt": event.attempt,
            "phase": left,
            "next_phase": entered.value,
            "reason": event.reason.value if event.reason else None,
        }
        begin = event.at - timedelta(seconds=lasted)
        self._telemetry.finished(f"phase {left}", record.traceparent, begin, event.at, None, **span)
        self._telemetry.measure(PHASE_SECONDS, lasted, phase=left, **same)
        self._telemetry.count(PHASES, 1, phase=entered.value, **same)
        if entered is Phase.READY and record.recoveries == 0:
            self._telemetry.measure(READY_SECONDS, seconds_between(record.created_at, event.at), **same)

    def _failure(self, record: InstanceRecord, event: Event) -> None:
        reason = event.reason.value if event.reason else None
        where: dict[str, Value] = {"region": event.data.get("region", ""), "reason": reason}
        begin = event.at - timedelta(seconds=event.duration_seconds or 0.0)
        span = about(record) | {"attempt": event.attempt} | where
        self._telemetry.finished("attempt", record.traceparent, begin, event.at, reason, **span)
        self._telemetry.count(FAILURES, 1, mode=record.mode, provider=record.request.provider, **where)

    def costs(self, costs: Sequence[CostEntry]) -> None:
        """Booked costs: a metric by machine, and a log line for each attempt, which has the labels too."""
        for cost in costs:
            usd = micro_usd(cost.price_per_hour, cost.up_at, cost.gone_at) / MICRO
            self._telemetry.count(
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
