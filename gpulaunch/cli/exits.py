"""Exit codes of the command, and the error behind each; docs/cli.md has the same table."""

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


_EXITS: dict[type[ClientError], Exit] = {
    ConfigError: Exit.USAGE,
    AddressError: Exit.USAGE,
    InvalidRequestError: Exit.USAGE,
    NotFoundError: Exit.NOT_FOUND,
    AccessError: Exit.REFUSED,
    LimitError: Exit.REFUSED,
    EndedError: Exit.ENDED,
    ConflictError: Exit.CONFLICT,
    UnavailableError: Exit.UNAVAILABLE,
    NoAnswerError: Exit.UNAVAILABLE,
    ConnectionSetupError: Exit.SETUP,
    WaitTimeoutError: Exit.TIMEOUT,
}


def exit_of(error: ClientError) -> Exit:
    return _EXITS.get(type(error), Exit.ERROR)
