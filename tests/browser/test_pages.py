"""The pages in a real browser: scripts, styles, keyboard, accessibility."""

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.conftest import sign_in
from tests.browser.running import ADMIN, READER, ROOT, SCREENS, App

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
WATCHED = 90_000
"""Milliseconds for what takes 41 s on an idle machine."""
WAY = ["queued", "validating", "provisioning", "installing", "loading model", "starting server", "registering", "ready"]
LONG = {"provisioning", "installing", "loading model", "starting server", "ready"}
"""Phases longer than several polls; shorter ones may fall between two polls and then show in the list of steps only."""

# Records every text of #phase, and shows that the page was not reloaded.
_RECORD = """() => {
  window.phases = [];
  const note = () => {
    const text = document.querySelector("#phase").textContent.trim();
    if (window.phases.at(-1) !== text) window.phases.push(text);
  };
  note();
  new MutationObserver(note).observe(document.body, {subtree: true, childList: true, characterData: true});
}"""


@pytest.fixture(scope="module")
def known(app: App) -> dict[str, str]:
    """Two instances: one that becomes ready after a failover, one that fails."""
    return {
        "ready": app.launch(name="ready-one", labels={"simulate.no-capacity": "1", "team": "search"}),
        "failed": app.launch(name="failed-one", labels={"simulate.no-capacity": "100"}),
    }


@pytest.fixture
def settled(app: App, known: dict[str, str]) -> dict[str, str]:
    """The known instances in their final phases."""
    for phase, instance_id in known.items():
        app.until(instance_id, phase)
    return known


def test_a_launch_should_be_seen_from_the_form_to_its_end(known: dict[str, str], page: Page) -> None:
    page.goto("/launch")
    plan = page.locator("#plan")
    expect(plan).to_contain_text("$0.80/h")
    expect(plan).to_contain_text("needs about 19 GiB, has 24 GiB")
    page.get_by_label("On-demand only").check()
    expect(plan).not_to_contain_text("$0.80/h")
    page.get_by_label("GPU or machine type").select_option("gpu:A100-80GB")
    expect(plan).to_contain_text("A100-80GB")
    expect(plan).to_contain_text("needs about 19 GiB, has 80 GiB")
    page.get_by_label("GPU or machine type").select_option("gpu:T4")
    expect(plan).to_contain_text("The model may not fit")
    page.get_by_label("GPU or machine type").select_option("gpu:A10")
    page.get_by_label("Spot, then on-demand").check()
    page.get_by_label("Region").select_option("eastus")
    page.get_by_text("Advanced").click()
    page.get_by_label("Name", exact=True).fill("watched")
    page.get_by_label("Labels").fill("simulate.no-capacity=1")
    page.get_by_label("Labels").press("Tab")
    expect(plan).to_contain_text("simulate.no-capacity")
    page.get_by_role("button", name="Launch", exact=True).click()
    page.wait_for_url(re.compile(r"/instances/inst-"))

    page.evaluate(_RECORD)
    page.get_by_text("Request", exact=True).click()
    page.get_by_role("button", name="Terminate").focus()
    attempts = page.locator(".attempts")
    expect(attempts).to_contain_text("no capacity: Simulated: no capacity for this offer.", timeout=WATCHED)
    running = page.locator("[data-cost]").first
    running.wait_for(timeout=WATCHED)
    cost = running.text_content()
    expect(running).not_to_have_text(cost or "", timeout=WATCHED)
    page.screenshot(path=SCREENS / "live.png", full_page=True)
    expect(page.locator("#phase")).to_have_text("ready", timeout=WATCHED)
    phases: list[str] = page.evaluate("window.phases")
    assert phases == [phase for phase in WAY if phase in phases]
    assert set(phases) >= LONG
    expect(page.locator(".steps .done")).to_have_count(7)
    # Nine updates later the focus and the open details are as the visitor left them.
    expect(page.get_by_role("button", name="Terminate")).to_be_focused()
    expect(page.get_by_role("region", name="Request")).to_be_visible()
    expect(page.get_by_role("region", name="curl sample")).to_contain_text("/v1/chat/completions")
    page.get_by_role("button", name="Show the API key").click()
    expect(page.get_by_role("region", name="API key")).to_contain_text("gl-")

    page.get_by_role("button", name="Terminate").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Terminate watched?")
    page.keyboard.press("Escape")
    expect(dialog).not_to_be_visible()
    assert page.evaluate("window.phases.length"), "the page was loaded anew"
    page.get_by_role("button", name="Terminate").press("Enter")
    dialog.get_by_role("button", name="Terminate").click()
    expect(page.locator("#phase")).to_have_text("terminated", timeout=WATCHED)
    expect(page.get_by_role("button", name="Terminate")).to_have_count(0)


def test_invalid_fields_should_be_explained_beside_them(page: Page) -> None:
    page.goto("/launch")
    page.get_by_text("Advanced").click()
    page.get_by_label("Labels").fill("simulate.no-capacity=many")
    page.get_by_role("button", name="Launch", exact=True).click()
    field = page.get_by_label("Labels")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(re.compile("whole number"))
    expect(page.get_by_role("alert")).to_contain_text("Nothing was launched.")


def test_the_form_should_change_with_the_provider(page: Page) -> None:
    page.goto("/launch")
    page.get_by_label("Provider").select_option("slurm")
    expect(page.get_by_label("GPUs per node")).to_be_visible()
    page.get_by_label("GPUs per node").fill("2")
    page.get_by_label("GPUs per node").press("Tab")
    expect(page.locator("#plan")).to_contain_text("A10:2")
    expect(page.locator("#plan")).to_contain_text("own")


def test_the_list_should_update_itself_and_filter(app: App, known: dict[str, str], page: Page) -> None:
    page.goto("/instances")
    page.evaluate("window.same = true")
    new = app.launch(name="came-later")
    expect(page.get_by_role("link", name="came-later")).to_be_visible(timeout=WATCHED)
    page.get_by_label("Label").fill("team=search")
    page.get_by_label("Label").press("Tab")
    expect(page.get_by_role("link", name="came-later")).to_have_count(0)
    expect(page.get_by_role("link", name="ready-one")).to_be_visible()
    assert "label=team%3Dsearch" in page.url
    assert page.evaluate("window.same")
    app.api("DELETE", f"/api/instances/{new}")


def test_an_unchanged_instance_should_be_answered_304_and_left_alone(settled: dict[str, str], page: Page) -> None:
    page.goto(f"/instances/{settled['ready']}")
    with page.expect_response(re.compile("/live$"), timeout=WATCHED) as answer:
        pass
    # A health probe in between changes the record; the next poll is then a 304.
    if answer.value.status == 200:
        with page.expect_response(re.compile("/live$"), timeout=WATCHED) as answer:
            pass
    assert answer.value.status == 304


def test_costs_should_be_plotted_and_listed_as_a_table(settled: dict[str, str], page: Page) -> None:
    page.goto("/costs")
    plot = page.get_by_role("img", name="Cost per day over the last 14 days")
    expect(plot).to_be_visible()
    expect(plot.locator("rect")).to_have_count(14)
    # Only the highest bar, today's, has an amount above it.
    expect(plot.locator(".amount")).to_have_text(re.compile(r"\$0\.\d+"))
    page.get_by_text("Show as a table").click()
    expect(page.get_by_role("row").nth(1)).to_contain_text(re.compile(r"\$0\.0*[1-9]"))
    expect(page.get_by_role("region", name="Costs by model")).to_contain_text("meta-llama/Llama-3.1-8B-Instruct")
    expect(page.get_by_role("main")).to_contain_text("is simulated: you pay nothing for it.")


def test_the_api_page_should_show_every_call_of_the_openapi_document(app: App, page: Page) -> None:
    page.goto("/api/docs")
    for methods in app.api("GET", "/api/openapi.json")["paths"].values():
        for described in methods.values():
            title = re.compile(rf"^{re.escape(described['summary'])}\s*$")
            expect(page.get_by_role("heading").filter(has_text=title)).to_have_count(1)


def test_the_keyboard_should_be_enough(page: Page) -> None:
    page.goto("/instances")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    expect(page.get_by_role("link", name="Skip to content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("main").get_by_role("button", name="Launch")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url("**/launch")


def test_the_essentials_should_work_without_scripts(app: App, browser: Browser) -> None:
    with browser.new_context(base_url=app.address, java_script_enabled=False) as context:
        page = context.new_page()
        sign_in(page, ADMIN)
        page.goto("/launch")
        page.get_by_label("On-demand only").check()
        page.get_by_role("button", name="Show plan").click()
        expect(page.locator("#plan")).not_to_contain_text("$0.80/h")
        page.get_by_role("button", name="Launch", exact=True).click()
        page.wait_for_url(re.compile(r"/instances/inst-"))
        assert "http-equiv" in page.content()
        page.get_by_role("button", name="Terminate").click()
        page.wait_for_url(re.compile("/terminate$"))
        page.get_by_role("button", name="Terminate").click()
        expect(page.locator("#phase")).to_have_text(re.compile("terminat"))
        page.get_by_role("button", name="Sign out").click()
        page.goto("/instances")
        assert "/signin" in page.url


def test_a_read_only_visitor_should_find_no_buttons(app: App, browser: Browser, known: dict[str, str]) -> None:
    with browser.new_context(base_url=app.address) as context:
        page = context.new_page()
        sign_in(page, READER)
        for path in ("/launch", "/instances", f"/instances/{known['ready']}"):
            page.goto(path)
            main = page.get_by_role("main")
            expect(main.get_by_role("button").filter(has_not_text="Copy")).to_have_count(0)


def paths(known: dict[str, str]) -> dict[str, str]:
    """Return a path of every kind of page."""
    return {
        "launch": "/launch",
        "instances": "/instances?state=all",
        "nothing": "/instances?label=nobody-has-it",
        "ready": f"/instances/{known['ready']}",
        "failed": f"/instances/{known['failed']}",
        "terminate": f"/instances/{known['ready']}/terminate",
        "key": f"/instances/{known['ready']}/key",
        "costs": "/costs",
        "settings": "/settings",
        "api": "/api/docs",
        "missing": "/instances/inst-01ARZ3NDEKTSV4RRFFQ69G5FAV",
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_should_find_no_serious_fault_on_any_page(
    app: App, settled: dict[str, str], browser: Browser, signed_in: Any, scheme: Any
) -> None:
    found: list[str] = []
    with browser.new_context(base_url=app.address, storage_state=signed_in, color_scheme=scheme) as context:
        page = context.new_page()
        for name, path in paths(settled).items():
            page.goto(path)
            page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
            page.screenshot(path=SCREENS / f"{name}-{scheme}.png", full_page=True)
            found += faults(page, name)
        page.goto(f"/instances/{settled['ready']}")
        page.get_by_role("button", name="Terminate").click()
        found += faults(page, "dialog")
    with browser.new_context(base_url=app.address, color_scheme=scheme) as context:
        page = context.new_page()
        page.goto("/signin")
        page.screenshot(path=SCREENS / f"signin-{scheme}.png")
        found += faults(page, "signin")
        page.get_by_label("Token").fill("a token of nobody's")
        page.get_by_role("button", name="Sign in").click()
        found += faults(page, "signin refused")
    assert found == []


def faults(page: Page, name: str) -> list[str]:
    """Return what axe finds serious or critical."""
    # Evaluated through the debugger, to which the pages' policy does not apply.
    page.evaluate(AXE.read_text("utf-8"))
    result: Any = page.evaluate("axe.run()")
    return [
        f"{name}: {one['id']}: {node['html'][:200]} {node['failureSummary'][:300]}"
        for one in result["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def test_no_page_should_have_to_be_scrolled_sideways_on_a_phone(
    settled: dict[str, str], context: BrowserContext
) -> None:
    page = context.new_page()
    page.set_viewport_size({"width": 320, "height": 740})
    too_wide: list[str] = []
    for name, path in paths(settled).items():
        if name == "missing":
            continue
        page.goto(path)
        page.screenshot(path=SCREENS / f"{name}-phone.png", full_page=True)
        width: int = page.evaluate("document.documentElement.scrollWidth")
        if width > 320:
            too_wide.append(f"{name}: {width}")
    assert too_wide == []
