"""What a sweep task is: one file per task, each isolated from the others."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar

from gpulaunch.models.instances import Phase
from shared.errors import StoreUnavailableError
from shared.storage.base import Unreadable, Versioned

log = logging.getLogger("gpulaunch.sweep")
T = TypeVar("T")

ALERT_EVERY = timedelta(hours=4)
"""Between two alerts about nodes that still wait for a person."""
_NAMED = 10
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Walk:
    """What the walk over the live rows came by."""

    live: int = 0
    ready: int = 0
    unreadable: list[Unreadable] = field(default_factory=list[Unreadable])
    complete: bool = True
    """False: it broke off, so nothing may be concluded from records that were not seen."""

    def count(self, found: Versioned | Unreadable) -> None:
        self.live += 1
        if isinstance(found, Unreadable):
            self.unreadable.append(found)
        elif found.record.phase is Phase.READY:
            self.ready += 1


class TaskRun(ABC):
    """One run of a task. Whatever it raises ends this run, or skips this record, and nothing else."""

    def see(self, found: Versioned) -> None:  # noqa: B027 - most tasks have no use for the single records
        pass

    @abstractmethod
    def finish(self, walk: Walk) -> int:
        """Do what the whole walk was needed for; return how many things were done."""


class SweepTask(Protocol):
    @property
    def name(self) -> str: ...

    def begin(self, now: datetime) -> TaskRun | None:
        """Start a run, before the walk; None: the task is not due in this sweep."""
        ...


def each(items: Iterable[T], act: Callable[[T], bool], name: Callable[[T], str]) -> int:
    """Do something with every item; how many were done. One that fails does not end the others.

    Raises:
        Exception: What the last one that failed has raised, after all had their turn; at once when storage is away.
    """
    done = 0
    failed: Exception | None = None
    for item in items:
        try:
            done += act(item)
        except StoreUnavailableError:
            raise
        except Exception as error:
            log.exception("%s is left to the next sweep", name(item))
            failed = error
    if failed is not None:
        raise failed
    return done


def named(names: Sequence[str]) -> str:
    """Names for an alert; of many the first ten, and how many more."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


@dataclass
class Cadence:
    """When work is due that not every sweep does: once in each stretch of time, counted from the full hour.

    What this process took last decides, not the clock alone: ticks come a millisecond early, and sweeps that take long
    skip some.
    """

    every: timedelta
    _last: int | None = field(default=None, init=False)
    """The stretch of the last sweep."""

    def take(self, now: datetime) -> bool:
        """Whether this is the first sweep of its stretch; of a new process only one within its first half minute."""
        stretch, into = divmod(now - _EPOCH, self.every)
        last, self._last = self._last, stretch
        return into < timedelta(seconds=30) if last is None else stretch > last
