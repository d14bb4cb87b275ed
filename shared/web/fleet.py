"""The instance list."""

import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, get_args

from gpulaunch.models.instances import Phase
from gpulaunch.models.queries import InstanceQuery
from gpulaunch.models.requests import ProviderName
from gpulaunch.models.responses import InstanceView
from gpulaunch.models.times import iso
from shared.api import views
from shared.api.instances import filter_of, page_view
from shared.api.parse import read_query
from shared.app import App
from shared.control.sweep.unreadable_rows import UNREADABLE
from shared.control.termination import TERMINATE_UNREADABLE
from shared.storage.base import Unreadable, Versioned

PAGE: Final = 20
"""Instances per page: what a person can scan, and what one table query returns."""
_STATES: Final = {"live": "true", "ended": "false", "all": None}


def read(app: App, query: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return what the page shows and the ETags it is made of.

    Raises:
        ProblemError: 422, an invalid filter.
        StoreUnavailableError: the table cannot be read.
    """
    chosen = {name: query.get(name, "") for name in ("phase", "provider", "label")}
    state = query.get("state", "live")
    asked = {name: value for name, value in chosen.items() if value} | {"page_size": str(PAGE)}
    live = _STATES.get(state, "true")
    if live is not None and not chosen["phase"]:
        asked["live"] = live
    token = query.get("continuation_token", "")
    if token:
        asked["continuation_token"] = token
    wanted = read_query(InstanceQuery, asked)
    found = app.instances.page(filter_of(wanted), wanted.page_size, wanted.continuation_token)
    page = page_view(app, found)
    rows = unreadable_rows(app, [one for one in found.records if isinstance(one, Unreadable)])
    now = app.clock.now()
    etags = [*(etag(one, now) for one in found.records), found.next_token or "", *map(str, rows)]
    kept = {name: value for name, value in {**chosen, "state": state}.items() if value}
    rates = {view.instance_id: hourly_rate(view) for view in page.instances}
    shown = {
        "instances": page.instances,
        "unreadable": rows,
        "changing": any(view.ended_at is None for view in page.instances) or any(not one.row.ended for one in rows),
        "rates": rates,
        "rate": sum(rates.values()),
        "cost": sum(view.cost_usd for view in page.instances),
        "whole": page.next_token is None and not token,
        "first": "/instances?" + urllib.parse.urlencode(kept),
        "next": _address(kept, page.next_token) if page.next_token else None,
        "here": _address(kept, token),
        "later": bool(token),
        "chosen": {**chosen, "state": state},
        "filtered": any(chosen.values()) or state != "live",
        "phases": [phase.value for phase in Phase],
        "providers": list(get_args(ProviderName)),
        "now": now,
    }
    return shown, etags


def etag(found: Versioned | Unreadable, now: datetime) -> str:
    """Return what changes whenever something shown of a row does, its costs included."""
    return found.etag if isinstance(found, Unreadable) else f"{found.etag} {iso(views.as_of(found.record, now))}"


@dataclass(frozen=True)
class ShownUnreadable:
    """A stored record that cannot be read, as the pages show it."""

    row: Unreadable
    since: datetime | None
    """When a sweep first met it; None: none has yet."""
    terminating: bool


def unreadable_rows(app: App, rows: Sequence[Unreadable]) -> list[ShownUnreadable]:
    """Return what the pages show of unreadable rows.

    Raises:
        StoreUnavailableError: the table cannot be read.
    """
    if not rows:
        return []
    since, ending = app.instances.marked(UNREADABLE), app.instances.marked(TERMINATE_UNREADABLE)
    return [ShownUnreadable(row, since.get(row.instance_id), row.instance_id in ending) for row in rows]


def _address(kept: Mapping[str, str], token: str) -> str:
    return "/instances?" + urllib.parse.urlencode({**kept, **({"continuation_token": token} if token else {})})


def hourly_rate(view: InstanceView) -> float:
    """Return the USD per hour that an instance costs now."""
    return sum(one.offer.price_per_hour for one in view.attempts if one.billed_from and not one.gone_at)
