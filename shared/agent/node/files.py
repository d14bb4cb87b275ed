"""Names and contents of a model's files: what is a safe place for them, and whether they are what they should be."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.agent.node.errors import FetchError
from shared.agent.node.transport import MIB


def safe_target(folder: Path, path: str) -> Path:
    """Where a file of the model is stored.

    Raises:
        FetchError: That would be outside the model's folder, or is not a name for a file.
    """
    parts = path.split("/")
    odd = "\\" in path or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in path)
    if odd or any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts):
        raise FetchError(f"refused a file that would leave the model's folder: {path!r}")
    return folder.joinpath(*parts)


@dataclass(frozen=True)
class Checksum:
    """What a file's content must hash to."""

    algorithm: str
    """`sha256`, `sha1`, `md5`, or `git`: the SHA-1 by which git names a content."""
    digest: str

    @classmethod
    def of(cls, given: Mapping[str, str] | None) -> Checksum | None:
        return None if given is None else cls(given["algorithm"], given["digest"].lower())

    def matches(self, path: Path) -> bool:
        """Whether the file has it; reads the whole file, at 0.5 to 2 GB/s from the cache of one just written."""
        # git and MD5 are what sources have; they show a damaged file, which is all that is asked of them here.
        git = self.algorithm == "git"
        made = hashlib.new("sha1" if git else self.algorithm, usedforsecurity=False)
        if git:
            made.update(f"blob {path.stat().st_size}\0".encode())
        with path.open("rb", buffering=0) as file:
            while block := file.read(MIB):
                made.update(block)
        return made.hexdigest() == self.digest
