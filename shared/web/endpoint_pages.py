"""The handlers of the pages of endpoints."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gpulaunch.models.endpoints import EndpointChange, KeyRequest
from gpulaunch.models.problems import FieldError
from shared.api.endpoint_views import new_key
from shared.api.endpoints import merged
from shared.api.http import Response
from shared.api.parse import endpoint_name, read_value
from shared.api.problems import ProblemError, problem_of
from shared.app import App
from shared.control.endpoints import EndpointWithReplicas
from shared.domain.endpoint import EndpointRecord
from shared.domain.errors import EndpointChangedError, KeyExistsError, RefusalError
from shared.web import endpoint as endpoint_page
from shared.web.launch_form import number_of
from shared.web.visit import Visit, see_other


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change that the pages ask about before they make it."""

    verb: str
    what: str
    """What happens to the endpoint."""
    make: Callable[[App, str, str], object]
    """Makes it: app, name, and the revision that was shown."""
    costs: Callable[[EndpointRecord], int] = lambda _: 0
    """How many replicas it starts."""
    dangerous: bool = False


CHANGES: Mapping[str, Change] = {
    "pause": Change(
        verb="Pause",
        what="Its replicas finish their requests and are terminated. Until it is resumed, requests are refused. Name, "
        "address and keys stay.",
        make=lambda app, name, shown: app.endpoints.pause(name, shown),
    ),
    "resume": Change(
        verb="Resume",
        what="Its replicas are started again, also those of a generation that was stopped.",
        make=lambda app, name, shown: app.endpoints.resume(name, shown),
        costs=lambda record: record.replicas,
    ),
    "rollout": Change(
        verb="Roll out",
        what="Each replica is replaced by a new one of the same launch, one after another. Meanwhile one replica "
        "more than asked for runs.",
        make=lambda app, name, shown: app.endpoints.roll_out(name, shown),
        costs=lambda record: min(1, record.target),
    ),
    "delete": Change(
        verb="Delete",
        what="Its replicas finish their requests and are terminated. Its address and keys stop working for every "
        "application. This cannot be undone.",
        make=lambda app, name, shown: app.endpoints.delete(name, shown),
        dangerous=True,
    ),
}
"""By the page's address."""


def endpoints(visit: Visit) -> Response:
    """Show the endpoints, or the list alone for htmx."""
    shown = endpoint_page.list_context(visit.app)
    etags = [_etag_of({**shown, "now": None})]
    if visit.is_htmx:
        return visit.part_if_changed("endpoint_list.html", etags, lambda: shown)
    return visit.page("endpoints.html", etag=visit.etag(etags), **shown)


def endpoint(visit: Visit) -> Response:
    return _page(visit, _found(visit))


def endpoint_live(visit: Visit) -> Response:
    """Show the changing part of an endpoint's page; a 304 if nothing changed."""
    shown = endpoint_page.context(visit.app, _found(visit))
    return visit.part_if_changed("endpoint_live.html", [_etag_of({**shown, "now": None})], lambda: shown)


def _page(visit: Visit, found: EndpointWithReplicas, status: int = 200, **key_form: Any) -> Response:
    shown = endpoint_page.context(visit.app, found)
    etag = visit.etag([_etag_of({**shown, "now": None})])
    form = {"key_values": dict.fromkeys(_KEY_FIELDS, ""), "key_refused": {}, **key_form}
    return visit.page("endpoint.html", status, etag=etag, **shown, **form)


def _found(visit: Visit) -> EndpointWithReplicas:
    return visit.app.endpoint_queries.find(endpoint_name(visit.request))


def _etag_of(shown: Mapping[str, Any]) -> str:
    return json.dumps(shown, sort_keys=True, default=str)


def ask(visit: Visit) -> Response:
    """Ask before a change."""
    return _question(visit, _found(visit).record)


def change(visit: Visit) -> Response:
    """Make a change that was agreed to, unless the endpoint has been changed since it was shown."""
    name, wanted = endpoint_name(visit.request), _change(visit)
    shown = visit.form.get("revision", "")
    try:
        if wanted is not None:
            wanted.make(visit.app, name, shown)
        else:
            typed = _typed(visit)
            if visit.form.get("agreed") != str(typed.replicas):
                # Enter in the field asks, and starts nothing.
                return _question(visit, _found(visit).record, replicas=typed.replicas)
            visit.app.endpoints.respecify(name, lambda record: merged(record, typed), shown)
    except (EndpointChangedError, ProblemError) as error:
        return _question(visit, _found(visit).record, problem_of(error, "endpoint form", ""))
    return see_other(f"/endpoints/{name}")


def ask_again(visit: Visit) -> Response:
    """Ask once more with what was typed in an earlier session."""
    error = ProblemError("forbidden", "This form is from an earlier session. Nothing was changed.")
    return _question(visit, _found(visit).record, error)


def _change(visit: Visit) -> Change | None:
    """The change that the address names; None is a number of replicas.

    Raises:
        ProblemError: 404, there is no such change.
    """
    name = visit.request.route.get("change", "")
    if name == "scale":
        return None
    if name not in CHANGES:
        raise ProblemError("not_found", "There is no such change of an endpoint.")
    return CHANGES[name]


def _question(
    visit: Visit, record: EndpointRecord, error: ProblemError | None = None, replicas: int | None = None
) -> Response:
    wanted = _change(visit)
    price = endpoint_page.price_of(visit.app, record)
    more = wanted.costs(record) if wanted else max(0, (replicas or 0) - record.replicas)
    cost = endpoint_page.cost_of(price, more) if more else ""
    each = endpoint_page.cost_of(price, 1)
    typed = visit.form.get("replicas", "") if visit.request.method == "POST" else str(record.replicas)
    context = {"name": record.name, "now_asked": record.replicas, "revision": record.revision, "error": error}
    status = error.problem.status if error else 200
    return visit.page(
        "endpoint_change.html", status, change=wanted, replicas=replicas, typed=typed, cost=cost, each=each, **context
    )


def _typed(visit: Visit) -> EndpointChange:
    """The number of replicas that was typed.

    Raises:
        ProblemError: 422, it is not a number of replicas.
    """
    return read_value(EndpointChange, {"replicas": number_of(visit.form.get("replicas", "").strip())})


_KEY_FIELDS = tuple(KeyRequest.model_fields)


def keys(visit: Visit) -> Response:
    """Lead to the keys on the endpoint's page."""
    return see_other(f"/endpoints/{endpoint_name(visit.request)}#keys")


def create_key(visit: Visit) -> Response:
    """Make a key and show it this once; or show the form with what is wrong, as it was filled in."""
    name = endpoint_name(visit.request)
    values = {field: visit.form.get(field, "").strip() for field in _KEY_FIELDS}
    limits = {field: number_of(text) for field, text in values.items() if text and field != "name"}
    body: dict[str, Any] = {"name": values["name"], **limits}
    try:
        made, key = visit.app.endpoint_keys.create(name, read_value(KeyRequest, body))
    except KeyExistsError as error:
        refused = {"name": [FieldError(field="name", message=str(error))]}
        return _page(visit, _found(visit), 409, key_values=values, key_refused=refused)
    except (ProblemError, RefusalError) as error:
        problem = problem_of(error, "key form", "").problem
        errors = problem.errors or [FieldError(field="", message=problem.detail)]
        refused = {one.field if one.field in values else "": [one] for one in errors}
        return _page(visit, _found(visit), problem.status, key_values=values, key_refused=refused)
    view = endpoint_page.context(visit.app, _found(visit))["view"]
    return visit.page("endpoint_key.html", 201, view=view, made=new_key(made, key))


def create_key_again(visit: Visit) -> Response:
    """Show the key's form of an earlier session once more, as it was filled in."""
    values = {field: visit.form.get(field, "") for field in _KEY_FIELDS}
    wrong = [FieldError(field="", message="This form is from an earlier session. No key was made.")]
    return _page(visit, _found(visit), 403, key_values=values, key_refused={"": wrong})


def ask_to_revoke(visit: Visit) -> Response:
    """Ask before a key is revoked."""
    record = _found(visit).record
    found = [one for one in record.keys if one.key_id == visit.request.route.get("keyId", "")]
    if not found:
        raise ProblemError("not_found", "There is no such key; it may have been revoked already.")
    return visit.page("endpoint_revoke.html", name=record.name, key=found[0])


def revoke(visit: Visit) -> Response:
    name = endpoint_name(visit.request)
    visit.app.endpoint_keys.revoke(name, visit.request.route.get("keyId", ""))
    return see_other(f"/endpoints/{name}#keys")
