"""What every answer carries, what strange requests get, and who may call an app that asks for no token."""

import json
import re
import string
from collections.abc import Iterator
from typing import Any

import azure.functions as func
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gpulaunch.operations import OPERATIONS
from shared import app as runtime
from shared.api.http import Request, Response, finished
from shared.web.routes import PAGES
from tests.functional.web.visitor import Visitor, csrf_token_of
from tests.functional.world import SEED, Answer, World, settings

LOCAL = {"Host": "localhost:7071", "Content-Type": "application/json"}
SOME_ID = "inst-01ARZ3NDEKTSV4RRFFQ69G5FAV"


@pytest.fixture
def tokenless() -> Iterator[World]:
    tokens = {"GPULAUNCH_ADMIN_TOKENS": "", "GPULAUNCH_READ_TOKENS": ""}
    world = World(settings(**tokens, AZURE_FUNCTIONS_ENVIRONMENT="Development"))
    yield world
    runtime.use(None)


def every_answer(world: World, **headers: str) -> Iterator[tuple[str, Answer]]:
    """An answer of each operation and page, with and without a token."""
    visitor = Visitor(world).sign_in()
    for operation in OPERATIONS:
        path = operation.path.replace("{instanceId}", SOME_ID)
        for token in ({}, {"token": None}):
            yield operation.name, world.call(operation.method, path, headers=headers, **token)
    for page in PAGES:
        path = "/" + page.route.strip("/").replace("{instanceId}", SOME_ID).replace("{file}", "app.css")
        for one in (visitor, Visitor(world)):
            yield page.name, one.get(path, **headers) if page.method == "GET" else one.post(path, {}, **headers)


def test_every_answer_should_carry_the_headers_that_protect_it(world: World) -> None:
    world.launch()
    for name, answer in every_answer(world, **{"X-Forwarded-Proto": "https"}):
        assert answer.headers["X-Content-Type-Options"] == "nosniff", name
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"], name
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000", name
        assert answer.headers["X-Request-Id"], name
        if name != "web_static":
            assert answer.headers["Cache-Control"] == "no-store", name


def test_plain_http_should_promise_no_https(world: World) -> None:
    assert all("Strict-Transport-Security" not in answer.headers for _, answer in every_answer(world))


def test_broken_settings_should_be_answered_with_the_same_headers(
    monkeypatch: pytest.MonkeyPatch, world: World
) -> None:
    runtime.use(None)
    monkeypatch.setenv("GPULAUNCH_MASTER_KEY", "short")
    for path in ("/api/health", "/api/instances", "/instances", "/signin"):
        answer = world.call("GET", path)
        assert answer.status == 503
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_head_should_be_answered_as_a_get(world: World) -> None:
    one = world.launch()
    kinds = {"{instanceId}": one, "{file}": "app.css", "{*path}": "unknown", "{endpointName}": "e", "{change}": "scale"}
    kinds |= {"{keyId}": "k", "{operation}": "launch"}
    routes = [operation.route for operation in OPERATIONS] + [page.route.strip("/") for page in PAGES]
    seen = dict[str, int]()
    for route in routes:
        path = "/" + re.sub(r"\{\*?\w+\}", lambda found: kinds[found[0]], route)
        head, get = world.call("HEAD", path), world.call("GET", path)
        assert head.status == get.status, path
        assert {*head.headers} == {*get.headers}, path
        seen[path] = head.status
    assert {seen[path] for path in ("/signin", "/api/health", "/api/openapi.json", f"/api/instances/{one}")} == {200}


@pytest.mark.parametrize("there", ["/launch?name=é", "/instances/ü", "/x?a=\U0001f511", "/x?a=b%20c"])
def test_a_sign_in_should_lead_to_any_page_by_an_ascii_header(world: World, there: str) -> None:
    answer = Visitor(world).send("/signin", "/signin", {"token": "admin-token-of-the-tests", "next": there})
    where = answer.headers["Location"]
    assert answer.status == 303
    assert where.isascii()
    assert where.isprintable()
    assert where.startswith(there.split("?", maxsplit=1)[0][:2])
    assert "Set-Cookie" in answer.headers


@hypothesis_settings(max_examples=200, deadline=None, database=None)
@given(value=st.text(max_size=40, alphabet=st.characters()))
def test_no_header_should_hold_what_a_host_cannot_send(value: str) -> None:
    request = Request(method="GET", url="http://test/", headers={}, query={}, route={}, body=b"")
    sent = finished(request, Response(status=303, body=value, headers={"Location": value, "HX-Redirect": value}), {})
    assert all(set(text) <= set(string.printable[:95]) for text in sent.headers.values())
    assert isinstance(sent.body, bytes)


SURROGATE = "\udce9"


def test_lone_surrogates_should_fail_no_answer(world: World) -> None:
    visitor = Visitor(world).sign_in()
    for path in (f"/api/instances/{SURROGATE}", f"/api/instances/{SURROGATE}/events"):
        assert world.call("GET", path).status == 404
    calls: list[tuple[str, dict[str, str]]] = [
        ("/api/instances", {"phase": SURROGATE}),
        ("/api/instances", {SURROGATE: "x"}),
        ("/api/instances", {"label": SURROGATE, "continuation_token": SURROGATE}),
        ("/api/catalog", {"provider": SURROGATE}),
        ("/api/costs", {"by": SURROGATE}),
    ]
    for path, query in calls:
        answer = raw(world, path, query, {"X-Admin-Token": "admin-token-of-the-tests"})
        assert answer.status_code == 422
        assert json.loads(answer.get_body())["code"] == "invalid_request"
    cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())}
    for path in ("/instances", "/launch", "/launch/plan", "/signin", "/costs"):
        query = {"like": SURROGATE, "model_name": SURROGATE, "next": SURROGATE, "label": SURROGATE, "by": SURROGATE}
        assert raw(world, path, query, cookie).status_code < 500, path


def raw(world: World, path: str, query: dict[str, str], headers: dict[str, str], url: str = "") -> func.HttpResponse:
    """Call a function with what no client library would send."""
    name = next(one.name for one in OPERATIONS if one.path == path) if path.startswith("/api/") else None
    name = name or next(page.name for page in PAGES if f"/{page.route}" == path and page.method == "GET")
    request = func.HttpRequest("GET", url or f"http://test{path}", headers=headers, params=query, body=b"")
    return world.functions[name].get_user_function()(request)


@pytest.mark.parametrize("url", ["http://[::1/x", "http://[bad]/instances", "http://a]b/", "//[", "\udcff", ""])
def test_an_address_that_cannot_be_parsed_should_be_no_fault_of_ours(world: World, url: str) -> None:
    cookies = Visitor(world).sign_in().cookies
    cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
    for path in ("/instances", "/launch", "/api/instances", "/api/health", "/signin"):
        for headers in ({}, cookie, {"X-Admin-Token": "admin-token-of-the-tests"}):
            assert raw(world, path, {}, headers, url).status_code < 500, path


def post(world: World, body: Any = SEED, **headers: str) -> Answer:
    return world.call("POST", "/api/instances/launch", body, token=None, headers=LOCAL | headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "127.0.0.1:7071"},
        {"Host": "[::1]:7071"},
        {"Host": "LOCALHOST"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost:7071"},
        {"Sec-Fetch-Site": "none"},
        {"Content-Type": "application/json; charset=utf-8"},
    ],
)
def test_without_tokens_this_machine_s_own_programs_should_be_answered(
    tokenless: World, headers: dict[str, str]
) -> None:
    assert post(tokenless, **headers).status == 202
    assert tokenless.call("GET", "/api/instances", token=None, headers=LOCAL | headers).status == 200
    assert Visitor(tokenless).get("/instances", **headers).status == 200


FOREIGN = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "Cross-Site"},
    {"Sec-Fetch-Site": "anything"},
    {"Origin": "https://evil.test"},
    {"Origin": "null"},
    {"Origin": "http://localhost.evil.test:7071"},
    {"Origin": "http://localhost:8080"},
    {"Host": "evil.test"},
    {"Host": "evil.test:7071"},
    {"Host": "localhost.evil.test"},
    {"Host": "127.0.0.1.evil.test:7071"},
    {"Host": "localhost@evil.test"},
    {"Host": "0.0.0.0:7071"},
    {"Host": "[::2]"},
    {"Host": "192.168.1.5:7071"},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_without_tokens_other_sites_and_hosts_should_be_refused(tokenless: World, headers: dict[str, str]) -> None:
    mark = csrf_token_of(Visitor(tokenless).get("/launch"))
    assert post(tokenless, **headers).status == 403
    assert tokenless.call("GET", "/api/instances", token=None, headers=LOCAL | headers).status == 403
    assert tokenless.call("DELETE", f"/api/instances/{SOME_ID}", token=None, headers=LOCAL | headers).status == 403
    visitor, sent = Visitor(tokenless), {"Host": LOCAL["Host"]} | headers
    assert visitor.get("/instances", **sent).status == 403
    assert visitor.post("/launch", {"csrf_token": mark, "provider": "azure"}, **sent).status == 403
    assert tokenless.store.calls.count("create") == 0


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/json"]
)
def test_without_tokens_a_body_should_be_json_by_name(tokenless: World, kind: str) -> None:
    refused = post(tokenless, **{"Content-Type": kind})
    assert (refused.status, refused.json["code"]) == (415, "unsupported_type")
    assert tokenless.store.calls.count("create") == 0


@pytest.mark.parametrize(("kind", "status"), [("", 202), ("application/json", 202), ("text/plain", 415)])
def test_with_a_token_a_body_should_not_be_called_something_else(world: World, kind: str, status: int) -> None:
    headers = {"Content-Type": kind, "Origin": "https://tools.example", "Sec-Fetch-Site": "cross-site"}
    assert world.call("POST", "/api/instances/launch", SEED, headers=headers).status == status


def test_the_csrf_tokens_of_a_tokenless_app_should_not_be_known_from_its_source() -> None:
    from shared.web.session import OPEN

    assert len(OPEN.nonce) >= 22
    assert OPEN.nonce != "development"
