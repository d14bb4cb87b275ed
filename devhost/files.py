"""Small secrets that are made once and kept in a file."""

import os
from collections.abc import Callable
from pathlib import Path


def kept(path: Path, made_up: Callable[[], str]) -> str:
    """Return the text in the file, which only its owner can read; where there is none, one is made up and kept.

    The file is there whole or not at all, so that a full disk or a kill leaves no half of a secret.

    Raises:
        OSError: It can't be read or written.
    """
    if path.exists() and (text := path.read_text("ascii").strip()):
        path.chmod(0o600)
        return text
    text = made_up()
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
            file.write(text + "\n")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return text
