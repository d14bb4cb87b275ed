"""The page of one instance."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from gpulaunch.format import span
from gpulaunch.models.instances import STARTING, Phase
from gpulaunch.models.times import seconds_between
from shared.api.views import instance_view
from shared.app import App
from shared.control.phase_estimates import PhaseSpan, durations
from shared.domain.instance import Event, InstanceRecord
from shared.storage.base import Versioned
from shared.web.fleet import hourly_rate

POLL_STARTING = 2
"""Seconds between two polls of a page while its instance changes."""
POLL_READY = 10
"""Seconds between two polls once it is ready: it is probed every 30."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One phase before ready."""

    phase: Phase
    state: Literal["done", "now", "stopped", "waiting"]
    seconds: float | None
    """How long it took, or has taken so far."""
    since: datetime | None
    """When it began; set in state `now` only."""
    expected: str
    """As text; empty if unknown."""
    expected_seconds: float
    """The upper end; 0 if unknown."""


def context(app: App, found: Versioned) -> dict[str, Any]:
    """Return everything that the page shows except the endpoint's key.

    Raises:
        StoreUnavailableError: the events cannot be read.
    """
    record, now = found.record, app.clock.now()
    events = app.instances.events(record.instance_id)
    view = instance_view(record, now)
    return {
        "view": view,
        "now": now,
        "mode_reason": record.mode_reason,
        "steps": steps(record, events, app.estimates.of(record), now),
        "events": events,
        "log": record.log_tail,
        "rate": hourly_rate(view),
        "planned": record.offers,
        "tried": {attempt.offer.key for attempt in record.attempts},
        "samples": samples(view.endpoint, record.request.model_name) if view.endpoint else {},
        "poll": None if record.ended else POLL_READY if record.phase is Phase.READY else POLL_STARTING,
        "title": record.request.name or record.request.model_name,
    }


def steps(record: InstanceRecord, events: list[Event], spans: Mapping[Phase, PhaseSpan], now: datetime) -> list[Step]:
    """Return the progress towards ready of the last attempt."""
    took = durations(events)
    at = STARTING.index(record.phase) if record.phase in STARTING else None
    lost = record.phase in (Phase.TERMINATING, Phase.TERMINATED, Phase.FAILED, Phase.RECOVERING)
    last = max((STARTING.index(phase) for phase in took), default=-1)
    arrived = record.phase is Phase.READY or last == len(STARTING) - 1
    made: list[Step] = []
    for place, phase in enumerate(STARTING):
        state, seconds, since = "waiting", None, None
        if place == at:
            state, seconds, since = "now", seconds_between(record.phase_since, now), record.phase_since
        elif phase in took:
            state, seconds = "stopped" if lost and not arrived and place == last else "done", took[phase]
        usual = spans.get(phase)
        made.append(
            Step(
                phase=phase,
                state=state,
                seconds=seconds,
                since=since,
                expected=span(usual.least, usual.most) if usual else "",
                expected_seconds=usual.most if usual else 0.0,
            )
        )
    return made


def samples(endpoint: str, model: str) -> dict[str, str]:
    """Return code samples that call an endpoint; they read its key from the environment."""
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
