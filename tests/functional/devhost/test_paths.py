"""This app's paths by every method, against what the genuine host answers by its rules: which function, or no function.

The rules are those by which the genuine host answered 37 paths with 14 methods; the table applies them to as many here.
"""

import asyncio
from typing import Any

import azure.functions as func
import pytest

from devhost.app import Function, HttpFunction, index
from devhost.config import HttpOptions
from devhost.web import HttpHost
from tests.functional.world import functions

METHODS = (
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT",
    "PROPFIND", "SEARCH", "LINK", "PURGE", "X",
)  # fmt: skip
MISSING = {"GET": "web_missing"}
Row = dict[str, str | int]
TABLE: dict[str, Row] = {
    "/": {"GET": "web_home"},
    "/signin": {"GET": "web_signin", "POST": "web_signin_post"},
    "/SignIn/": {"GET": "web_signin", "POST": "web_signin_post"},
    "/signin//": {**MISSING},
    "/signin/x": {**MISSING},
    "/signout": {**MISSING, "POST": "web_signout"},
    "/launch": {"GET": "web_launch", "POST": "web_launch_post"},
    "/launch/./PLAN": {"GET": "web_launch_plan", "POST": "web_launch_plan_post"},
    "/instances": {"GET": "web_instances"},
    "/instances/inst-1": {"GET": "web_instance"},
    "/instances/inst-1/live": {"GET": "web_instance_live"},
    "/instances/inst-1/terminate": {"GET": "web_instance_terminate", "POST": "web_instance_terminate_post"},
    # An encoded slash is text, and so is what is not UTF-8.
    "/instances/a%2Fb": {"GET": "web_instance"},
    "/instances/a/b": {**MISSING},
    "/instances/%FF": {"GET": "web_instance"},
    "/instances/a%0Ab": {"GET": "web_instance"},
    "/static/../signin": {"GET": "web_signin", "POST": "web_signin_post"},
    "/static/%2e%2E/signin": {"GET": "web_signin", "POST": "web_signin_post"},
    "/static/..%2Fsignin": {"GET": "web_static"},
    "/costsXcsv": {**MISSING},
    "/endpoints/e/changes/scale": {"GET": "web_endpoint_change", "POST": "web_endpoint_change_post"},
    "/favicon.ico": {**MISSING},
    "//api/health": {**MISSING},
    "/api": {**MISSING},
    "/API/Health/": {"GET": "show_health"},
    "/api/openapi.json": {"GET": "show_openapi"},
    "/api/instances": {"GET": "list_instances"},
    # Text is tried first, and where its methods do not match the parameter.
    "/api/instances/launch": {"GET": "show_instance", "POST": "launch_instance", "DELETE": "terminate_instance"},
    "/api/instances/x": {"GET": "show_instance", "DELETE": "terminate_instance"},
    "/api/endpoints": {"GET": "list_endpoints", "POST": "create_endpoint"},
    "/api/endpoints/e": {
        "GET": "show_endpoint", "PUT": "put_endpoint", "PATCH": "change_endpoint", "DELETE": "delete_endpoint",
    },
    "/api/endpoints/e/keys/k": {**MISSING, "DELETE": "revoke_endpoint_key"},
    "/api/nodes/x/register": {**MISSING, "POST": "node_register"},
    # The host's own: with a key, open, and a prefix that is its own as well. No function sees them.
    "/admin/instances": dict.fromkeys(METHODS, 401),
    "/Admin/host/ping": {**dict.fromkeys(METHODS, 401), "GET": 200, "POST": 200},
    "/administrator": dict.fromkeys(METHODS, 404),
    "/a%00b": dict.fromkeys(METHODS, 400),
}  # fmt: skip


class Named:
    """Answers with the name of the function that is called."""

    async def __call__(self, function: Function, value: object) -> Any:
        return func.HttpResponse(function.name)


@pytest.fixture(scope="module")
def host() -> HttpHost:
    found = index(functions().values(), {})
    options = HttpOptions(route_prefix="", max_outstanding_requests=200, max_concurrent_requests=100)
    return HttpHost([one for one in found if isinstance(one, HttpFunction)], options, Named())


async def answer(host: HttpHost, method: str, path: str) -> str | int:
    """The function's name, or the status of an answer that no function gave."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        raise AssertionError("a request without a body was read")

    scope = {"method": method, "raw_path": path.encode(), "query_string": b"", "headers": [(b"host", b"x")]}
    await host(scope, receive, send)
    return sent[1]["body"].decode() or sent[0]["status"]


def expected(row: Row, method: str) -> str | int:
    if method == "CONNECT":
        return 400
    # This app lists HEAD wherever it lists GET; the host adds it nowhere.
    return row.get(method, row.get("GET", 404) if method == "HEAD" else 404)


def test_the_table_should_be_as_large_as_what_was_sent_to_the_genuine_host() -> None:
    assert (len(TABLE), len(METHODS)) == (37, 14)


@pytest.mark.parametrize("path", TABLE)
def test_every_method_should_reach_what_the_genuine_host_lets_it_reach(host: HttpHost, path: str) -> None:
    async def found() -> dict[str, str | int]:
        return {method: await answer(host, method, path) for method in METHODS}

    assert asyncio.run(found()) == {method: expected(TABLE[path], method) for method in METHODS}
