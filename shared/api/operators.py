"""Handlers of what operators and tools ask: catalog, costs, quota, settings, health, the OpenAPI document."""

import csv
import difflib
import io

from gpulaunch.models.garbage import Adoption, DeletionConfirmation, GarbageConfirmation
from gpulaunch.models.problems import FieldError
from gpulaunch.models.queries import CatalogQuery, CostsQuery, QuotaQuery
from gpulaunch.models.reports import ConfigAnswer, CostGroup, CostsAnswer
from gpulaunch.version import VERSION
from shared.api.http import Request, Response, json_response
from shared.api.parse import read_body, read_query
from shared.api.problems import invalid_request
from shared.app import App


def catalog(app: App, request: Request) -> Response:
    return json_response(app.catalog_queries.answer(read_query(CatalogQuery, request.query)))


def costs(app: App, request: Request) -> Response:
    query = read_query(CostsQuery, request.query)
    answer = app.costs.answer(query)
    if query.format != "csv":
        return json_response(answer)
    name = f"gpulaunch-costs-{answer.first_day}-{answer.last_day}-by-{answer.by}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(body=as_csv(answer), headers=headers, media_type="text/csv", charset="utf-8")


def as_csv(answer: CostsAnswer) -> str:
    """The groups as CSV with a line of names (RFC 4180); without the total, so that a column adds up to it."""
    text = io.StringIO()
    names = list(CostGroup.model_fields)
    writer = csv.writer(text)
    writer.writerow([answer.by, *names[1:]])
    for group in answer.groups:
        writer.writerow([getattr(group, name) for name in names])
    return text.getvalue()


def quota(app: App, request: Request) -> Response:
    return json_response(app.quota.report(_regions(app, read_query(QuotaQuery, request.query))))


def _regions(app: App, query: QuotaQuery) -> list[str]:
    """The regions asked for, spelled as the catalog has them.

    Raises:
        ProblemError: 422 for a region that does not exist.
    """
    listings = [app.catalog.listing(provider) for provider in app.quota.providers]
    known = {region.casefold(): region for listing in listings for region in listing.regions}
    for name in query.regions:
        if name.casefold() not in known:
            nearest = difflib.get_close_matches(name.casefold(), list(known), n=3, cutoff=0.4) or list(known)
            raise invalid_request([FieldError(field="region", message="There is no such region.", nearest=nearest)])
    return [known[name.casefold()] for name in query.regions]


def garbage(app: App, request: Request) -> Response:  # noqa: ARG001
    return json_response(app.garbage.answer())


def confirm_garbage(app: App, request: Request) -> Response:
    return json_response(app.garbage.confirm(read_body(GarbageConfirmation, request).clusters))


def adopt(app: App, request: Request) -> Response:
    wanted = read_body(Adoption, request)
    return json_response(app.adopter.adopt(wanted.clusters, wanted.model_name, wanted.max_lifetime_minutes))


def confirm_deleted(app: App, request: Request) -> Response:
    return json_response(app.garbage.confirm_deleted(read_body(DeletionConfirmation, request).clusters))


def config(app: App, request: Request) -> Response:  # noqa: ARG001 - every handler gets the request
    return json_response(config_answer(app))


def config_answer(app: App) -> ConfigAnswer:
    """The settings that matter to users; no secrets."""
    return ConfigAnswer.model_validate({**dict(app.settings), "deployment": app.deployment, "version": VERSION})


def health(app: App, request: Request) -> Response:  # noqa: ARG001
    """Whether the control plane works: 503 when storage does not answer, else 200 with what is degraded."""
    answer = app.health.answer()
    return json_response(answer, 200 if answer.storage == "ok" else 503)
