"""Signing in, sessions, and forged forms and cookies."""

from urllib.parse import quote

import pytest

from shared import app as runtime
from shared.control.sessions import ENDED, POLL_SECONDS
from shared.errors import StoreUnavailableError
from shared.web.routes import PAGES
from shared.web.session import IDLE, RENEWED
from tests.functional.web.visitor import Visitor, csrf_token_of, hidden_fields, text_of
from tests.functional.world import ADMIN, READER, SEED, World, settings

GUARDED = (
    "/launch",
    "/endpoints",
    "/endpoints/chat",
    "/instances",
    "/costs",
    "/settings",
    "/launch/plan",
    "/deploy",
    "/deploy/plan",
)


@pytest.mark.parametrize("path", GUARDED)
def test_a_page_should_redirect_strangers_to_the_sign_in_and_back(world: World, path: str) -> None:
    answer = Visitor(world).get(path)
    assert answer.status == 303
    assert answer.headers["Location"] == "/signin?next=" + path.replace("/", "%2F")


def test_home_should_redirect_to_the_instances(world: World) -> None:
    assert Visitor(world).get("/").headers["Location"] == "/instances"


def test_a_valid_token_should_open_the_pages(world: World) -> None:
    visitor = Visitor(world).sign_in()
    assert visitor.get("/instances").status == 200
    assert visitor.get("/signin").headers["Location"] == "/instances"


@pytest.mark.parametrize("token", ["", "no-token-of-ours-at-all", ADMIN + "x", ADMIN[:-1]])
def test_a_wrong_token_should_open_nothing(world: World, token: str) -> None:
    visitor = Visitor(world)
    answer = visitor.send("/signin", "/signin", {"token": token})
    assert answer.status == 401
    assert "Unknown token" in text_of(answer)
    assert visitor.get("/instances").status == 303


def test_the_cookie_should_be_out_of_reach_of_scripts_and_other_sites(world: World) -> None:
    answer = Visitor(world).send("/signin", "/signin", {"token": ADMIN})
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("gpulaunch=")
    assert {"HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"} <= set(cookie.split("; "))
    assert ADMIN not in cookie


def test_over_https_the_cookie_should_be_secure_and_of_this_host(world: World) -> None:
    visitor = Visitor(world, secure=True)
    answer = visitor.send("/signin", "/signin", {"token": ADMIN})
    assert answer.headers["Set-Cookie"].startswith("__Host-gpulaunch=")
    assert answer.headers["Set-Cookie"].endswith("; Secure")
    assert "max-age" in answer.headers["Strict-Transport-Security"]
    assert visitor.get("/instances").status == 200


@pytest.mark.parametrize("place", [0, 1, 2, 3, 4, 5])
def test_a_changed_cookie_should_be_worthless(world: World, admin: Visitor, place: int) -> None:
    parts = admin.cookies["gpulaunch"].split(".")
    parts[place] = ("1" if parts[place][0] != "1" else "2") + parts[place][1:]
    admin.cookies["gpulaunch"] = ".".join(parts)
    assert admin.get("/instances").status == 303


@pytest.mark.parametrize("cookie", ["", "x", "guest.9999999999.x.y", "....", "a" * 5000, "ä.1.2.3"])
def test_an_invalid_cookie_should_be_no_session_and_no_error(world: World, cookie: str) -> None:
    assert Visitor(world, {"gpulaunch": cookie}).get("/instances").status == 303


def test_the_cookie_of_the_sign_in_page_should_open_nothing(world: World) -> None:
    visitor = Visitor(world)
    visitor.get("/signin")
    assert visitor.cookies["gpulaunch"].startswith("guest.")
    assert visitor.get("/instances").status == 303


def test_a_session_should_end_after_twelve_hours_of_use(world: World, admin: Visitor) -> None:
    for _ in range(12 * 3):
        assert admin.get("/settings").status == 200
        world.clock.advance(1200)
    assert admin.get("/settings").status == 303


@pytest.mark.parametrize(("pause", "status"), [(IDLE - 1, 200), (IDLE, 303)])
def test_a_session_should_end_when_it_is_not_used(world: World, admin: Visitor, pause: int, status: int) -> None:
    for _ in range(3):
        world.clock.advance(pause)
        assert admin.get("/launch").status == status


def test_a_page_that_polls_should_not_keep_a_session_alive(world: World, admin: Visitor) -> None:
    instance_id = world.launch()
    for _ in range(IDLE // 60):
        for path in ("/instances", f"/instances/{instance_id}/live"):
            assert admin.part(path).status in (200, 304)
        world.clock.advance(60)
    polled = admin.part("/instances")
    assert polled.status == 401
    assert admin.get("/instances").status == 303


def test_typing_in_the_launch_form_should_keep_a_session_alive(world: World, admin: Visitor) -> None:
    for _ in range(4):
        world.clock.advance(IDLE - 60)
        assert admin.part("/launch/plan?provider=azure&machine=gpu:A10&model_name=x").status == 200


def test_not_every_answer_should_renew_the_cookie(world: World, admin: Visitor) -> None:
    assert "Set-Cookie" not in admin.get("/settings").headers
    world.clock.advance(RENEWED)
    assert "HttpOnly" in admin.get("/settings").headers["Set-Cookie"]
    assert "Set-Cookie" not in admin.get("/settings").headers


def another_process(world: World) -> World:
    """The same storage under a program of its own."""
    other = World()
    other.clock, other.store = world.clock, world.store
    other.rebuild(store=world.store, clock=world.clock)
    return other


def test_signing_out_should_end_the_session_for_every_copy_of_its_cookie(world: World, admin: Visitor) -> None:
    other = another_process(world)
    copies = [Visitor(one, dict(admin.cookies)) for one in (world, other)]
    instance_id = world.launch()
    for copy in copies:
        runtime.use(copy.world.app)
        assert copy.get("/instances").status == 200
    runtime.use(world.app)
    admin.send("/instances", "/signout", {})
    for copy in copies:
        runtime.use(copy.world.app)
        for path in ("/instances", "/settings", "/launch", f"/instances/{instance_id}/key", "/launch/plan"):
            assert copy.get(path).status == 303, path
        assert copy.get("/signin").status == 200, "no redirect in a circle"
        assert "/signin" in copy.post(f"/instances/{instance_id}/terminate", {"csrf_token": "x"}).headers["Location"]


def test_signing_out_should_end_no_other_session(world: World, admin: Visitor, reader: Visitor) -> None:
    other = Visitor(world).sign_in()
    admin.send("/instances", "/signout", {})
    assert other.get("/instances").status == 200
    assert reader.get("/instances").status == 200
    assert Visitor(world).sign_in().get("/instances").status == 200


def test_a_renewed_cookie_should_end_with_the_one_it_came_from(world: World, admin: Visitor) -> None:
    before = dict(admin.cookies)
    world.clock.advance(RENEWED)
    admin.get("/instances")
    assert admin.cookies != before
    Visitor(world, before).send("/instances", "/signout", {})
    assert admin.get("/instances").status == 303


def test_polls_of_an_ended_session_should_end_within_half_a_minute(world: World, admin: Visitor) -> None:
    other = another_process(world)
    copy = Visitor(other, dict(admin.cookies))
    copy.get("/instances")
    runtime.use(world.app)
    admin.send("/instances", "/signout", {})
    runtime.use(other.app)
    world.clock.advance(POLL_SECONDS)
    assert copy.part("/instances").status == 401


def test_an_admin_should_end_all_sessions_at_once(world: World, admin: Visitor, reader: Visitor) -> None:
    other = Visitor(world).sign_in()
    assert "End all sessions" in text_of(admin.get("/settings"))
    answer = admin.send("/settings", "/signout", {"all": "yes"})
    assert answer.headers["Location"] == "/signin"
    for visitor in (admin, reader, other):
        assert visitor.get("/instances").status == 303
    assert Visitor(world).sign_in().get("/instances").status == 200
    assert Visitor(another_process(world)).sign_in().get("/instances").status == 200


def test_a_reader_should_not_end_the_sessions_of_others(admin: Visitor, reader: Visitor) -> None:
    assert "End all sessions" not in text_of(reader.get("/settings"))
    assert reader.send("/settings", "/signout", {"all": "yes"}).status == 403
    assert admin.get("/instances").status == 200


def test_sessions_should_cost_few_reads(world: World, admin: Visitor) -> None:
    """One for a page; none for its polls, save one in half a minute; none for static files."""
    instance_id, seen = world.launch(), world.store.calls.seen
    admin.get("/instances")
    seen.clear()
    admin.get("/launch")
    assert seen.count("markers") == 1
    seen.clear()
    for _ in range(14):
        world.clock.advance(2)
        admin.part(f"/instances/{instance_id}/live")
        admin.get("/static/app.css")
    assert seen.count("markers") == 0
    for _ in range(15):
        world.clock.advance(2)
        admin.part(f"/instances/{instance_id}/live")
    assert seen.count("markers") == 1


def test_ended_sessions_should_be_forgotten_once_they_have_expired(world: World) -> None:
    for _ in range(5):
        Visitor(world).sign_in().send("/instances", "/signout", {})
    assert len(world.store.markers(ENDED)) == 5
    world.clock.advance(12 * 3600)
    Visitor(world).sign_in().send("/instances", "/signout", {})
    assert len(world.store.markers(ENDED)) == 1


def test_without_storage_no_one_should_be_let_in_by_an_unchecked_cookie(world: World, admin: Visitor) -> None:
    world.store.calls.fail_next("markers", StoreUnavailableError("planted"))
    assert admin.get("/launch").status == 503
    assert admin.get("/launch").status == 200


def test_a_session_should_end_with_its_token(world: World, admin: Visitor) -> None:
    cookies = dict(admin.cookies)
    other = World(settings(GPULAUNCH_ADMIN_TOKENS="another-admin-token-of-tests"))
    assert Visitor(other, cookies).get("/instances").status == 303
    runtime.use(world.app)
    assert Visitor(world, cookies).get("/instances").status == 200


def test_a_session_should_lose_its_rights_with_its_token(admin: Visitor) -> None:
    demoted = World(settings(GPULAUNCH_ADMIN_TOKENS="another-admin-token-of-tests", GPULAUNCH_READ_TOKENS=ADMIN))
    visitor = Visitor(demoted, dict(admin.cookies))
    assert "read-only" in text_of(visitor.get("/instances"))
    assert visitor.get(f"/instances/{demoted_id()}/terminate").status == 403


def demoted_id() -> str:
    """Return any well-formed id: refused visitors do not learn whether it exists."""
    return "inst-01ARZ3NDEKTSV4RRFFQ69G5FAV"


def test_signing_out_should_delete_the_cookie(admin: Visitor) -> None:
    answer = admin.send("/instances", "/signout", {})
    assert (answer.status, answer.headers["Location"]) == (303, "/signin")
    assert "Max-Age=0" in answer.headers["Set-Cookie"]
    assert admin.get("/instances").status == 303


@pytest.mark.parametrize(
    ("given", "leads"),
    [
        ("/launch?like=x", "/launch?like=x"),
        ("https://evil.example", "/instances"),
        ("//evil.example/x", "/instances"),
        ("/\\evil.example", "/instances"),
        ("/x\r\nSet-Cookie: a=b", "/instances"),
        ("", "/instances"),
    ],
)
def test_signing_in_should_redirect_only_within_the_app(world: World, given: str, leads: str) -> None:
    answer = Visitor(world).send("/signin", "/signin", {"token": ADMIN, "next": given})
    assert answer.headers["Location"] == leads


def test_without_any_token_no_sign_in_should_succeed(world: World) -> None:
    visitor = Visitor(World(settings(GPULAUNCH_ADMIN_TOKENS="", GPULAUNCH_READ_TOKENS="")))
    assert "GPULAUNCH_ADMIN_TOKENS" in text_of(visitor.get("/signin"))
    assert visitor.get("/instances").status == 303
    assert visitor.send("/signin", "/signin", {"token": ""}).status == 401


def test_a_developers_machine_without_tokens_should_need_no_sign_in() -> None:
    given = settings(GPULAUNCH_ADMIN_TOKENS="", GPULAUNCH_READ_TOKENS="", AZURE_FUNCTIONS_ENVIRONMENT="Development")
    visitor = Visitor(World(given))
    page = visitor.get("/launch")
    assert page.status == 200
    assert "Sign out" not in text_of(page)
    assert visitor.post("/launch", {"provider": "azure"}).status == 403
    assert visitor.send("/launch", "/launch", {"provider": "azure", "do": "launch"}).status == 422


POSTS = (
    "/launch",
    "/deploy",
    "/signin",
    "/signout",
    "/instances/inst-01ARZ3NDEKTSV4RRFFQ69G5FAV/terminate",
    "/endpoints/chat/changes/pause",
    "/endpoints/chat/keys",
    "/endpoints/chat/keys/key-1/revoke",
)
FILLED = {
    "{instanceId}": "inst-01ARZ3NDEKTSV4RRFFQ69G5FAV", "{endpointName}": "chat", "{change}": "pause", "{keyId}": "key-1"
}  # fmt: skip


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("mark", ["", "forged", "A" * 43])
def test_a_post_without_the_sessions_csrf_token_should_be_refused(
    world: World, admin: Visitor, path: str, mark: str
) -> None:
    world.call("POST", "/api/endpoints", {"name": "chat", "launch": SEED})
    assert admin.post(path, {"csrf_token": mark, "token": ADMIN}).status == 403


def test_another_sessions_csrf_token_should_be_refused(world: World, admin: Visitor) -> None:
    other = Visitor(world).sign_in()
    assert admin.post("/signout", {"csrf_token": csrf_token_of(other.get("/instances"))}).status == 403


@pytest.mark.parametrize(("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 303), ("", 303)])
def test_a_post_from_another_site_should_be_refused_whatever_it_carries(admin: Visitor, site: str, status: int) -> None:
    form = {"csrf_token": csrf_token_of(admin.get("/instances"))}
    assert admin.post("/signout", form, **{"Sec-Fetch-Site": site}).status == status


def test_every_post_of_the_pages_should_be_tried_here(world: World) -> None:
    found: set[str] = set()
    for function in world.functions.values():
        trigger = function.get_trigger().get_dict_repr()
        if str(function.get_function_name()).startswith("web_") and "POST" in [
            str(m.value) for m in trigger["methods"]
        ]:
            route = str(trigger["route"])
            for parameter, value in FILLED.items():
                route = route.replace(parameter, value)
            found.add(route)
    harmless = {page.route for page in PAGES if page.method == "POST" and not page.changes}
    assert harmless == {"launch/plan", "deploy/plan"}
    assert found - harmless == {path.removeprefix("/") for path in POSTS}


def test_a_read_only_visitor_should_see_no_buttons_and_change_nothing(world: World, reader: Visitor) -> None:
    instance_id = world.launch()
    world.run(90)
    for path in ("/launch", "/instances", f"/instances/{instance_id}", "/settings", "/costs"):
        page = reader.get(path).body.decode()
        assert page.count("<button>") == 0
        assert 'data-dialog="terminate"' not in page
        assert 'value="launch">' not in page
        assert f"{instance_id}/key" not in page
    assert "read-only" in text_of(reader.get("/instances"))
    mark = csrf_token_of(reader.get("/instances"))
    for path in ("/launch", f"/instances/{instance_id}/terminate"):
        assert reader.post(path, {"csrf_token": mark, "provider": "azure"}).status == 403
    assert reader.get(f"/instances/{instance_id}/key").status == 403
    assert reader.get(f"/instances/{instance_id}/terminate").status == 403
    assert world.show(instance_id)["phase"] == "ready"
    assert READER not in reader.get("/settings").body.decode()


def test_a_poll_after_the_session_expired_should_leave_the_page_as_it_is(world: World) -> None:
    answer = Visitor(world).part("/instances")
    assert (answer.status, answer.body) == (401, b"")
    assert "HX-Redirect" not in answer.headers


@pytest.mark.parametrize("path", ["/launch", "/instances/inst-01ARZ3NDEKTSV4RRFFQ69G5FAV/terminate"])
def test_a_form_without_a_session_should_lead_back_to_its_page(world: World, path: str) -> None:
    where = Visitor(world).post(path, {}).headers["Location"]
    assert where == "/signin?next=" + quote(path, safe="")
    assert Visitor(world).post("/signout", {}).headers["Location"] == "/signin"


def test_a_launch_form_of_an_earlier_session_should_keep_what_was_typed(world: World, admin: Visitor) -> None:
    form = {"provider": "azure", "machine": "gpu:A10", "model_name": "typed/before", "spot": "fallback"}
    old = {"csrf_token": csrf_token_of(admin.get("/launch")), "do": "launch", **form}
    admin.cookies.clear()
    admin.sign_in()
    again = admin.post("/launch", old)
    assert again.status == 403
    assert "from an earlier session" in text_of(again)
    assert 'value="typed/before"' in again.body.decode()
    assert world.call("GET", "/api/instances").json["instances"] == []
    assert admin.post("/launch", {**form, **hidden_fields(again), "do": "launch"}).status == 303
    assert admin.post("/launch", old, **{"Sec-Fetch-Site": "cross-site"}).status == 403
    assert "typed/before" not in admin.post("/launch", old, **{"Sec-Fetch-Site": "cross-site"}).body.decode()


def test_a_form_that_is_too_large_should_be_refused(admin: Visitor) -> None:
    assert admin.post("/launch", {"labels": "x" * 70_000}).status == 413
