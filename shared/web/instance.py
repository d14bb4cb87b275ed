"""The page of one instance."""

import json
from typing import Any

from gpulaunch.curl import chat_command
from gpulaunch.models.instances import Phase
from shared.api.views import as_of, instance_view, step_views
from shared.app import App
from shared.certificates import node_name
from shared.domain.instance import InstanceRecord
from shared.storage.base import Versioned
from shared.web.fleet import hourly_rate

_PYTHON_TRUST = """\
import ssl

import httpx
from openai import OpenAI


def named(request):
    request.extensions["sni_hostname"] = {name!r}


trusted = ssl.create_default_context(cafile="nodes.pem")
http = httpx.Client(verify=trusted, event_hooks={{"request": [named]}})
"""
_SCRIPT_TRUST = """\
import {{ readFileSync }} from "node:fs";
import OpenAI from "openai";
import {{ Agent }} from "undici";

const connect = {{ ca: readFileSync("nodes.pem"), servername: {name} }};
const dispatcher = new Agent({{ connect }});
"""
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
        "samples": samples(view.endpoint, record.request.model_name, _node_name(record)) if view.endpoint else {},
        "poll": None if record.ended else POLL_READY if record.phase is Phase.READY else POLL_STARTING,
        "title": record.request.name or record.request.model_name,
    }


def _node_name(record: InstanceRecord) -> str | None:
    """The name in its node's certificate, if it has one."""
    attempt = record.attempt
    return node_name(record.instance_id, attempt.number) if attempt is not None and attempt.tls else None


def samples(endpoint: str, model: str, server_name: str | None = None) -> dict[str, str]:
    """Return code samples that call an endpoint; they read its key from the environment.

    `server_name`: for a node's own address; what vouches for its certificate is in `nodes.pem`.
    """
    http, dispatcher = "", ""
    python_head, script_head = "from openai import OpenAI\n\n", 'import OpenAI from "openai";\n\n'
    if server_name is not None:
        http, python_head = ", http_client=http", _PYTHON_TRUST.format(name=server_name)
        dispatcher, script_head = ", fetchOptions: { dispatcher }", _SCRIPT_TRUST.format(name=json.dumps(server_name))
    curl = chat_command(endpoint, model, server_name, authority="nodes.pem")
    python = (
        f"{python_head}client = OpenAI(base_url={endpoint!r}{http})  # reads OPENAI_API_KEY\n"
        "answer = client.chat.completions.create(\n"
        f"    model={model!r},\n"
        '    messages=[{"role": "user", "content": "Say hello."}],\n'
        ")\n"
        "print(answer.choices[0].message.content)"
    )
    script = (
        f"{script_head}const client = new OpenAI({{ baseURL: {json.dumps(endpoint)}{dispatcher} }});"
        " // reads OPENAI_API_KEY\n"
        "const answer = await client.chat.completions.create({\n"
        f"  model: {json.dumps(model)},\n"
        '  messages: [{ role: "user", content: "Say hello." }],\n'
        "});\n"
        "console.log(answer.choices[0].message.content);"
    )
    return {"curl": curl, "Python": python, "JavaScript": script}
