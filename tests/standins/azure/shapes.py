"""What the resource manager's parts share: replies, errors in Azure's own shape, faults by script, things it holds."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Body = dict[str, Any]


@dataclass
class Reply:
    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Call:
    method: str
    path: str
    query: Body
    headers: Body
    body: Body
    base: str
    """Scheme, host and port that the caller used."""

    @property
    def parts(self) -> list[str]:
        return [part for part in self.path.split("/") if part]


class RefusedError(Exception):
    """An answer that is an error, `{"error": {"code", "message"}}`."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})

    @property
    def reply(self) -> Reply:
        return Reply(self.status, {"error": {"code": self.code, "message": self.message}}, self.headers)


@dataclass
class Fault:
    """Something that goes wrong for calls whose method and path match, so many times."""

    method: str
    path: str
    """A regular expression searched in the path, without regard to case."""
    status: int
    code: str
    message: str = "Something went wrong."
    times: int = 1
    retry_after: int | None = None
    late: bool = False
    """The call is taken, and the long-running operation fails instead."""
    when: Callable[[Body], bool] = lambda _: True
    """What the body has to be."""

    def hits(self, method: str, path: str, body: Body) -> bool:
        """Whether it is this call's turn to fail."""
        matches = self.method in ("*", method) and re.search(self.path, path, re.IGNORECASE) is not None
        return self.times > 0 and matches and self.when(body)

    @property
    def error(self) -> RefusedError:
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return RefusedError(self.status, self.code, self.message, headers)


@dataclass
class Group:
    name: str
    location: str
    tags: dict[str, str]
    state: str = "Succeeded"


@dataclass
class Resource:
    group: str
    namespace: str
    kind: str
    name: str
    location: str
    created_at: datetime
    tags: dict[str, str] = field(default_factory=dict[str, str])
    properties: Body = field(default_factory=Body)
    more: Body = field(default_factory=Body)
    """What else stands beside `properties`: sku, identity, zones."""
    statuses: list[Body] = field(default_factory=list[Body])
    """Of a machine's instance view."""

    @property
    def type(self) -> str:
        return f"{self.namespace}/{self.kind}"

    def id_in(self, subscription: str, *, shouting: bool = False) -> str:
        """The resource's id; listings of status spell the group in capitals, as Azure does."""
        group = self.group.upper() if shouting else self.group
        return f"/subscriptions/{subscription}/resourceGroups/{group}/providers/{self.type}/{self.name}"


@dataclass
class Operation:
    done_at: datetime
    finish: Callable[[], None]
    error: RefusedError | None = None
    finished: bool = False


def stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")
