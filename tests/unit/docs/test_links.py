"""Every relative link and anchor in the documentation leads somewhere."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
_COMING = {"LICENSE", "tests/README.md", "walks.md", "shared/clouds/registry.py"}
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "tests").glob("*.md")])


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _broken(page: Path) -> Iterator[str]:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if target not in _COMING and (not file.exists() or (anchor and anchor not in _anchors(file))):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_should_lead_somewhere(page: Path) -> None:
    assert list(_broken(page)) == []


def test_files_that_the_documentation_names_should_exist() -> None:
    names = {
        (page.name, name)
        for page in PAGES
        if page.name != "CHANGELOG.md"
        for name in re.findall(
            r"`((?:shared|gpulaunch|functions|tests|deploy|infra|bench|devhost)/[\w./-]+)`", page.read_text("utf-8")
        )
    }
    assert [
        f"{page}: {name}" for page, name in sorted(names) if name not in _COMING and not (ROOT / name).exists()
    ] == []
