"""The commands of Azure's two command lines, `az` and `azd`, that the project tells people to run."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.unit.infra.templates import ROOT

_BEGIN = re.compile(r"(?<![\w./-])(?:az|azd) (?=[a-z])")
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_QUOTED = re.compile(r"`([^`\n]+)`|\$\((azd? [^)]+)\)")
_PLACEHOLDER = re.compile(r"<[a-z][a-z ]*>")
_ENDS = "|;&<>()`\n"
X = "x"
"""Stands for what only the person at the terminal knows."""


@dataclass(frozen=True)
class Command:
    """A command as it is written somewhere."""

    place: str
    words: tuple[str, ...]
    whole: bool
    """Whether it is there to be run as it stands; prose may leave out what a call needs besides."""

    def __str__(self) -> str:
        return f"{self.place}: {' '.join(self.words)}"


def written() -> list[Command]:
    """Every command of the documentation, of the scripts that Azure runs, and of what `deploy` prints."""
    pages = [*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md"))]
    found = [one for path in pages for one in of_page(_name(path), path.read_text("utf-8"))]
    for path in sorted([*(ROOT / "infra").rglob("*.sh"), *(ROOT / ".github").rglob("*.yml")]):
        found += of_script(_name(path), path.read_text("utf-8"))
    for path in sorted((ROOT / "deploy").glob("*.py")):
        found += of_program(_name(path), path.read_text("utf-8"))
    return found


def of_page(place: str, text: str) -> list[Command]:
    """Those of a page in Markdown: in its blocks, and between backticks."""
    blocks = [found[2] for found in _FENCE.finditer(text) if found[1] in ("bash", "sh", "")]
    spans = _SPAN.findall(_FENCE.sub("", text))
    return [
        *[one for block in blocks for one in of_script(place, block)],
        *[Command(place, words, whole=False) for span in spans for words in _commands(span)],
    ]


def of_script(place: str, text: str) -> list[Command]:
    """Those of a shell script, without its comments."""
    code = re.sub(r"^ *#.*$", "", text, flags=re.MULTILINE)
    return [Command(place, words, whole=True) for words in _commands(code)]


def of_program(place: str, text: str) -> list[Command]:
    """Those in the texts of a Python program; a text that begins with one is run as it stands."""
    tree = ast.parse(text)
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    found: list[Command] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            literal = "".join(str(one.value) if isinstance(one, ast.Constant) else X for one in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            literal = node.value
        else:
            continue
        if _BEGIN.match(literal):
            found += [Command(place, words, whole=True) for words in _commands(literal)]
        else:
            quoted = ["".join(groups) for groups in _QUOTED.findall(literal)]
            found += [Command(place, words, whole=False) for one in quoted for words in _commands(one)]
    return found


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _commands(text: str) -> Iterator[tuple[str, ...]]:
    text = _PLACEHOLDER.sub(X, re.sub(r"\\\n\s*", " ", text))
    for found in _BEGIN.finditer(text):
        words = [*_words(text, found.start())]
        line = text[text.rfind("\n", 0, found.start()) + 1 : found.start()]
        # `… | xargs az … --ids` gets what comes through the pipe.
        yield (*words, X) if re.search(r"\bxargs\b[^|]*$", line) else tuple(words)


def _words(text: str, at: int) -> Iterator[str]:
    """Split as a shell does, from a place on, to where the command ends."""
    word = before = ""
    while at < len(text) and text[at] not in _ENDS:
        if text[at] == " ":
            if word:
                yield word
            before = word or before
            if text[at : at + 2] == " #":
                return
            word, at = "", at + 1
        elif text[at] == "…":  # a value that is left out, or the rest of the command
            word, at = X if before.startswith("-") and not word else word, at + 1
        else:
            end = _end(text, at)
            piece = text[at:end]
            if piece[0] == "'":
                piece = piece[1:-1]
            elif piece[0] == '"':
                piece = re.sub(r'\\(["$`\\])', r"\1", piece[1:-1])
            word, at = word + piece, end
    if word:
        yield word


def _end(text: str, at: int) -> int:
    """Where the piece ends that begins here: a quotation, `$(…)`, or one character."""
    if text[at] == "'":
        return text.index("'", at + 1) + 1
    if text[at] == '"' or text.startswith("$(", at):
        close, at = ('"', at + 1) if text[at] == '"' else (")", at + 2)
        while text[at] != close:
            at = at + 2 if text[at] == "\\" else _end(text, at) if close == ")" or text[at] == "$" else at + 1
        return at + 1
    return at + 1
