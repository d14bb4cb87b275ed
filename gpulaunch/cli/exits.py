"""Exit codes of the command, and the error behind each; docs/cli.md has the same table."""

from enum import IntEnum

from gpulaunch.client.errors import (
    AccessError,
    AddressError,
    ApiError,
    ClientError,
    ConflictError,
    EndedError,
    InvalidRequestError,
    LimitError,
    NoAnswerError,
    NotFoundError,
    UnavailableError,
    WaitTimeoutError,
)


class Exit(IntEnum):
    """The command's exit codes."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    ENDED = 5
    CONFLICT = 6
    UNAVAILABLE = 7
    TIMEOUT = 8
    INTERRUPTED = 130


class ConfigError(ClientError):
    """The configuration file cannot be used."""


_KINDS: dict[type[ClientError], tuple[Exit, str]] = {
    ConfigError: (Exit.USAGE, "config"),
    AddressError: (Exit.USAGE, "address"),
    InvalidRequestError: (Exit.USAGE, "invalid_request"),
    NotFoundError: (Exit.NOT_FOUND, "not_found"),
    AccessError: (Exit.REFUSED, "access"),
    LimitError: (Exit.REFUSED, "limit"),
    EndedError: (Exit.ENDED, "instance_ended"),
    ConflictError: (Exit.CONFLICT, "conflict"),
    UnavailableError: (Exit.UNAVAILABLE, "unavailable"),
    NoAnswerError: (Exit.UNAVAILABLE, "no_answer"),
    WaitTimeoutError: (Exit.TIMEOUT, "timeout"),
}


def exit_of(error: ClientError) -> Exit:
    """The exit code of an error."""
    return _KINDS.get(type(error), (Exit.ERROR, ""))[0]


def code_of(error: ClientError) -> str:
    """A stable code for an error: the app's own, if it sent one."""
    return error.code if isinstance(error, ApiError) else _KINDS.get(type(error), (Exit.ERROR, "error"))[1]
