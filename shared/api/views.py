"""Answers made from records."""

from collections.abc import Mapping
from datetime import datetime

from gpulaunch.models.instances import Phase
from gpulaunch.models.responses import (
    AttemptView,
    Credentials,
    EventList,
    EventView,
    HealthView,
    InstanceView,
    LogAnswer,
    PhaseTime,
    ReasonView,
    UnreadableView,
)
from shared.auth import Deriver
from shared.control.phase_estimates import PhaseSpan
from shared.domain.costs import attempt_cost, cost_so_far
from shared.domain.errors import NotReadyError
from shared.domain.instance import Attempt, Event, Failure, InstanceRecord
from shared.storage.base import Unreadable


def endpoint_of(record: InstanceRecord) -> str | None:
    """Base address of the OpenAI-compatible API while the instance is ready."""
    attempt = record.attempt
    if record.phase is not Phase.READY or attempt is None or attempt.address is None or attempt.port is None:
        return None
    host = f"[{attempt.address}]" if ":" in attempt.address else attempt.address
    return f"http://{host}:{attempt.port}/v1"


def instance_view(record: InstanceRecord, now: datetime) -> InstanceView:
    """An instance as users see it."""
    health = record.health
    shown_until = record.ended_at or now
    return InstanceView(
        instance_id=record.instance_id,
        name=record.request.name,
        mode=record.mode,
        phase=record.phase,
        phase_since=record.phase_since,
        created_at=record.created_at,
        updated_at=record.updated_at,
        deadline_at=record.deadline_at,
        ended_at=record.ended_at,
        model_name=record.request.model_name,
        provider=record.request.provider,
        endpoint=endpoint_of(record),
        ending=_reason(record.ending),
        attempts=[_attempt(attempt, shown_until) for attempt in record.attempts],
        recoveries=record.recoveries,
        health=None if health is None else HealthView.model_validate(health, from_attributes=True),
        estimated_hourly_usd=record.estimated_hourly_usd,
        worst_case_usd=record.worst_case_usd,
        cost_usd=round(cost_so_far(record, shown_until), 4),
        labels=record.request.labels,
        request=record.request,
    )


def event_list(
    record: InstanceRecord, events: list[Event], now: datetime, expected: Mapping[Phase, PhaseSpan] | None = None
) -> EventList:
    """An instance's timeline with its ledger of attempts, and what its phases are expected to take."""
    return EventList(
        instance_id=record.instance_id,
        events=[EventView.model_validate(event, from_attributes=True) for event in events],
        attempts=[_attempt(attempt, record.ended_at or now) for attempt in record.attempts],
        expected=[
            PhaseTime(phase=phase, least_seconds=span.least, most_seconds=span.most)
            for phase, span in (expected or {}).items()
        ],
    )


def log_answer(record: InstanceRecord) -> LogAnswer:
    """The log lines that the node reported last."""
    attempt = record.attempt
    return LogAnswer(instance_id=record.instance_id, attempt=attempt.number if attempt else None, lines=record.log_tail)


def credentials(record: InstanceRecord, deriver: Deriver) -> Credentials:
    """How to use a ready endpoint.

    Raises:
        NotReadyError: The instance is not ready.
    """
    endpoint, attempt = endpoint_of(record), record.attempt
    if endpoint is None or attempt is None:
        raise NotReadyError(record.phase)
    return Credentials(
        instance_id=record.instance_id,
        endpoint=endpoint,
        api_key=deriver.endpoint_key(record.instance_id, attempt.number),
        model_name=record.request.model_name,
    )


def unreadable_view(row: Unreadable) -> UnreadableView:
    """An instance whose record cannot be read."""
    return UnreadableView.model_validate(row, from_attributes=True)


def _reason(failure: Failure | None) -> ReasonView | None:
    return None if failure is None else ReasonView(reason=failure.reason, message=failure.message)


def _attempt(attempt: Attempt, now: datetime) -> AttemptView:
    return AttemptView(
        number=attempt.number,
        offer=attempt.offer,
        cluster_name=attempt.cluster_name,
        state=attempt.state.value,
        started_at=attempt.started_at,
        node_up_at=attempt.node_up_at,
        ready_at=attempt.ready_at,
        gone_at=attempt.gone_at,
        detail=attempt.detail,
        fetched_bytes=attempt.fetched_bytes,
        total_bytes=attempt.total_bytes,
        failure=_reason(attempt.failure),
        cost_usd=round(attempt_cost(attempt, now), 4),
    )
