"""Messages, docstrings, comments, pages and documentation avoid phrases of translated English (see CONTRIBUTING)."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
AVOIDED = {
    r"(?<!there )\b(?:is|are) no (?!longer\b|more\b|different\b|such\b)": "not valid, not a …, none of these",
    r"(?<!there )\b(?:is|are) (?-i:none)\b": "not valid, not a …",
    r"\bone's\b": "your, its, a separate …",
    r"\b(?:is|are|was|were|being) told\b": "reported, sent, announced, notified",
    r"\bstruck\b": "excluded",
    r"(?:'s|\bits|\btheir|\bthe) books\b": "SkyPilot's cluster records",
    r"\b(?:take|takes|taken|taking|took)(?: \S+){0,3} away\b": "delete, release",
    r"\b(?:go|goes|going|went|gone) away\b": "shut down, disappear",
    r"\b(?:is|are|be|been|was|confirmed) gone\b": "deleted, removed",
    r"\b(?:make|makes|made|making) good\b": "reconcile, recover",
    r"\bsay (?:gpu|azure|instance_type|region|provider|--)": "set, use",
    r"\bnobody\b": "no …, not …, without …",
    r"\blook(?:s|ed|ing)? (?:at|after|again)\b": "observe, read, poll, describe",
    r"\bdear(?:er|est)\b": "more expensive, most expensive",
    r"\ball the same\b": "anyway, still",
    r"\bown word\b": "report, answer",
}
"""Phrases, and what to write instead."""
PROGRAM = ("gateway", "gpulaunch", "shared", "functions", "deploy", "devhost", "infra")


def _files() -> Iterator[Path]:
    yield from ROOT.glob("*.md")
    yield from (ROOT / "docs").rglob("*.md")
    yield ROOT / "function_app.py"
    for folder in PROGRAM:
        for pattern in ("*.py", "*.html", "*.bicep", "*.kql", "*.sh"):
            yield from (ROOT / folder).rglob(pattern)


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    """The paragraphs of a file, or its strings and comments if it is Python, each with the line where it starts."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type in (tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)):
                yield token.start[0], token.string
        return
    line = 1
    for block in text.split("\n\n"):
        yield line, block
        line += block.count("\n") + 2


def _found(path: Path) -> Iterator[str]:
    for line, text in _texts(path):
        flat = " ".join(text.split())
        for pattern, instead in AVOIDED.items():
            for match in re.finditer(pattern, flat, re.IGNORECASE):
                yield f"{path.relative_to(ROOT)}:{line}: {match[0]!r}; write: {instead}"


FILES = sorted(set(_files()))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_language_should_be_plain(path: Path) -> None:
    assert not (found := list(_found(path))), "\n".join(found)
