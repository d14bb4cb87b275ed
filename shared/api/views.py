"""Answers made from records."""

from collections.abc import Mapping
from datetime import datetime

from gpulaunch.models.instances import STARTING, Phase
from gpulaunch.models.responses import (
    AttemptView,
    Credentials,
    EventList,
    EventView,
    InstanceView,
    StepView,
    UnreadableView,
)
from gpulaunch.models.times import seconds_between
from shared.auth import Deriver
from shared.certificates import node_name
from shared.control.phase_estimates import PhaseSpan, durations
from shared.domain.costs import attempt_cost, cost_so_far
from shared.domain.errors import NotReadyError
from shared.domain.instance import Event, InstanceRecord
from shared.domain.request import StoredRequest
from shared.redaction import Redactor
from shared.storage.base import Unreadable

_REDACTOR = Redactor()
"""By form alone: the app's own secrets are in no request."""


def endpoint_of(record: InstanceRecord) -> str | None:
    """Base address of the OpenAI-compatible API while the instance is ready."""
    attempt = record.attempt
    if record.phase is not Phase.READY or attempt is None or attempt.address is None or attempt.port is None:
        return None
    host = f"[{attempt.address}]" if ":" in attempt.address else attempt.address
    return f"{'https' if attempt.tls else 'http'}://{host}:{attempt.port}/v1"


def as_of(record: InstanceRecord, now: datetime) -> datetime:
    """Up to when an answer counts what grows with time: a full minute, or the record's last change.

    So an answer, and with it its ETag, stays the same for a minute while nothing else changes.
    """
    return record.ended_at or max(record.updated_at, now.replace(second=0, microsecond=0))


def instance_view(record: InstanceRecord, now: datetime) -> InstanceView:
    request = record.request
    made = {
        "name": request.name,
        "model_name": request.model_name,
        "provider": request.provider,
        "labels": request.labels,
        "request": shown_request(request),
        "endpoint": endpoint_of(record),
        "attempts": attempt_views(record, now),
        "cost_usd": round(cost_so_far(record, record.ended_at or now), 4),
    }
    return InstanceView.model_validate({**dict(record), **made}, from_attributes=True)


def shown_request(request: StoredRequest) -> StoredRequest:
    """A request as people see it: whoever wrote a credential into its arguments knows it, and others need not."""
    job = request.job
    command = [] if job is None else _REDACTOR.arguments(job.command)
    return request.model_copy(
        update={
            "vllm_args": _REDACTOR.arguments(request.vllm_args),
            "job": job and job.model_copy(update={"command": command}),
        }
    )


def attempt_views(record: InstanceRecord, now: datetime) -> list[AttemptView]:
    """The ledger of attempts, with their costs up to now or to the instance's end."""
    until = record.ended_at or now
    return [
        AttemptView.model_validate(
            {**dict(attempt), "cost_usd": round(attempt_cost(attempt, until), 4)}, from_attributes=True
        )
        for attempt in record.attempts
    ]


def event_list(record: InstanceRecord, events: list[Event], steps: list[StepView], now: datetime) -> EventList:
    return EventList(
        instance_id=record.instance_id,
        events=[EventView.model_validate(event, from_attributes=True) for event in events],
        attempts=attempt_views(record, now),
        steps=steps,
    )


def step_views(
    record: InstanceRecord, events: list[Event], spans: Mapping[Phase, PhaseSpan], now: datetime
) -> list[StepView]:
    """The progress towards ready of the last attempt, from all events."""
    took = durations(events)
    at = STARTING.index(record.phase) if record.phase in STARTING else None
    lost = record.phase in (Phase.TERMINATING, Phase.TERMINATED, Phase.FAILED, Phase.RECOVERING)
    last = max((STARTING.index(phase) for phase in took), default=-1)
    arrived = record.phase is Phase.READY or last == len(STARTING) - 1
    made: list[StepView] = []
    for place, phase in enumerate(STARTING):
        state, seconds, since = "waiting", None, None
        if place == at:
            state, seconds, since = "now", seconds_between(record.phase_since, now), record.phase_since
        elif phase in took:
            state, seconds = "stopped" if lost and not arrived and place == last else "done", took[phase]
        least, most = (usual.least, usual.most) if (usual := spans.get(phase)) else (None, None)
        made.append(
            StepView(phase=phase, state=state, seconds=seconds, since=since, least_seconds=least, most_seconds=most)
        )
    return made


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
        server_name=node_name(record.instance_id, attempt.number) if attempt.tls else None,
        ca_certificate=deriver.authority_certificate() if attempt.tls else None,
    )


def unreadable_view(row: Unreadable) -> UnreadableView:
    return UnreadableView.model_validate(row, from_attributes=True)
