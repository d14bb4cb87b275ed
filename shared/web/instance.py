"""The page of one instance."""

import json
import shlex
from typing import Any

from gpulaunch.models.instances import Phase
from shared.api.views import as_of, instance_view, step_views
from shared.app import App
from shared.storage.base import Versioned
from shared.web.fleet import hourly_rate

POLL_STARTING = 2
"""Seconds between two polls of a page while its instance changes."""
POLL_READY = 10
"""Seconds between two polls once it is ready: it is probed every 30."""


def context(app: App, found: Versioned) -> dict[str, Any]:
    """Return everything that the page shows except the endpoint's key.

    Raises:
        StoreUnavailableError: the events cannot be read.
    """
    record, now = found.record, app.clock.now()
    events = app.instances.events(record)
    view = instance_view(record, as_of(record, now))
    return {
        "view": view,
        "now": now,
        "mode_reason": record.mode_reason,
        "steps": step_views(record, events, app.estimates.of(record), now),
        "events": events,
        "log": record.log_tail,
        "rate": hourly_rate(view),
        "misfit": app.instances.misfit(record),
        "planned": record.offers,
        "tried": {attempt.offer.key for attempt in record.attempts},
        "samples": samples(view.endpoint, record.request.model_name) if view.endpoint else {},
        "poll": None if record.ended else POLL_READY if record.phase is Phase.READY else POLL_STARTING,
        "title": record.request.name or record.request.model_name,
    }


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
    script = (
        'import OpenAI from "openai";\n\n'
        f"const client = new OpenAI({{ baseURL: {json.dumps(endpoint)} }}); // reads OPENAI_API_KEY\n"
        "const answer = await client.chat.completions.create({\n"
        f"  model: {json.dumps(model)},\n"
        '  messages: [{ role: "user", content: "Say hello." }],\n'
        "});\n"
        "console.log(answer.choices[0].message.content);"
    )
    return {"curl": curl, "Python": python, "JavaScript": script}
