"""Timer triggers: one run at a time, missed ticks collapse into one, a failure does not stop the schedule."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from azure.functions.timer import TimerRequest

from devhost.app import Invoker, TimerFunction

log = logging.getLogger("devhost.timer")


class TimerListener:
    def __init__(
        self,
        function: TimerFunction,
        invoker: Invoker,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._function = function
        self._invoker = invoker
        self._clock = clock
        self._sleep = sleep

    async def run(self) -> None:
        """Fire until cancelled; a run that is under way goes on in its thread."""
        following = self._following(self._clock())
        while True:
            # After an overrun `following` lies in the past: one run at once, whatever else was missed.
            while (wait := following - self._clock()) > 0:
                await self._sleep(wait)
            due = max(self._clock(), following)
            await self._invoke()
            following = self._following(due)

    def _following(self, now: float) -> float:
        """Return the first occurrence after a time; Unix time has full minutes and midnights at its multiples."""
        every, offset = self._function.seconds, self._function.offset
        return ((now - offset) // every + 1) * every + offset

    async def _invoke(self) -> None:
        # The host keeps no status for what occurs more than once a minute: such a timer is never past due.
        try:
            await self._invoker(self._function, TimerRequest(past_due=False))
        except Exception:
            log.exception("timer '%s' failed; the schedule goes on", self._function.name)
        else:
            log.info("timer '%s' ran", self._function.name)
