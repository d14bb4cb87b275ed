"""The lease on the timers: one host of a storage account runs them at a time, as by the blob lease of the real one.

A host that stops gives it back; one that is killed leaves it behind, and until it has run out no timer ticks anywhere.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableClient

log = logging.getLogger("devhost.timer")

TABLE = "devhosttimers"
TIMER_SHARE = 10
"""The real host leases messages for ten minutes, and its timers for one."""
_KEYS = {"PartitionKey": "timers", "RowKey": "lease"}


def lease_table(settings: Mapping[str, str]) -> TableClient:
    """Open the lease's table; `devhost.queues.service_client` has found the setting to be a connection string."""
    return TableClient.from_connection_string(settings["AzureWebJobsStorage"], TABLE, retry_total=0)


class TimerLease:
    """A row with its holder and until when; whoever writes it does so over the version that was read."""

    def __init__(
        self,
        table: TableClient,
        seconds: float,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._table: Any = table  # the SDK gives its methods' options no types
        self._seconds = seconds
        self._clock, self._sleep = clock, sleep
        self._holder = uuid.uuid4().hex

    async def hold(self, timers: Callable[[], Awaitable[None]]) -> None:
        """Run the timers whenever and as long as the lease is held, until cancelled."""
        while True:
            while not await self.take():
                await self._sleep(self._seconds / 4)
            log.info("this host has the lease on the timers")
            running = asyncio.ensure_future(timers())
            try:
                # Storage that is away for a moment costs nothing: a renewal comes well before the end.
                held_until = self._clock() + self._seconds
                while self._clock() < held_until:
                    await self._sleep(self._seconds / 4)
                    if await self.take():
                        held_until = self._clock() + self._seconds
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

    async def take(self) -> bool:
        """Take or renew the lease; whether this host has it now. Storage that cannot be reached gives it to no one."""
        row = {**_KEYS, "holder": self._holder, "until": self._clock() + self._seconds}
        try:
            try:
                found = await self._table.get_entity("timers", "lease")
            except ResourceNotFoundError:
                with suppress(ResourceExistsError):
                    await self._table.create_table()
                await self._table.create_entity(row)
                return True
            if found["holder"] != self._holder and found["until"] > self._clock():
                return False
            await self._table.update_entity(
                row, UpdateMode.REPLACE, etag=found.metadata["etag"], match_condition=MatchConditions.IfNotModified
            )
        except HttpResponseError:
            # Another host was first.
            return False
        except AzureError as error:
            log.info("the lease on the timers cannot be read: %s", str(error).splitlines()[0])
            return False
        return True

    async def give_back(self) -> None:
        """Let the next host begin at once."""
        with suppress(AzureError):
            found = await self._table.get_entity("timers", "lease")
            if found["holder"] == self._holder:
                etag = found.metadata["etag"]
                await self._table.delete_entity(found, etag=etag, match_condition=MatchConditions.IfNotModified)
