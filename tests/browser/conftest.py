"""One app and one browser for all tests of the pages."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.running import ADMIN, App, chromium, running_app, running_browser

SPEED = 2.0
"""Simulated seconds in a second: the shortest phase that has to be seen lasts 10 of them, and pages look every 2 s."""
PATIENCE = 30_000
"""Milliseconds until what should be on a page is missed: Playwright's 5,000 are short where the cores are busy."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium. Where there is none, tests are skipped, save in CI, which has to install it."""
    program = chromium()
    if program is None:
        message = "Chromium is not installed (Debian: apt-get install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    expect.set_options(timeout=PATIENCE)
    with running_browser(program) as running:
        yield running


@pytest.fixture(scope="session")
def app(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app in simulation; asked for after the browser, so that nothing starts where there is none."""
    with running_app(tmp_path_factory.mktemp("app"), SPEED) as running:
        yield running


@pytest.fixture(scope="session")
def signed_in(app: App, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cookies of somebody who signed in with the admin token."""
    with browser.new_context(base_url=app.address) as context:
        page = context.new_page()
        sign_in(page, ADMIN)
        kept = tmp_path_factory.mktemp("cookies") / "admin.json"
        context.storage_state(path=kept)
        return kept


@pytest.fixture
def context(app: App, browser: Browser, signed_in: Path) -> Iterator[BrowserContext]:
    """A signed-in window; at its end no page of it may have complained."""
    complaints: list[str] = []
    with browser.new_context(base_url=app.address, storage_state=signed_in) as made:
        made.on("weberror", lambda error: complaints.append(str(error.error)))
        made.on("console", lambda said: _worth(said.type, said.text, complaints))
        made.on("request", lambda asked: _own(asked.url, app.address, complaints))
        yield made
    assert complaints == []


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """A signed-in page."""
    return context.new_page()


def _worth(kind: str, text: str, complaints: list[str]) -> None:
    # Chromium calls a form that was refused an error of its own; the page that says why is what we want.
    if kind in ("error", "warning") and "status of 422" not in text:
        complaints.append(text)


def _own(url: str, address: str, complaints: list[str]) -> None:
    if not url.startswith((address, "data:")):
        complaints.append(f"asked another host: {url}")


def sign_in(page: Page, token: str) -> None:
    """Sign in by the form."""
    page.goto("/signin")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/instances")
