"""Clients are made from whatever way the settings name the storage account."""

import os
import subprocess
import sys
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from azure.core.exceptions import AzureError
from azure.core.rest import HttpRequest
from azure.identity import DefaultAzureCredential, ManagedIdentityCredential

from shared.errors import SettingsError
from shared.settings import Settings
from shared.storage import connect


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


AT_ONCE = 24


class Meeting(ThreadingHTTPServer):
    """Answers when so many requests are there at once, and counts the connections that they came by."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.connections = 0
        self.everybody = threading.Barrier(AT_ONCE)
        self.asked: list[str] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Meeting  # pyright: ignore[reportIncompatibleVariableOverride] - the one server that it is used with

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path == "/meet":
            self.server.everybody.wait(30)
        if self.path == "/hang-up":
            self.close_connection = True
            return
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def meeting() -> Generator[Meeting]:
    with Meeting() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_threads_that_write_at_once_keep_their_connections(meeting: Meeting) -> None:
    with connect.transport() as transport, ThreadPoolExecutor(AT_ONCE) as threads:
        for _ in range(2):
            waiting = [
                threads.submit(transport.send, HttpRequest("GET", f"{meeting.address}/meet")) for _ in range(AT_ONCE)
            ]
            assert {one.result().status_code for one in waiting} == {204}
    assert meeting.connections == AT_ONCE


def test_a_proxy_of_the_environment_is_used(meeting: Meeting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", meeting.address)
    monkeypatch.delenv("no_proxy", raising=False)
    with connect.transport() as transport:
        transport.send(HttpRequest("GET", "http://acme.table.core.windows.net/"))
    assert meeting.asked == ["http://acme.table.core.windows.net/"]


@pytest.mark.parametrize(
    ("name", "searched"),
    [("https_proxy", True), ("REQUESTS_CA_BUNDLE", True), ("CURL_CA_BUNDLE", True), ("ANOTHER_NAME", False)],
)
def test_the_environment_is_searched_at_each_request_only_where_it_names_a_proxy_or_certificates(
    monkeypatch: pytest.MonkeyPatch, name: str, searched: bool
) -> None:
    for one in list(os.environ):
        if one.lower().endswith("_proxy") or one.endswith("CA_BUNDLE"):
            monkeypatch.delenv(one)
    monkeypatch.setenv(name, "/a/value")
    with connect.transport() as transport:
        made: Any = transport
        assert made.session.trust_env is searched


def test_a_request_is_repeated_by_the_sdk_alone(meeting: Meeting) -> None:
    with connect.transport() as transport, pytest.raises(AzureError):
        transport.send(HttpRequest("GET", f"{meeting.address}/hang-up"))
    assert meeting.asked == ["/hang-up"]


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
        "import sys, shared.storage.tables, shared.storage.queues, shared.storage.connect;"
        "print([m for m in ('aiohttp', 'azure.identity', 'azure.storage', 'sky', 'requests') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "[]"
