"""What the last sweep found, stored in one row so that every process can answer `/api/health` with it."""

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from gpulaunch.models.base import Stored, UtcTime
from shared.errors import StoreError
from shared.storage.base import InstanceStore, Marker

log = logging.getLogger("gpulaunch.sweep")

STATUS = "sweep-status"
"""Kind of the marker; its key is `last`."""
REWRITTEN = timedelta(minutes=1)
"""How old a stored status without news may become; `/api/health` calls sweeps late after five minutes."""
_NEVER = datetime.min.replace(tzinfo=UTC)
_SHOWN = 20
"""Unreadable rows named in the status, at most; their number is exact."""


class TaskStatus(Stored):
    """How a task's last runs ended."""

    ended_at: UtcTime | None = None
    """When it last ended well."""
    failed_at: UtcTime | None = None
    """When it last failed; not shown once it has ended well again."""
    error: str = ""

    @property
    def changed_at(self) -> datetime:
        """When it last ended, well or not."""
        return max((at for at in (self.ended_at, self.failed_at) if at is not None), default=_NEVER)


class UnreadableRow(Stored):
    instance_id: str
    why: str


class SweepStatus(Stored):
    """The state of the sweep after its last run."""

    ended_at: UtcTime
    live: int
    ready: int = 0
    unreadable_count: int = 0
    unreadable: tuple[UnreadableRow, ...] = ()
    tasks: dict[str, TaskStatus] = {}

    @property
    def news(self) -> tuple[object, ...]:
        """What is worth a write of its own."""
        return (self.unreadable, {name: task.error for name, task in self.failing.items()})

    @property
    def failing(self) -> dict[str, TaskStatus]:
        return {name: task for name, task in self.tasks.items() if task.error}


@dataclass
class SweepStatusStore:
    """Reads and writes the status; a sweep without news costs half a write."""

    store: InstanceStore
    _written: SweepStatus | None = field(default=None, init=False)
    _latest: SweepStatus | None = field(default=None, init=False)
    """Of this process's last sweep, stored or not."""

    def read(self) -> SweepStatus | None:
        """The status of the last sweep; None: no sweep has ended yet, or its status cannot be read.

        Raises:
            StoreUnavailableError: Storage did not answer.
        """
        for marker in self.store.markers(STATUS):
            try:
                return SweepStatus.model_validate_json(marker.text)
            except ValidationError:
                log.warning("the stored status of the sweep cannot be read; the next sweep replaces it")
        return None

    def last(self, *, fresh: bool) -> SweepStatus | None:
        """The status of this process's last sweep, with what others have stored since where it has to be `fresh`.

        What is stored alone would not do: of two sweeps a minute one is stored, and some tasks end in the other only.

        Raises:
            StoreUnavailableError: Storage did not answer.
        """
        latest = self._latest
        if latest is not None and not fresh:
            return latest
        stored = self.read()
        if stored is None or latest is None:
            return stored or latest
        pairs = [*stored.tasks.items(), *latest.tasks.items()]
        # Of two that are equally new the latter counts, so the newest is the last one.
        return latest.model_copy(update={"tasks": dict(sorted(pairs, key=lambda pair: pair[1].changed_at))})

    def write(self, status: SweepStatus) -> None:
        """Store the status if it is news, or once a minute; what storage refuses is logged and given up."""
        before, self._latest = self._written, status
        if before is not None and status.news == before.news and status.ended_at - before.ended_at < REWRITTEN:
            return
        shown = status.model_copy(update={"unreadable": status.unreadable[:_SHOWN]})
        text = shown.model_dump_json()
        try:
            self.store.put_marker(Marker(kind=STATUS, key="last", at=status.ended_at, text=text))
        except StoreError as error:
            log.warning("the status of the sweep is not stored: %s", error)
        else:
            self._written = status


def after(before: SweepStatus | None, now: datetime, errors: dict[str, str]) -> dict[str, TaskStatus]:
    """The tasks' states after a run; `errors`: what went wrong by task that was due, empty where it ended well."""
    known = {} if before is None else before.tasks
    return {**known} | {
        name: (
            known.get(name, TaskStatus()).model_copy(update={"failed_at": now, "error": error})
            if error
            else TaskStatus(ended_at=now)
        )
        for name, error in errors.items()
    }
