"""Names and contents of a model's files: what is a safe place for them, and whether they are what they should be."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    part_bytes: int | None = None
    """Of a file that S3 got in parts: the digest is the MD5 of the parts' own, followed by `-` and their number."""

    @classmethod
    def of(cls, file: Mapping[str, Any]) -> Checksum | None:
        """The checksum of an assignment's file, if its source has one."""
        given, parts = file.get("checksum"), file.get("parts")
        if given is not None:
            return cls(given["algorithm"], given["digest"].lower())
        return None if parts is None else cls("md5", parts["digest"].lower(), parts["part_bytes"])

    def matches(self, path: Path) -> bool:
        """Whether the file has it; reads the whole file, at 0.5 to 2 GB/s from the cache of one just written."""
        if self.part_bytes is not None:
            return self._of_parts(path, self.part_bytes) == self.digest
        # git and MD5 are what sources have; they show a damaged file, which is all that is asked of them here.
        git = self.algorithm == "git"
        made = hashlib.new("sha1" if git else self.algorithm, usedforsecurity=False)
        if git:
            made.update(f"blob {path.stat().st_size}\0".encode())
        with path.open("rb", buffering=0) as file:
            while block := file.read(MIB):
                made.update(block)
        return made.hexdigest() == self.digest

    @staticmethod
    def _of_parts(path: Path, part_bytes: int) -> str:
        whole, count = hashlib.new("md5", usedforsecurity=False), 0
        with path.open("rb", buffering=0) as file:
            left = path.stat().st_size
            while left > 0:
                part, length = hashlib.new("md5", usedforsecurity=False), min(part_bytes, left)
                left, count = left - length, count + 1
                while length and (block := file.read(min(MIB, length))):
                    part.update(block)
                    length -= len(block)
                whole.update(part.digest())
        return f"{whole.hexdigest()}-{count}"
