"""Clients of the storage account, made from the settings."""

from collections.abc import Iterable
from os import environ
from typing import TYPE_CHECKING, Any, Final
from urllib.request import getproxies

from azure.data.tables import TableClient

from shared.azure_transport import LOGIN, STORAGE, CallLimits, bounded_transport
from shared.errors import SettingsError
from shared.settings import Settings
from shared.storage.queues import existing_is_fine
from shared.table_errors import translated

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.core.pipeline.transport import HttpTransport
    from azure.storage.blob import ContainerClient
    from azure.storage.queue import QueueServiceClient

TABLE: Final = "gpulaunch"
BACKUPS: Final = "gpulaunch-backups"
"""The container of the table's copies."""
REPORTS: Final = "gpulaunchgateways"
"""Reports of gateways, whose identities may write this table alone."""

CONNECTIONS: Final = 64
"""Kept open to one service: as many as the app has threads (48 of its own, 16 of the host's). The SDK keeps ten, and
every request beyond them would open a connection, with its TLS handshake, for itself."""
_SILENCES: Final[dict[str, Any]] = {
    # Steps, sweeps and callers come again, so one repetition is enough: a new connection in place of a dead one.
    "retry_connect": 1,
    "retry_read": 1,
}
_TABLE_RETRIES: Final[dict[str, Any]] = {
    # 0 s, then 0.8 s, then 1.6 s: enough for a partition that moves between servers
    "retry_total": 3,
    **_SILENCES,
    "retry_backoff_factor": 0.4,
    "retry_backoff_max": 5,
}


def transport(limits: CallLimits = STORAGE) -> "HttpTransport[Any, Any]":
    """What carries the requests of one client; safe to use from several threads.

    Proxies and certificates that the environment names are used as ever. Where it names none, it is not searched for
    them again at each request, which takes requests as long as a tenth of a launch.
    """
    # imported with the first client, for the cold start's sake
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util.retry import Retry

    session = requests.Session()
    session.trust_env = bool(getproxies() or {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"} & environ.keys())
    # the SDK's own policies retry
    adapter = HTTPAdapter(pool_maxsize=CONNECTIONS, max_retries=Retry(total=False))
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter)
    return bounded_transport(limits, session=session)


def table_client(settings: Settings, name: str = TABLE, **options: Any) -> TableClient:
    """The client of one of our tables; `options` go to the SDK in place of ours. No request is made.

    Raises:
        SettingsError: The settings name no storage account.
    """
    # Made for the one table: a client that a service's client makes waits between tries by itself, however long.
    merged = {**_TABLE_RETRIES, "table_name": name, **options}
    return _client(TableClient, settings, settings.storage_table_uri, "table", merged)


def queue_service(settings: Settings, **options: Any) -> "QueueServiceClient":
    """The client of the account's queues; `options` go to the SDK in place of ours. No request is made.

    Raises:
        SettingsError: The settings name no storage account.
    """
    from azure.storage.queue import ExponentialRetry, QueueServiceClient

    # the SDK's default first pause is 15 s, which an HTTP request can't wait for; these are about 1, 3 and 5 s
    retries = ExponentialRetry(initial_backoff=1, increment_base=2, retry_total=3, random_jitter_range=1, **_SILENCES)
    merged = {"retry_policy": retries, **options}
    return _client(QueueServiceClient, settings, settings.storage_queue_uri, "queue", merged)


def backup_container(settings: Settings, **options: Any) -> "ContainerClient":
    """The client of the table's copies; `options` go to the SDK in place of ours. No request is made.

    Raises:
        SettingsError: The settings name no storage account.
    """
    from azure.storage.blob import ContainerClient, ExponentialRetry

    retries = ExponentialRetry(initial_backoff=1, increment_base=2, retry_total=3, random_jitter_range=1, **_SILENCES)
    uri = settings.storage_table_uri
    # The account of the table: its services differ in one word of their addresses.
    blobs = None if uri is None else uri.replace(".table.", ".blob.", 1)
    merged = {"retry_policy": retries, "container_name": BACKUPS, **options}
    return _client(ContainerClient, settings, blobs, "blob", merged)


def _client(kind: Any, settings: Settings, uri: str | None, service: str, options: dict[str, Any]) -> Any:
    merged: dict[str, Any] = {"transport": transport(), **options}
    if settings.storage_connection is not None:
        try:
            return kind.from_connection_string(settings.storage_connection.get_secret_value(), **merged)
        except ValueError:
            raise SettingsError("AzureWebJobsStorage: not a storage connection string") from None
    if uri is None and settings.storage_account is None:
        raise SettingsError(
            "AzureWebJobsStorage: no storage account; set a connection string, or AzureWebJobsStorage__accountName"
            " to use the app's identity"
        )
    address = uri.rstrip("/") if uri else f"https://{settings.storage_account}.{service}.core.windows.net"
    return kind(address, credential=_credential(settings), **merged)


def ensure(table: TableClient, service: "QueueServiceClient", queues: Iterable[str]) -> None:
    """Make the table and the queues that are not there yet; one request each.

    Raises:
        StoreUnavailableError: Storage did not answer.
    """
    untyped: Any = table  # the SDK gives this method's options no types
    with translated("make the table and the queues"):
        existing_is_fine(untyped.create_table, "TableAlreadyExists")
        for queue in queues:
            existing_is_fine(service.get_queue_client(queue).create_queue, "QueueAlreadyExists")


def _credential(settings: Settings) -> "TokenCredential":
    # imported here: it takes a while and a connection string needs none of it
    from azure.identity import DefaultAzureCredential, ManagedIdentityCredential

    if settings.storage_client_id is not None:
        return ManagedIdentityCredential(client_id=settings.storage_client_id, transport=bounded_transport(LOGIN))
    return DefaultAzureCredential(transport=bounded_transport(LOGIN))
