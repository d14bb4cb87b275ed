"""Signing in, sessions, and forged forms and cookies."""

import pytest

from shared import app as runtime
from tests.functional.web.visitor import Visitor, csrf_token_of, text_of
from tests.functional.world import ADMIN, READER, World, settings

GUARDED = ("/launch", "/instances", "/costs", "/settings", "/launch/plan")


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


@pytest.mark.parametrize("place", [0, 1, 2, 3])
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


def test_a_session_should_end_after_twelve_hours(world: World, admin: Visitor) -> None:
    world.clock.advance(12 * 3600 - 1)
    assert admin.get("/settings").status == 200
    world.clock.advance(1)
    assert admin.get("/settings").status == 303


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
    assert visitor.send("/launch", "/launch", {"provider": "azure"}).status == 422


POSTS = ("/launch", "/signin", "/signout", "/instances/inst-01ARZ3NDEKTSV4RRFFQ69G5FAV/terminate")


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("mark", ["", "forged", "A" * 43])
def test_a_post_without_the_sessions_csrf_token_should_be_refused(admin: Visitor, path: str, mark: str) -> None:
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
            found.add(str(trigger["route"]).replace("{instanceId}", demoted_id()))
    assert found == {path.removeprefix("/") for path in POSTS}


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


def test_a_poll_after_the_session_expired_should_redirect_the_page_to_the_sign_in(world: World) -> None:
    answer = Visitor(world).part("/instances")
    assert (answer.status, answer.headers["HX-Redirect"]) == (401, "/signin")


def test_a_form_that_is_too_large_should_be_refused(admin: Visitor) -> None:
    assert admin.post("/launch", {"labels": "x" * 70_000}).status == 413
