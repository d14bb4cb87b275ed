"""Which overdue steps are sent again: a backlog is not a loss. Pure.

A message that is sent again while it still waits for its turn makes the backlog longer, and the next one is sent again
sooner.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from gpulaunch.models.instances import Phase
from shared.domain.instance import InstanceRecord

GRACE = timedelta(seconds=20)
"""How late a step may be before it is sent again: polling and a busy queue cost seconds, a lost message never comes."""
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=25), timedelta(minutes=5)
"""Between two messages of one step: the first comes with the next sweep, and so do some after it, since several may be
lost; from then on it doubles each time, for what fails again and again."""
_AT_ONCE = 4
_REMEMBERED = 2 * LONGEST_PAUSE
"""For how long what was sent is remembered while its record is not seen: one that cannot be read for a moment is back
before."""


@dataclass(frozen=True, kw_only=True)
class Resent:
    """What was sent again of one due step."""

    due_at: datetime
    at: datetime
    """When it was last sent."""
    count: int

    @property
    def pause(self) -> timedelta:
        return min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(max(0, self.count - _AT_ONCE), 10))


def is_overdue(record: InstanceRecord, now: datetime) -> bool:
    """Whether a record's next step is late enough to be sent again, if it is lost."""
    if record.due_at is None:
        return False
    # Only the sweep enforces a ready instance's deadline and idle time: no message is on its way that would.
    grace = timedelta(0) if record.phase is Phase.READY else GRACE
    return record.due_at + grace <= now


def is_lost(record: InstanceRecord, resent: Resent | None, waiting_since: datetime | None, now: datetime) -> bool:
    """Whether no message of a record's overdue step is in its queue.

    `waiting_since`: when the oldest message that waits there was sent; None: none waits. Queues are read about in
    order, so whatever became visible well before that has been taken out.
    """
    if resent is None and record.phase is Phase.READY:
        return True
    if resent is not None and now < resent.at + resent.pause:
        return False
    visible_at = record.due_at if resent is None else resent.at
    return visible_at is not None and (waiting_since is None or visible_at + GRACE < waiting_since)


def sent_again(due_at: datetime, resent: Resent | None, now: datetime) -> Resent:
    """What to remember of a message that is sent now."""
    return Resent(due_at=due_at, at=now, count=1 if resent is None else resent.count + 1)


def unanswered(due_at: datetime, resent: Resent | None, now: datetime) -> Resent:
    """What to remember of a message that storage may have taken: its turn is waited for, and no pause grows by it."""
    return Resent(due_at=due_at, at=now, count=0 if resent is None else resent.count)


def counts_still(resent: Resent, due: Mapping[str, datetime | None], instance_id: str, now: datetime) -> bool:
    """Whether what was sent of a step says something about the present one; `due`: of the records that were seen."""
    if instance_id in due:
        return due[instance_id] == resent.due_at
    return now < resent.at + _REMEMBERED
