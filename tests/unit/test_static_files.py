"""Files of others that are committed, so that a deployment needs no npm, are those that npm has."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "shared" / "web" / "static"
MODULES = ROOT / "node_modules"


@pytest.mark.parametrize(
    ("committed", "source"),
    [
        ("htmx.min.js", "htmx.org/dist/htmx.min.js"),
        ("htmx.LICENSE.txt", "htmx.org/LICENSE"),
        ("pico.min.css", "@picocss/pico/css/pico.min.css"),
        ("pico.LICENSE.txt", "@picocss/pico/LICENSE.md"),
    ],
)
def test_a_committed_file_should_be_the_pinned_packages(committed: str, source: str) -> None:
    assert (STATIC / committed).read_bytes() == (MODULES / source).read_bytes(), "run `make static`"
