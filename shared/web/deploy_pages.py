"""The form that creates an endpoint: the launch form with what an endpoint has beside it."""

import json
import shlex
from collections.abc import Mapping
from typing import Any, Final

from gpulaunch.format import usd
from gpulaunch.models.endpoints import EndpointRequest
from gpulaunch.models.problems import FieldError
from shared.api.http import Response
from shared.api.parse import read_value
from shared.api.problems import ProblemError, problem_of
from shared.domain.errors import EndpointDeletingError, EndpointExistsError, RefusalError
from shared.errors import StoreUnavailableError
from shared.planning.launch_plan import LaunchPlan
from shared.web import launch_form
from shared.web.launch_form import Preview
from shared.web.visit import Visit, see_other

_LABELS: Final = {"endpoint": "Endpoint", "replicas": "Replicas", "drain_seconds": "Drain time"}
"""What the page calls the fields of an endpoint; those of its launch are the launch form's."""
_START: Final = {"endpoint": "", "replicas": "1", "drain_seconds": ""}


def deploy_page(visit: Visit) -> Response:
    return _form(visit, launch_form.fields({}), dict(_START))


def deploy_plan(visit: Visit) -> Response:
    """Show the plan of the form's current values, for htmx."""
    form = visit.form if visit.request.method == "POST" else dict(visit.request.query)
    values = launch_form.fields(form)
    return visit.page("plan.html", oob=True, **_context(visit, values, _endpoint_fields(form), _preview(visit, values)))


def deploy_again(visit: Visit) -> Response:
    """Show a form of an earlier session once more, as it was filled in."""
    error = ProblemError(
        "forbidden", "This form is from an earlier session. Nothing was deployed: check it, then deploy."
    )
    return _form(visit, launch_form.fields(visit.form), _endpoint_fields(visit.form), error)


def deploy(visit: Visit) -> Response:
    """Create the endpoint that the form asks for if its plan is what was shown, else show the plan as it is now.

    The same form sent twice creates one endpoint: the second is answered with the one that is there.
    """
    values, endpoint = launch_form.fields(visit.form), _endpoint_fields(visit.form)
    if visit.form.get("do") != "launch":
        return _form(visit, values, endpoint)
    try:
        body = _body(values, endpoint)
        asked = read_value(EndpointRequest, body)
        plan = visit.app.planner.plan(asked.launch)
        # The number of replicas belongs to the price, not to the plan.
        if (plan.digest(), _price(plan, body)) != (visit.form.get("shown", ""), visit.form.get("price", "")):
            return _form(visit, values, endpoint, before=visit.form.get("price", ""))
        visit.app.endpoints.create(asked.name, asked)
    except (EndpointExistsError, EndpointDeletingError) as error:
        problem = problem_of(error, "deploy form", "").problem
        taken = ProblemError(problem.code, problem.detail, errors=[FieldError(field="name", message=problem.detail)])
        return _form(visit, values, endpoint, taken)
    except (ProblemError, RefusalError, StoreUnavailableError) as error:
        return _form(visit, values, endpoint, problem_of(error, visit.request.what, visit.request.id))
    return see_other(f"/endpoints/{asked.name}")


def _endpoint_fields(form: Mapping[str, str]) -> dict[str, str]:
    return {name: form.get(name, start).strip() for name, start in _START.items()}


def _body(values: Mapping[str, str], endpoint: Mapping[str, str]) -> dict[str, Any]:
    """The request's body; invalid values stay as typed, for the request's validation to report."""
    numbers = {name: launch_form.number_of(endpoint[name]) for name in ("replicas", "drain_seconds") if endpoint[name]}
    return {"name": endpoint["endpoint"], **numbers, "launch": launch_form.body_of(values)}


def _preview(visit: Visit, values: Mapping[str, str]) -> Preview:
    return launch_form.preview(visit.app.planner.plan, values)


def _form(
    visit: Visit,
    values: dict[str, str],
    endpoint: dict[str, str],
    error: ProblemError | None = None,
    before: str | None = None,
) -> Response:
    """Show the form with its plan; `before` is the price that an earlier plan showed, None where there was none."""
    shown = _context(visit, values, endpoint, _preview(visit, values))
    refused = {} if error is None else _by_field(error)
    status = error.problem.status if error else 200
    kept = {"key": "", "answered": visit.request.method == "POST", "unsure": status == 503}
    return visit.page("launch.html", status, oob=False, refused=refused, before=before, **kept, **shown)


def _by_field(error: ProblemError) -> dict[str, list[FieldError]]:
    """Group a problem's errors by the form's field; errors of no field are under ""."""
    own = {"name": "endpoint", "replicas": "replicas", "drain_seconds": "drain_seconds"}
    found: dict[str, list[FieldError]] = {}
    others: list[FieldError] = []
    for one in error.problem.errors:
        if one.field in own:
            found.setdefault(own[one.field], []).append(one)
        else:
            others.append(one.model_copy(update={"field": one.field.removeprefix("launch.")}))
    if others or not error.problem.errors:
        found |= launch_form.by_field(ProblemError(error.problem.code, error.problem.detail, errors=others))
    return found


def _context(visit: Visit, values: Mapping[str, str], endpoint: Mapping[str, str], planned: Preview) -> dict[str, Any]:
    shown = launch_form.context(visit.app, values, planned, visit.address)
    body = _body(values, endpoint)
    return {
        **shown,
        "endpoint": endpoint,
        "field_names": {**shown["field_names"], **_LABELS},
        "price": _price(planned.planned, body) if planned.planned else "",
        "curl": _curl_line(visit.address, body),
        "cli": _cli_line(body),
    }


def _price(plan: LaunchPlan, body: Mapping[str, Any]) -> str:
    """What the replicas cost, beside the button; of one replica, if it is not known how many are asked for."""
    each, replicas = plan.estimate.hourly_usd, body.get("replicas", 1)
    if not isinstance(replicas, int):
        return f"{usd(each)}/h for each replica"
    return f"{usd(each * replicas)}/h for {replicas} {'replica' if replicas == 1 else 'replicas'}"


def _curl_line(address: str, body: Mapping[str, Any]) -> str:
    return (
        f"curl -X POST {shlex.quote(address + '/api/endpoints')} \\\n"
        '  -H "X-Admin-Token: $TOKEN" -H "Content-Type: application/json" \\\n'
        f"  -d {shlex.quote(json.dumps(body))}"
    )


def _cli_line(body: Mapping[str, Any]) -> str:
    launch: Mapping[str, Any] = body["launch"]
    own = [
        word
        for name in ("replicas", "drain_seconds")
        if name in body
        for word in (f"--{name.replace('_', '-')}", str(body[name]))
    ]
    name = body["name"] or "NAME"
    return shlex.join(["gpulaunch", "deploy", name, str(launch["model_name"]), *launch_form.options_of(launch), *own])
