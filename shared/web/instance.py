"""The page of one instance."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from gpulaunch.format import duration
from gpulaunch.models.instances import STARTING, Phase
from gpulaunch.models.times import seconds_between
from shared.api.views import instance_view
from shared.control.parts import Parts
from shared.control.phase_estimates import Span, durations, expected
from shared.domain.event import Event
from shared.domain.instance import InstanceRecord
from shared.storage.base import Versioned

WATCHED = 2
"""Seconds between two looks of a page at an instance that changes."""
CALM = 10
"""Seconds between two looks at one that is ready: it is probed every 30."""


@dataclass(frozen=True)
class Step:
    """One phase on the way to ready."""

    phase: Phase
    state: Literal["done", "now", "stopped", "waiting"]
    seconds: float | None
    """How long it took, or has taken by now."""
    since: datetime | None
    """For `now`: since when."""
    expected: str
    """For people; empty when nothing is known."""
    expected_seconds: float
    """The longer end; 0 when nothing is known."""


def context(parts: Parts, found: Versioned) -> dict[str, Any]:
    """All that the page of an instance shows, save the key of its endpoint. Raises StoreUnavailableError."""
    record, now = found.record, parts.clock.now()
    events = parts.store.events(record.instance_id)
    view = instance_view(record, now)
    return {
        "view": view,
        "now": now,
        "mode_reason": record.mode_reason,
        "steps": steps(record, events, expected(parts, record), now),
        "events": events,
        "log": record.log_tail,
        "rate": rate(record),
        "planned": record.offers,
        "tried": {attempt.offer.key for attempt in record.attempts},
        "samples": samples(view.endpoint, record.request.model_name) if view.endpoint else {},
        "poll": None if record.ended else CALM if record.phase is Phase.READY else WATCHED,
        "title": record.request.name or record.request.model_name,
    }


def rate(record: InstanceRecord) -> float:
    """USD per hour that an instance costs at the moment."""
    return sum(
        attempt.offer.price_per_hour
        for attempt in record.attempts
        if attempt.node_up_at is not None and attempt.gone_at is None
    )


def steps(record: InstanceRecord, events: list[Event], spans: Mapping[Phase, Span], now: datetime) -> list[Step]:
    """The way to ready as it stands; of several attempts the last one."""
    took = durations(events)
    at = STARTING.index(record.phase) if record.phase in STARTING else None
    lost = record.phase in (Phase.TERMINATING, Phase.TERMINATED, Phase.FAILED, Phase.RECOVERING)
    last = max((STARTING.index(phase) for phase in took), default=-1)
    arrived = record.phase is Phase.READY or last == len(STARTING) - 1
    made: list[Step] = []
    for place, phase in enumerate(STARTING):
        span = spans.get(phase)
        text, most = (_range(span), span.most) if span else ("", 0.0)
        if place == at:
            elapsed = seconds_between(record.phase_since, now)
            made.append(Step(phase, "now", elapsed, record.phase_since, text, most))
        elif phase in took:
            state = "stopped" if lost and not arrived and place == last else "done"
            made.append(Step(phase, state, took[phase], None, text, most))
        else:
            made.append(Step(phase, "waiting", None, None, text, most))
    return made


def _range(span: Span) -> str:
    least, most = duration(span.least), duration(span.most)
    return f"about {most}" if least == most else f"{least} to {most}"


def samples(endpoint: str, model: str) -> dict[str, str]:
    """How to call an endpoint, to be copied; the key stays in the environment."""
    question = {"model": model, "messages": [{"role": "user", "content": "Say hello."}]}
    curl = (
        f"curl -s {shlex.quote(endpoint + '/chat/completions')} \\\n"
        '  -H "Authorization: Bearer $OPENAI_API_KEY" -H "Content-Type: application/json" \\\n'
        f"  -d {shlex.quote(json.dumps(question))}"
    )
    python = (
        "from openai import OpenAI\n\n"
        f"client = OpenAI(base_url={endpoint!r})  # reads OPENAI_API_KEY\n"
        "answer = client.chat.completions.create(\n"
        f"    model={model!r},\n"
        '    messages=[{"role": "user", "content": "Say hello."}],\n'
        ")\n"
        "print(answer.choices[0].message.content)"
    )
    return {"curl": curl, "Python": python}
