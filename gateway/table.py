"""Reads the rows of endpoints every two seconds. While the table cannot be read, the last list goes on being used."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from azure.core.exceptions import AzureError
from azure.data.tables import TableClient
from cryptography.fernet import Fernet, InvalidToken

from gateway.app import Gateway
from gateway.report import CALL_SECONDS, Reports
from gateway.snapshot import Unseal, snapshot_of
from gpulaunch.deadlines import within
from gpulaunch.models.routes import ROW_AREA

log = logging.getLogger("gpulaunch.gateway")

EVERY_SECONDS = 2.0
"""A transaction each time: 0.6 USD a month. A new replica, or a revoked key, is known everywhere within this time."""

Read = Callable[[], Iterable[Mapping[str, Any]]]


TABLE = "gpulaunch"
"""Records, endpoints, everything: the gateway only reads there."""
REPORTS = "gpulaunchgateways"
"""Reports of gateways: a table of their own, so that a gateway's identity needs to write no records."""


def reader(table: TableClient, workspace: str) -> Read:
    """Read all endpoints of a workspace in one query."""
    rows: Any = table  # the SDK types half of its methods
    query = "PartitionKey eq @partition and RowKey ge @first and RowKey lt @last"
    parameters = {"partition": workspace, "first": f"{ROW_AREA}|", "last": f"{ROW_AREA}}}"}

    def read() -> Iterable[Mapping[str, Any]]:
        return list(rows.query_entities(query, parameters=parameters))

    return read


def unsealer(key: str) -> Unseal:
    """What unseals nodes' keys. Raises ValueError if `key` is not one."""
    fernet = Fernet(key)

    def unseal(sealed: str) -> str:
        try:
            return fernet.decrypt(sealed.encode()).decode()
        except InvalidToken as error:
            raise ValueError("sealed for another gateway key") from error

    return unseal


async def poll(gateway: Gateway, read: Read, unseal: Unseal, reports: Reports) -> None:
    """Keep a gateway's list of endpoints, and its own report, up to date until this is cancelled."""
    failing = False
    while not await reports.renew():  # a drain waits for it from before it knows any node
        await asyncio.sleep(EVERY_SECONDS)
    while True:
        try:
            rows = await asyncio.to_thread(within, CALL_SECONDS, read)
        except (AzureError, TimeoutError) as error:
            if not failing:
                why = error if isinstance(error, AzureError) else f"no answer within {CALL_SECONDS:.0f} s"
                log.warning("the table cannot be read; the last list of endpoints is used: %s", why)
            failing = True
            gateway.room.wake()
        else:
            if failing:
                log.info("the table can be read again")
            failing = False
            gateway.update(snapshot_of(rows, unseal, datetime.now(UTC)))
        await reports.renew()
        await asyncio.sleep(EVERY_SECONDS)
