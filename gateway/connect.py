"""The gateway's storage: tables, and the queue of the control plane, by what the environment names."""

import base64
from collections.abc import Mapping
from typing import Any

from azure.core.credentials import TokenCredential
from azure.data.tables import TableClient, TableServiceClient
from azure.storage.queue import QueueClient

from gateway.nudge import QUEUE, Nudge
from gpulaunch.models.gateways import EndpointMessage

STORAGE = "AzureWebJobsStorage"
STORAGE_URI = "AzureWebJobsStorage__tableServiceUri"
QUEUE_URI = "AzureWebJobsStorage__queueServiceUri"
_LIMITS: Mapping[str, Any] = {"retry_total": 1, "connection_timeout": 5, "read_timeout": 10}


def table_of(environ: Mapping[str, str], name: str) -> TableClient:
    """A table, by a connection string or, with an address alone, by the identity of where the gateway runs.

    Raises:
        ValueError: The environment names no storage account, or not by https; the message is for people.
    """
    connection, uri = environ.get(STORAGE), environ.get(STORAGE_URI)
    if connection:
        try:
            service = TableServiceClient.from_connection_string(connection, **_LIMITS)
        except ValueError as error:
            raise ValueError(f"{STORAGE} is not a storage connection string") from error
    elif uri:
        service = TableServiceClient(_checked(STORAGE_URI, uri), credential=identity(environ), **_LIMITS)
    else:
        raise ValueError(f"set {STORAGE}, or {STORAGE_URI} to use an identity")
    return service.get_table_client(name)


def identity(environ: Mapping[str, str]) -> TokenCredential:
    """The identity of where the gateway runs; makes no request."""
    from azure.identity import DefaultAzureCredential, ManagedIdentityCredential

    client_id = environ.get("AZURE_CLIENT_ID")
    return ManagedIdentityCredential(client_id=client_id) if client_id else DefaultAzureCredential()


def _checked(variable: str, uri: str) -> str:
    """An address that the identity's token may be sent to.

    Raises:
        ValueError: It may not; the message is for people.
    """
    if not uri.startswith("https://"):
        raise ValueError(f"{variable} has to begin with https://; the identity's token is sent there")
    return uri


def nudge_of(environ: Mapping[str, str]) -> Nudge | None:
    """What sends the messages, by a connection string or, with an address alone, by the identity of where this runs.

    None where neither is there: then requests that wait are found by the control plane's sweep, every 30 seconds.

    Raises:
        ValueError: The environment names storage that cannot be used; the message is for people.
    """
    connection, uri = environ.get(STORAGE), environ.get(QUEUE_URI)
    if connection:
        try:
            queue = QueueClient.from_connection_string(connection, QUEUE, **_LIMITS)
        except ValueError as error:
            raise ValueError(f"{STORAGE} is not a storage connection string") from error
    elif uri:
        queue = QueueClient(_checked(QUEUE_URI, uri), QUEUE, credential=identity(environ), **_LIMITS)
    else:
        return None

    def nudge(endpoint: str) -> None:
        body = EndpointMessage(endpoint=endpoint).model_dump_json().encode()
        queue.send_message(base64.b64encode(body).decode())

    return nudge
