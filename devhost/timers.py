"""Timer triggers: one run at a time, missed ticks collapse into one, a failure does not stop the schedule."""

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from azure.functions.timer import TimerRequest

from devhost.app import TimerFunction
from devhost.config import HostError
from devhost.invoke import Invoker

log = logging.getLogger("devhost.timer")

Clock = Callable[[], datetime]
Sleep = Callable[[float], Awaitable[object]]

# asyncio's own sleep is exact over any length; a machine's is not, so long waits are looked at again every hour.
_LONGEST_SLEEP = 3600.0


def zone(settings: Mapping[str, str]) -> tzinfo:
    """The schedules' time zone: WEBSITE_TIME_ZONE, else UTC, as in Azure and unlike the machine's own."""
    name = settings.get("WEBSITE_TIME_ZONE")
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise HostError(f"the time zone {name!r} is unknown") from error


class StateFile:
    """Where the next occurrence of each timer is kept, so that one missed while the host was down is noticed.

    Stands for the blobs of the real host. Without a path nothing is kept, and nothing is ever past due.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._content: dict[str, dict[str, str]] = {}
        if path is not None and path.exists():
            try:
                self._content = json.loads(path.read_text("utf-8"))
            except ValueError:
                log.warning("%s cannot be read; timers start afresh", path)

    def next(self, function: TimerFunction) -> datetime | None:
        """The stored next occurrence; None if there is none, or it belongs to another schedule."""
        entry = self._content.get(function.name, {})
        return datetime.fromisoformat(entry["next"]) if entry.get("schedule") == function.expression else None

    def store(self, function: TimerFunction, following: datetime) -> None:
        if self._path is None:
            return
        self._content[function.name] = {"schedule": function.expression, "next": following.isoformat()}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(self._content, indent=1), "utf-8")
        os.replace(fresh, self._path)  # noqa: PTH105 - replace, in one step


class TimerListener:
    def __init__(
        self, function: TimerFunction, invoker: Invoker, state: StateFile, clock: Clock, sleep: Sleep = asyncio.sleep
    ) -> None:
        self._function = function
        self._invoker = invoker
        self._state = state
        self._clock = clock
        self._sleep = sleep
        self._last: datetime | None = None
        self._run: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Fire for ever; cancelling stops the schedule, `drain` waits for a run that is under way."""
        function, now = self._function, self._clock()
        stored = self._state.next(function) if function.use_monitor else None
        following = stored or function.following(now)
        past_due = stored is not None and stored < now
        if stored is None and function.use_monitor:
            self._state.store(function, following)
        if past_due or function.run_on_startup:
            following = await self._fire(now, following, past_due=past_due, scheduled=False)
        while True:
            # An overrun leaves an occurrence in the past: it fires once at once, whatever was missed besides.
            while (wait := (following - self._clock()).total_seconds()) > 0:
                await self._sleep(min(wait, _LONGEST_SLEEP))
            following = await self._fire(self._clock(), following, past_due=False, scheduled=True)

    async def drain(self, seconds: float) -> None:
        if self._run is not None and not self._run.done():
            await asyncio.wait({self._run}, timeout=seconds)

    async def _fire(self, now: datetime, due: datetime, *, past_due: bool, scheduled: bool) -> datetime:
        self._run = asyncio.create_task(self._invoke(due, past_due=past_due))
        # Stopping the schedule must not stop a function in the middle.
        await asyncio.shield(self._run)
        self._last = max(now, due) if scheduled else now
        following = self._function.following(self._last)
        if self._function.use_monitor:
            self._state.store(self._function, following)
        return following

    async def _invoke(self, due: datetime, *, past_due: bool) -> None:
        last = self._last.isoformat() if self._last else "0001-01-01T00:00:00+00:00"
        status: dict[str, Any] = {"Last": last, "Next": due.isoformat(), "LastUpdated": last}
        request = TimerRequest(
            past_due=past_due,
            schedule_status=status if self._function.use_monitor else None,
            schedule={"AdjustForDST": True},
        )
        try:
            await self._invoker(self._function, request)
        except Exception:
            log.exception("timer '%s' failed; the schedule goes on", self._function.name)
        else:
            log.info("timer '%s' ran%s", self._function.name, " (past due)" if past_due else "")
