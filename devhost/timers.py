"""Timer triggers: one run at a time, missed ticks collapse into one, a failure does not stop the schedule."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from azure.functions.timer import TimerRequest
from croniter import CroniterError, croniter

if TYPE_CHECKING:
    from devhost.app import TimerFunction
    from devhost.invoke import Invoker

log = logging.getLogger("devhost.timer")

Clock = Callable[[], datetime]
Sleep = Callable[[float], Awaitable[object]]


class Schedule:
    """A six-field NCRONTAB expression, in UTC.

    Raises:
        ValueError: the expression cannot be read, or never occurs.
    """

    def __init__(self, expression: str) -> None:
        # croniter would take five fields, seven, names and L as well; the app needs numbers only.
        if len(expression.split()) != 6 or not set(expression) <= set("0123456789*/,- "):
            raise ValueError(f"{expression!r} is not a cron expression of six numeric fields")
        self._expression = expression
        try:
            self.following(datetime.now(UTC))
        except CroniterError as error:
            raise ValueError(f"{expression!r} is not a valid schedule: {error}") from error

    def following(self, now: datetime) -> datetime:
        """Return the first occurrence after a time."""
        # Unlike Unix cron, NCRONTAB wants day of month and day of week both to match.
        return croniter(self._expression, now, second_at_beginning=True, day_or=False).get_next(datetime)


class TimerListener:
    def __init__(
        self,
        function: "TimerFunction",
        invoker: "Invoker",
        clock: Clock = lambda: datetime.now(UTC),
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._function = function
        self._invoker = invoker
        self._clock = clock
        self._sleep = sleep
        self._run: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Fire for ever; cancelling stops the schedule, `drain` waits for a run that is under way."""
        schedule = self._function.schedule
        following = schedule.following(self._clock())
        while True:
            # After an overrun `following` lies in the past: one run at once, whatever else was missed.
            while (wait := (following - self._clock()).total_seconds()) > 0:
                await self._sleep(wait)
            due = max(self._clock(), following)
            self._run = asyncio.create_task(self._invoke())
            # Stopping the schedule must not stop a function in the middle.
            await asyncio.shield(self._run)
            following = schedule.following(due)

    async def drain(self, seconds: float) -> None:
        if self._run is not None and not self._run.done():
            await asyncio.wait({self._run}, timeout=seconds)

    async def _invoke(self) -> None:
        # The host keeps no status for what occurs more than once a minute: such a timer is never past due.
        try:
            await self._invoker(self._function, TimerRequest(past_due=False))
        except Exception:
            log.exception("timer '%s' failed; the schedule goes on", self._function.name)
        else:
            log.info("timer '%s' ran", self._function.name)
