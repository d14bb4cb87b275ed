"""Vendored files, which are committed so that a deployment needs no npm, are those of the pinned packages."""

import hashlib
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


@pytest.mark.parametrize(
    ("committed", "digest"),
    [
        ("redoc.standalone.js", "e3d4361ba4ecdba1fad6ff3c627ef1e2563d78c02fbadb8e38572accac6a2acc"),
        ("redoc.standalone.js.LICENSE.txt", "271fcfa13720a447e21a42fe693bc081513907013a626d60efba59df0167ddfe"),
    ],
)
def test_redoc_should_be_what_make_static_made_of_its_pinned_version(committed: str, digest: str) -> None:
    assert hashlib.sha256((STATIC / committed).read_bytes()).hexdigest() == digest, "run `make static`"


def test_redoc_should_fetch_nothing_from_its_makers() -> None:
    assert b"cdn.redoc" not in (STATIC / "redoc.standalone.js").read_bytes()
