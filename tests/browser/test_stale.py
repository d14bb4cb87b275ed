"""Pages that are no longer true say so, and nothing typed is lost."""

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.conftest import sign_in
from tests.browser.running import ADMIN, SCREENS, App

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


@pytest.fixture
def page(app: App, browser: Browser) -> Iterator[Page]:
    """A page of its own session, in which errors are expected."""
    with browser.new_context(base_url=app.address) as context:
        page = context.new_page()
        sign_in(page, ADMIN)
        yield page


@pytest.fixture(scope="module")
def busy(app: App) -> str:
    """An instance that costs money for the whole of the tests."""
    instance_id = app.launch(name="busy-one", labels={"simulate.busy-until": "100000"})
    app.until(instance_id, "ready")
    return instance_id


@pytest.fixture(scope="module")
def resting(app: App) -> str:
    """An endpoint without replicas, which costs nothing."""
    spec = {"replicas": 0, "launch": {"model_name": "org/model", "gpu": "A10"}}
    return str(app.api("PUT", "/api/endpoints/resting", spec)["name"])


def pass_seconds(page: Page, seconds: int) -> None:
    """Let the page's clock run, which the test has taken over; calls are answered in between."""
    for _ in range(seconds):
        page.clock.run_for(1000)
        page.wait_for_timeout(40)


@contextmanager
def broken(page: Page, fault: str) -> Generator[None]:
    """The app answers nothing but an error page, or nothing."""
    if fault == "503":
        page.route("**/*", lambda route: route.fulfill(status=503, body="<h1>Not available now</h1>"))
    else:
        page.context.set_offline(True)
    yield
    page.unroute_all()
    page.context.set_offline(False)


@pytest.mark.parametrize("fault", ["no network", "503"])
@pytest.mark.parametrize("path", ["/instances", "/instances/{busy}", "/endpoints"])
def test_a_page_without_answers_should_change_nothing_but_one_line_until_they_return(
    page: Page, busy: str, resting: str, fault: str, path: str
) -> None:
    page.clock.install()
    page.goto(path.format(busy=busy))
    bar, cost = page.locator("#stale"), page.locator("[data-cost]")
    expect(bar).not_to_be_visible()
    pass_seconds(page, 2)
    with broken(page, fault):
        pass_seconds(page, 13)
        shown = page.locator("main").inner_html()
        pass_seconds(page, 4)
        expect(bar).to_contain_text(re.compile(r"What you see is as of \d\d:\d\d:\d\d UTC"))
        assert page.locator("main").inner_html() == shown
        expect(page.locator("h1")).to_have_count(1)
        page.screenshot(path=SCREENS / f"stale-{fault.replace(' ', '-')}.png")
    before = cost.first.text_content() if path != "/endpoints" else None
    pass_seconds(page, 40)
    expect(bar).not_to_be_visible()
    if before is not None:
        expect(cost.first).not_to_have_text(before)


@pytest.mark.parametrize("fault", ["no network", "503"])
def test_a_launch_without_an_answer_should_keep_what_was_typed_and_launch_once(
    page: Page, app: App, fault: str
) -> None:
    page.goto("/launch")
    page.get_by_label("Provider").select_option("slurm")
    expect(page.get_by_label("GPUs per node")).to_be_visible()
    page.get_by_label("Model name").fill("typed/before")
    page.get_by_text("Advanced").click()
    name = f"kept-{'offline' if fault == 'no network' else '503'}"
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("vLLM arguments").fill("--max-model-len=4096")
    key = page.locator("[name=key]").input_value()
    with broken(page, fault):
        page.get_by_role("button", name="Launch", exact=True).click()
        page.wait_for_timeout(500)
    page.goto("/launch")
    expect(page.get_by_label("Model name")).to_have_value("typed/before")
    expect(page.get_by_label("Name", exact=True)).to_have_value(name)
    expect(page.get_by_label("vLLM arguments")).to_have_value("--max-model-len=4096")
    expect(page.get_by_label("Provider")).to_have_value("slurm")
    assert page.locator("[name=key]").input_value() == key
    expect(page.locator("#plan")).to_contain_text("typed/before")
    page.get_by_role("button", name="Launch", exact=True).click()
    page.wait_for_url("**/instances/inst-*")
    assert page.evaluate("sessionStorage.length") == 0
    (made,) = (one for one in app.api("GET", "/api/instances")["instances"] if one["name"] == name)
    app.api("DELETE", f"/api/instances/{made['instance_id']}")
    page.goto("/launch")
    expect(page.get_by_label("Model name")).not_to_have_value("typed/before")


def test_a_launch_of_an_ended_session_should_come_back_after_signing_in(page: Page) -> None:
    page.goto("/launch")
    page.get_by_label("Budget").fill("7.25")
    page.context.clear_cookies()
    page.get_by_role("button", name="Launch", exact=True).click()
    page.wait_for_url("**/signin*")
    page.get_by_label("Token").fill(ADMIN)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/launch")
    expect(page.get_by_label("Budget")).to_have_value("7.25")


def test_polls_that_fail_should_become_rare(page: Page, busy: str) -> None:
    page.clock.install()
    page.goto(f"/instances/{busy}")
    polls: list[str] = []
    with broken(page, "503"):
        page.on("request", lambda asked: polls.append(asked.url))
        pass_seconds(page, 25)
        first = len(polls)
        pass_seconds(page, 60)
    # Every 10 s while all is well; every 20 s after some failures.
    assert 2 <= first <= 4
    assert len(polls) - first <= 4


def test_one_lost_poll_should_be_nothing_to_speak_of(page: Page, busy: str) -> None:
    page.goto("/instances")
    lost: list[str] = []

    def lose_one(route: Route) -> None:
        lost.append(route.request.url)
        route.abort() if len(lost) == 1 else route.continue_()

    page.route(re.compile(r"/instances\?"), lose_one)
    with page.expect_response(re.compile(r"/instances\?"), timeout=30_000):
        pass
    assert len(lost) >= 1
    expect(page.locator("#stale")).not_to_be_visible()


def test_a_page_whose_session_ended_should_say_so_and_lead_back(page: Page, busy: str) -> None:
    page.clock.install()
    page.goto(f"/instances/{busy}")
    page.context.clear_cookies()
    bar = page.locator("#stale")
    pass_seconds(page, 11)
    expect(bar).to_contain_text("You are signed out")
    polls: list[str] = []
    page.on("request", lambda asked: polls.append(asked.url))
    pass_seconds(page, 21)
    assert polls == []
    page.screenshot(path=SCREENS / "stale-signed-out.png")
    bar.get_by_role("link", name="Sign in").click()
    page.get_by_label("Token").fill(ADMIN)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"**/instances/{busy}")


def test_a_page_of_another_version_should_say_so(page: Page, busy: str) -> None:
    page.goto("/instances")
    page.evaluate("document.documentElement.dataset.pages = 'earlier'")
    bar = page.locator("#stale")
    expect(bar).to_contain_text("Another version of gpulaunch is running now.")
    bar.get_by_role("link", name="Reload this page").click()
    expect(bar).not_to_be_visible()


def test_a_hidden_page_should_ask_for_nothing_and_be_right_when_it_is_seen(page: Page, busy: str) -> None:
    page.clock.install()
    page.goto("/instances")
    hide = "value => { Object.defineProperty(document, 'hidden', {configurable: true, get: () => value}); document.dispatchEvent(new Event('visibilitychange')); }"  # noqa: E501
    page.evaluate(hide, True)
    polls: list[str] = []
    page.on("request", lambda asked: polls.append(asked.url))
    pass_seconds(page, 60)
    assert polls == []
    page.evaluate(hide, False)
    page.wait_for_timeout(500)
    assert len(polls) == 1
    expect(page.locator("#stale")).not_to_be_visible()


def test_an_empty_list_should_ask_for_nothing_until_it_is_seen_again(page: Page) -> None:
    page.clock.install()
    page.goto("/instances?label=no-such-label")
    polls: list[str] = []
    page.on("request", lambda asked: polls.append(asked.url) if "label=" in asked.url else None)
    pass_seconds(page, 60)
    assert polls == []
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for_timeout(500)
    assert len(polls) == 1


def test_typing_should_move_the_plan_and_enter_should_not_launch(page: Page, app: App) -> None:
    page.goto("/launch")
    before = len(app.api("GET", "/api/instances")["instances"])
    field = page.get_by_label("Model name")
    field.press("Control+a")
    field.press_sequentially("meta-llama/Llama-3.3-70B-Instruct")
    expect(page.locator("#plan")).to_contain_text("The model may not fit")
    field.fill("meta-llama/Llama-3.1-8B-Instruct")
    field.press("Enter")
    expect(page.locator("#plan")).to_contain_text("has 24 GiB")
    expect(field).to_be_focused()
    assert page.url.endswith("/launch")
    assert len(app.api("GET", "/api/instances")["instances"]) == before


def test_launching_before_the_plan_has_followed_should_ask_first(page: Page) -> None:
    page.goto("/launch")
    page.route("**/launch/plan", lambda route: route.abort())
    page.get_by_label("Budget").fill("3")
    page.get_by_role("button", name="Launch", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was launched yet.")
    expect(page.get_by_label("Budget")).to_have_value("3")
    page.get_by_role("button", name="Launch", exact=True).click()
    page.wait_for_url("**/instances/inst-*")


def test_a_plan_that_cannot_be_had_should_say_so_and_keep_what_was_typed(page: Page) -> None:
    page.goto("/launch")
    page.context.clear_cookies()
    page.get_by_label("Model name").fill("typed/before")
    expect(page.locator("#stale")).to_contain_text("You are signed out")
    expect(page.get_by_label("Model name")).to_have_value("typed/before")
    expect(page.locator("#plan")).to_contain_text("$0.80/h")


def test_space_should_press_what_looks_like_a_button(page: Page) -> None:
    page.goto("/instances")
    page.get_by_role("button", name="Launch", exact=True).press(" ")
    page.wait_for_url("**/launch")
