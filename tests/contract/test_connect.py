"""Clients are made from whatever way the settings name the storage account."""

import subprocess
import sys
from typing import Any

import pytest
from azure.identity import DefaultAzureCredential, ManagedIdentityCredential

from shared.errors import SettingsError
from shared.settings import Settings
from shared.store import connect


def settings(**values: str) -> Settings:
    return Settings.model_validate({"AZURE_FUNCTIONS_ENVIRONMENT": "Development"} | values)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("", "__accountName", "__queueServiceUri", "__tableServiceUri", "__clientId"):
        monkeypatch.delenv(f"AzureWebJobsStorage{name}", raising=False)


def credential(client: Any) -> object:
    return client.credential


def test_the_emulator_s_short_name_is_understood() -> None:
    given = settings(AzureWebJobsStorage="UseDevelopmentStorage=true")
    assert connect.table_client(given).url == "http://127.0.0.1:10002/devstoreaccount1"
    assert connect.queue_service(given).url.startswith("http://127.0.0.1:10001/devstoreaccount1")


def test_an_account_name_means_the_app_s_identity() -> None:
    given = settings(AzureWebJobsStorage__accountName="acme")
    table, queues = connect.table_client(given), connect.queue_service(given)
    assert table.url == "https://acme.table.core.windows.net"
    assert table.table_name == "gpulaunch"
    assert queues.url.rstrip("/") == "https://acme.queue.core.windows.net"
    assert isinstance(credential(queues), DefaultAzureCredential)


def test_addresses_of_the_services_win_over_the_account_s_name() -> None:
    given = settings(
        AzureWebJobsStorage__accountName="acme",
        AzureWebJobsStorage__tableServiceUri="https://acme.table.core.chinacloudapi.cn/",
        AzureWebJobsStorage__queueServiceUri="https://acme.queue.core.chinacloudapi.cn/",
        AzureWebJobsStorage__clientId="00000000-0000-0000-0000-000000000001",
    )
    assert connect.table_client(given).url == "https://acme.table.core.chinacloudapi.cn"
    queues = connect.queue_service(given)
    assert queues.url.rstrip("/") == "https://acme.queue.core.chinacloudapi.cn"
    assert isinstance(credential(queues), ManagedIdentityCredential)


@pytest.mark.parametrize("text", ["nonsense", "AccountName=acme", "a=b;c"])
def test_a_connection_string_that_is_none_is_a_settings_error_that_does_not_show_it(text: str) -> None:
    for make in (connect.table_client, connect.queue_service):
        with pytest.raises(SettingsError, match="AzureWebJobsStorage") as refused:
            make(settings(AzureWebJobsStorage=text))
        assert text not in str(refused.value)


def test_no_account_is_a_settings_error() -> None:
    for make in (connect.table_client, connect.queue_service):
        with pytest.raises(SettingsError, match="no storage account"):
            make(settings())


def test_importing_the_stores_loads_no_heavy_library() -> None:
    code = (
        "import sys, shared.store.tables, shared.store.queues, shared.store.connect;"
        "print([m for m in ('aiohttp', 'azure.identity', 'azure.storage', 'sky', 'requests') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "[]"
