"""Exit codes of the command, and the error behind each; docs/cli.md has the same table."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from gpulaunch.client.errors import (
    AccessError,
    AddressError,
    ClientError,
    ConflictError,
    ConnectionSetupError,
    EndedError,
    InvalidRequestError,
    LimitError,
    NoAnswerError,
    NotFoundError,
    UnavailableError,
    WaitTimeoutError,
)


class Exit(IntEnum):
    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    ENDED = 5
    CONFLICT = 6
    UNAVAILABLE = 7
    TIMEOUT = 8
    SETUP = 9
    INTERRUPTED = 130


class ConfigError(ClientError):
    """The configuration file cannot be used."""

    code = "config"


class DeletingError(ClientError):
    """An endpoint is being deleted, so that none of its name can be made yet."""

    code = "endpoint_deleting"


@dataclass(frozen=True)
class FileMistake:
    """Something wrong in a file."""

    line: int | None
    """Where it stands, from 1; None: nowhere in particular."""
    field: str
    """Dotted path of the field; empty if the file cannot be read as far as that."""
    message: str
    nearest: tuple[str, ...] = ()
    """The nearest valid values."""


class FileError(ClientError):
    """A file that was given cannot be used; the message has a line for each mistake."""

    code = "invalid_file"

    def __init__(self, path: str, mistakes: Sequence[FileMistake]) -> None:
        self.path, self.mistakes = path, tuple(mistakes)
        super().__init__("\n".join(self._line(one) for one in mistakes))

    def _line(self, mistake: FileMistake) -> str:
        where = self.path if mistake.line is None else f"{self.path}:{mistake.line}"
        nearest = f" Nearest: {', '.join(mistake.nearest)}." if mistake.nearest else ""
        message = f"{mistake.message.removesuffix('.')}.{nearest}"
        return ": ".join(filter(None, (where, mistake.field, message)))


_EXITS: dict[type[ClientError], Exit] = {
    ConfigError: Exit.USAGE,
    FileError: Exit.USAGE,
    AddressError: Exit.USAGE,
    InvalidRequestError: Exit.USAGE,
    NotFoundError: Exit.NOT_FOUND,
    AccessError: Exit.REFUSED,
    LimitError: Exit.REFUSED,
    EndedError: Exit.ENDED,
    ConflictError: Exit.CONFLICT,
    DeletingError: Exit.CONFLICT,
    UnavailableError: Exit.UNAVAILABLE,
    NoAnswerError: Exit.UNAVAILABLE,
    ConnectionSetupError: Exit.SETUP,
    WaitTimeoutError: Exit.TIMEOUT,
}


def exit_of(error: ClientError) -> Exit:
    return _EXITS.get(type(error), Exit.ERROR)
