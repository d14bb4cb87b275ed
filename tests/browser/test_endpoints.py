"""The pages of endpoints in a real browser."""

from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.running import SCREENS, App
from tests.browser.test_pages import faults

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

LAUNCH = {"model_name": "meta-llama/Llama-3.1-8B-Instruct", "gpu": "A10", "region": "eastus"}
PATHS = ("", "/chat", "/chat/changes/scale", "/chat/changes/rollout", "/chat/changes/delete")


@pytest.fixture(scope="module", autouse=True)
def chat(app: App) -> None:
    app.api("PUT", "/api/endpoints/chat", {"launch": LAUNCH, "replicas": 1})
    app.api("POST", "/api/endpoints/chat/keys", {"name": "search"})


def test_what_is_typed_should_survive_polls_and_a_hidden_page_ask_for_nothing(app: App, page: Page) -> None:
    page.goto("/endpoints/chat")
    page.get_by_label("Application").fill("half-ty")
    page.locator("#launch-1 summary").click()
    polls: list[str] = []
    page.on("request", lambda sent: polls.append(sent.url))
    app.api("PATCH", "/api/endpoints/chat", {"drain_seconds": 61})
    expect(page.locator("#live")).to_contain_text("Drain time set to 61 s.")
    expect(page.get_by_label("Application")).to_have_value("half-ty")
    expect(page.get_by_label("Application")).to_have_count(1)
    assert page.locator("#launch-1").evaluate("one => one.open")
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    polls.clear()
    page.wait_for_timeout(2_500)
    assert polls == []


def test_replicas_should_be_scaled_by_keyboard_after_a_question(app: App, page: Page) -> None:
    page.goto("/endpoints/chat/changes/scale")
    page.get_by_label("Replicas").fill("2")
    page.keyboard.press("Enter")
    expect(page.locator("#cost")).to_contain_text("$0.80 per hour")
    assert app.api("GET", "/api/endpoints/chat")["replicas"] == 1
    page.get_by_role("button", name="Scale to 2").press("Enter")
    page.wait_for_url("**/endpoints/chat")
    expect(page.locator("#slot-2")).to_be_visible()


def test_a_key_should_be_made_and_revoked(page: Page) -> None:
    page.goto("/endpoints/chat")
    page.get_by_label("Application").fill("billing")
    page.get_by_role("button", name="Make a key").click()
    expect(page.get_by_role("region", name="API key")).to_contain_text("export OPENAI_API_KEY='gl-")
    page.get_by_role("link", name="Back to the endpoint").click()
    page.get_by_role("link", name="Revoke the key of billing").click()
    page.get_by_role("button", name="Revoke").click()
    expect(page.locator("#keys")).to_contain_text("search")
    expect(page.locator("#keys")).not_to_contain_text("billing")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_should_find_no_serious_fault_on_the_pages_of_endpoints(
    app: App, browser: Browser, signed_in: Any, scheme: Any
) -> None:
    found: list[str] = []
    with browser.new_context(base_url=app.address, storage_state=signed_in, color_scheme=scheme) as context:
        page = context.new_page()
        for path in PATHS:
            page.goto(f"/endpoints{path}")
            page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
            name = f"endpoints{path.replace('/', '-')}"
            page.screenshot(path=SCREENS / f"{name}-{scheme}.png", full_page=True)
            found += faults(page, name)
    assert found == []


def test_no_page_of_endpoints_should_have_to_be_scrolled_sideways_on_a_phone(context: BrowserContext) -> None:
    page = context.new_page()
    page.set_viewport_size({"width": 360, "height": 740})
    for path in PATHS:
        page.goto(f"/endpoints{path}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path
