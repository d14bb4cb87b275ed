"""Reads the rows of endpoints every two seconds. While the table cannot be read, the last list goes on being used."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from azure.core.credentials import TokenCredential
from azure.core.exceptions import AzureError
from azure.data.tables import TableClient, TableServiceClient
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


_STORAGE = "AzureWebJobsStorage"
STORAGE_URI = "AzureWebJobsStorage__tableServiceUri"


TABLE = "gpulaunch"
"""Records, endpoints, everything: the gateway only reads there."""
REPORTS = "gpulaunchgateways"
"""Reports of gateways: a table of their own, so that a gateway's identity needs to write no records."""


def identity(environ: Mapping[str, str]) -> TokenCredential:
    """The identity of where the gateway runs; makes no request."""
    from azure.identity import DefaultAzureCredential, ManagedIdentityCredential

    client_id = environ.get("AZURE_CLIENT_ID")
    return ManagedIdentityCredential(client_id=client_id) if client_id else DefaultAzureCredential()


def table_of(environ: Mapping[str, str], name: str) -> TableClient:
    """A table, by a connection string or, with an address alone, by the identity of where the gateway runs.

    Raises:
        ValueError: The environment names no storage account, or not by https; the message is for people.
    """
    limits: dict[str, Any] = {"retry_total": 1, "connection_timeout": 5, "read_timeout": 10}
    connection, uri = environ.get(_STORAGE), environ.get(STORAGE_URI)
    if connection:
        try:
            service = TableServiceClient.from_connection_string(connection, **limits)
        except ValueError as error:
            raise ValueError(f"{_STORAGE} is not a storage connection string") from error
    elif uri:
        if not uri.startswith("https://"):
            raise ValueError(f"{STORAGE_URI} has to begin with https://; the identity's token is sent there")
        service = TableServiceClient(uri, credential=identity(environ), **limits)
    else:
        raise ValueError(f"set {_STORAGE}, or {STORAGE_URI} to use an identity")
    return service.get_table_client(name)


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
            gateway.update(snapshot_of(rows, unseal))
        await reports.renew()
        await asyncio.sleep(EVERY_SECONDS)
