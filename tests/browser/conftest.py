"""One app and one browser for all tests of the pages."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.running import ADMIN, App, chromium, running_app, running_browser

SPEED = 2.0
"""Simulated seconds per second: the shortest phase to be seen lasts 10 of them, and pages poll every 2 s."""
PATIENCE = 30_000
"""Milliseconds to wait for expected content: Playwright's 5,000 are too short on busy cores."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium. Tests are skipped where it is missing, except in CI, which must install it."""
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
    """The app in simulation. Depends on the browser, so that nothing starts without one."""
    with running_app(tmp_path_factory.mktemp("app"), SPEED) as running:
        yield running


@pytest.fixture(scope="session")
def signed_in(app: App, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with browser.new_context(base_url=app.address) as context:
        page = context.new_page()
        sign_in(page, ADMIN)
        kept = tmp_path_factory.mktemp("cookies") / "admin.json"
        context.storage_state(path=kept)
        return kept


@pytest.fixture
def context(app: App, browser: Browser, signed_in: Path) -> Iterator[BrowserContext]:
    """A signed-in browser context; fails if any of its pages logged an error or asked another host."""
    complaints: list[str] = []
    with browser.new_context(base_url=app.address, storage_state=signed_in) as made:
        made.on("weberror", lambda error: complaints.append(str(error.error)))
        made.on("console", lambda said: _worth(said.type, said.text, complaints))
        made.on("request", lambda asked: _own(asked.url, app.address, complaints))
        yield made
    assert complaints == []


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


def _worth(kind: str, text: str, complaints: list[str]) -> None:
    # Chromium logs a refused form as an error; the page that explains it is expected.
    if kind in ("error", "warning") and "status of 422" not in text:
        complaints.append(text)


def _own(url: str, address: str, complaints: list[str]) -> None:
    if not url.startswith((address, "data:")):
        complaints.append(f"asked another host: {url}")


def sign_in(page: Page, token: str) -> None:
    page.goto("/signin")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/instances")
