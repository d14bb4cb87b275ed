"""Requests and answers of the stand-in, as they are on the wire."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Call:
    service: str = "table"
    """Which of the account's services, by its address: `table` or `queue`."""
    method: str
    path: str
    """Below the account, unquoted: `table(PartitionKey='a',RowKey='b')`, `queue/messages`."""
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Names in lower case."""
    body: bytes = b""
    operations: tuple["Call", ...] = ()
    """Of a transaction that was not packed into its body."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    status: int
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    content_type: str = ""
    parts: tuple["Reply", ...] = ()
    """Of the answer to a transaction that was not packed."""


class RefusedError(Exception):
    """A request that the service refuses, with its own code."""

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(message or code)
        self.status = status
        self.code = code
