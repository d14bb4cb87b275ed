"""`python -m tests.browser.screenshots`: take docs/images/*.png from the running app in simulation.

The instances are really launched; only the history on the costs page is written into the table.
"""

import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page

from tests.browser.conftest import sign_in
from tests.browser.filling import fill, store_of
from tests.browser.running import ADMIN, ROOT, App, chromium, running_app, running_browser

IMAGES = ROOT / "docs" / "images"
SPEED = 4.0
WIDE = 1180


def main() -> int:
    program = chromium()
    if program is None:
        print("Chromium is not installed (Debian: apt-get install chromium)", file=sys.stderr)
        return 1
    IMAGES.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        running_app(Path(folder), SPEED) as app,
        running_browser(program) as browser,
    ):
        context = browser.new_context(base_url=app.address, viewport={"width": WIDE, "height": 780})
        page = context.new_page()
        sign_in(page, ADMIN)
        shoot(app, page)
    return 0


def shoot(app: App, page: Page) -> None:
    """Launch instances and take the pictures once they are in the right state."""
    page.goto("/launch")
    take(page, "launch")
    search = app.launch(name="search", labels={"team": "search", "simulate.busy-until": "100000"})
    app.launch(name="batch", model_name="Qwen/Qwen2.5-7B-Instruct", region="westus3", labels={"team": "data"})
    app.launch(name="spare", labels={"simulate.no-capacity": "100"})
    app.until(search, "ready")
    app.launch(name="chat", model_name="mistralai/Mistral-7B-Instruct-v0.3", gpu="A100-80GB", region="eastus2")
    watched = app.launch(name="assistant", labels={"team": "search", "simulate.no-capacity": "1"})
    app.until(watched, "installing")
    page.goto(f"/instances/{watched}")
    time.sleep(1.5)
    take(page, "instance", height=900)
    # One sweep, so that every ready instance was probed.
    time.sleep(31)
    page.goto("/instances?state=all")
    take(page, "instances", height=640)
    page.emulate_media(color_scheme="dark")
    page.goto(f"/instances/{search}")
    take(page, "ready-dark", height=900)
    page.emulate_media(color_scheme="light")
    fill(store_of(app), 40, ended=True, days=13)
    page.goto("/costs")
    take(page, "costs")


def take(page: Page, name: str, height: int = 780) -> None:
    page.set_viewport_size({"width": WIDE, "height": height})
    page.screenshot(path=IMAGES / f"{name}.png")


if __name__ == "__main__":
    sys.exit(main())
