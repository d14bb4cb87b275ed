"""`python -m tests.browser.speed`: how long the pages take with 1,000 instances in the table, on Azurite."""

import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx

from tests.browser.filling import fill, store_of
from tests.browser.running import ADMIN, running_app

ROUNDS = 40
LIMIT = 50.0
"""Milliseconds that a page may take, as a median."""


def main() -> int:
    """Print the median and the spread of each page; 1 when one takes longer than it may."""
    with tempfile.TemporaryDirectory() as folder, running_app(Path(folder), 1.0, swept=False) as app:
        store = store_of(app)
        fill(store, 500, ended=True, days=20)
        one = fill(store, 500, ended=False, days=5)[-1]
        with httpx.Client(base_url=app.address, timeout=30) as client:
            sign_in(client)
            paths = (
                "/launch",
                "/instances",
                "/instances?state=all",
                "/instances?state=all&label=team%3Dsearch",
                "/instances?state=all&label=team%3Dnobody",
                "/instances?state=ended&phase=failed",
                f"/instances/{one}",
                "/costs",
                "/settings",
                "/api/docs",
            )
            slow = [path for path in paths if measure(client, path) > LIMIT]
            part = f"/instances/{one}/live"
            mark = client.get(part, headers={"HX-Request": "true"}).headers["ETag"]
            measure(client, part, {"HX-Request": "true", "If-None-Match": mark}, expected=304)
    print(f"slower than {LIMIT:g} ms: {', '.join(slow) or 'none'}")
    return 1 if slow else 0


def sign_in(client: httpx.Client) -> None:
    mark = re.search(r'name="csrf_token" value="([^"]+)"', client.get("/signin").text)
    assert mark is not None
    assert client.post("/signin", data={"csrf_token": mark[1], "token": ADMIN}).status_code == 303


def measure(client: httpx.Client, path: str, headers: dict[str, str] | None = None, expected: int = 200) -> float:
    """Median milliseconds of one page, as a client on this machine sees it."""
    took: list[float] = []
    size = 0
    for _ in range(ROUNDS + 3):
        begun = time.perf_counter()
        answer = client.get(path, headers=headers)
        took.append((time.perf_counter() - begun) * 1000)
        assert answer.status_code == expected, (path, answer.status_code)
        size = len(answer.content)
    # The first ones compile templates, and read what is kept for a while.
    first, took = took[0], sorted(took[3:])
    middle = statistics.median(took)
    shown = re.sub("inst-[0-9A-Z]+", "{id}", path)
    print(f"{shown:40} {middle:6.1f} ms median, {took[0]:.1f} to {took[-1]:.1f}, first {first:.0f}, {size:,} bytes")
    return middle


if __name__ == "__main__":
    sys.exit(main())
