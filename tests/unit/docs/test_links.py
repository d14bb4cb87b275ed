"""Every relative link and anchor in the documentation leads somewhere."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
WALKS = ROOT / "docs" / "internals" / "walks.md"
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
        if not file.exists() or (anchor and anchor not in _anchors(file)):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_should_lead_somewhere(page: Path) -> None:
    assert list(_broken(page)) == []


def test_files_that_the_documentation_names_should_exist() -> None:
    pattern = re.compile(r"`((?:shared|gpulaunch|functions|tests|deploy|infra|bench|devhost)/[\w./-]+)`")
    pages = [page for page in PAGES if page.name != "CHANGELOG.md"]
    names = {(page.name, name) for page in pages for name in pattern.findall(page.read_text("utf-8"))}
    assert [f"{page}: {name}" for page, name in sorted(names) if not (ROOT / name).exists()] == []


def test_calls_of_the_walks_should_exist() -> None:
    rows: list[tuple[str, str]] = re.findall(
        r"^\| `([\w/.]+)` \| (?:↳ )?`([\w.]+)` \|", WALKS.read_text("utf-8"), re.MULTILINE
    )
    assert len(rows) > 30
    missing = [
        f"{file}: {name}"
        for file, call in rows
        for name in call.split(".")
        if not re.search(rf"^\s*(?:def|class) {name}\b", (ROOT / file).read_text("utf-8"), re.MULTILINE)
    ]
    assert missing == []


def test_names_that_the_internals_mention_should_exist() -> None:
    sources = [
        file.read_text("utf-8") for room in ("shared", "gpulaunch", "tests") for file in (ROOT / room).rglob("*.py")
    ]
    known = set(re.findall(r"\w+", "\n".join(sources)))
    pattern = re.compile(r"`([A-Z][a-z]\w+(?:\.\w+)*)(?:\(\))?`")
    mentioned = {
        (page.name, name)
        for page in PAGES
        if page.parent.name == "internals"
        for name in pattern.findall(page.read_text("utf-8"))
    }
    missing = [f"{page}: {name}" for page, name in sorted(mentioned) if not known.issuperset(name.split("."))]
    assert len(mentioned) > 30
    assert missing == []
