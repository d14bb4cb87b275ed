"""Bodies: JSON, Slack's incoming webhooks, and Teams' workflow webhooks (an Adaptive Card). Pure."""

import json
import re
from typing import Any

from shared.domain.messages import AccessNotice, BudgetNotice, GarbageNotice, UnreadableNotice
from shared.domain.webhook import Format
from shared.webhooks.alert import Alert

_TITLES = {
    "instance.phase_changed": "{name} is {phase}",
    "instance.failed": "{name} failed",
    "instance.alert": "{name} needs attention",
    "instance.poisoned": "{name}: a step kept failing",
}

_GARBAGE = {
    "waiting": "{nodes} to be deleted, after your confirmation",
    "staying": "{nodes} without an instance not deleted",
    "unlabelled": "{nodes} named like ours, of no known deployment",
    "lost": "{nodes} of which SkyPilot has lost its records",
}


def body_of(alert: Alert, form: Format) -> bytes:
    """Return the body in the receiver's format."""
    match form:
        case "json":
            return alert.model_dump_json().encode()
        case "slack":
            return json.dumps(_slack(alert)).encode()
        case "teams":
            return json.dumps(_teams(alert)).encode()


def _title(alert: Alert) -> str:
    if isinstance(alert.data, BudgetNotice):
        return f"A launch exceeds the budget for {alert.data.month}"
    if isinstance(alert.data, UnreadableNotice):
        return f"{alert.data.instance_id} cannot be read"
    if isinstance(alert.data, GarbageNotice):
        return _GARBAGE.get(alert.data.reason, "{nodes} without an instance").format(
            nodes="1 node" if alert.data.count == 1 else f"{alert.data.count} nodes"
        )
    if isinstance(alert.data, AccessNotice):
        return "Too many failed sign-ins"
    name = alert.data.name or alert.data.instance_id
    return _TITLES[alert.type].format(name=name, phase=alert.data.phase.value)


def _facts(alert: Alert) -> dict[str, str]:
    data = alert.data
    if isinstance(data, BudgetNotice):
        facts = {"Budget": f"${data.budget_usd:.2f}", "Spent or reserved": f"${data.used_usd:.2f}", "Mode": data.mode}
        return facts if data.label is None else {"Label": data.label, **facts}
    if isinstance(data, UnreadableNotice):
        return {"Instance": data.instance_id, "Reason": data.reason}
    if isinstance(data, GarbageNotice):
        return {"Nodes": str(data.count), "Reason": data.reason}
    if isinstance(data, AccessNotice):
        return {"Address": data.source}
    facts = {"Instance": data.instance_id, "Model": data.model_name, "Provider": f"{data.provider} ({data.mode})"}
    if data.reason is not None:
        facts["Reason"] = data.reason.value
    return facts | {"Cost so far": f"${data.cost_usd:.2f}"}


def _slack(alert: Alert) -> dict[str, Any]:
    def plain(text: str) -> dict[str, Any]:
        # Slack's markup has no escape for *_~ and backticks, so that a node's message is never markup at all.
        return {"type": "plain_text", "text": _unmarked(text), "emoji": False}

    title = _title(alert)
    facts = "\n".join(f"{name}: {value}" for name, value in _facts(alert).items())
    blocks = [
        # The most that Slack takes in a header.
        {"type": "header", "text": plain(title[:150])},
        {"type": "section", "text": plain(alert.data.message[:2000] or "-")},
        {"type": "section", "text": plain(facts)},
    ]
    return {"text": _unmarked(title), "mrkdwn": False, "blocks": blocks}


def _unmarked(text: str) -> str:
    """The three characters by which Slack marks people, channels and links."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


_MARKDOWN = re.compile(r"[\\`*~\[\]()<>#]|(?<!\w)_|_(?!\w)")


def _teams(alert: Alert) -> dict[str, Any]:
    def plain(text: str) -> str:
        # An Adaptive Card reads markdown: a node's message must not become a link in our name.
        return _MARKDOWN.sub(r"\\\g<0>", text)

    facts = [{"title": name, "value": plain(value)} for name, value in _facts(alert).items()]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [
            {"type": "TextBlock", "text": plain(_title(alert)), "weight": "Bolder", "size": "Medium", "wrap": True},
            {"type": "TextBlock", "text": plain(alert.data.message[:2000]), "wrap": True},
            {"type": "FactSet", "facts": facts},
        ],
    }
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}
