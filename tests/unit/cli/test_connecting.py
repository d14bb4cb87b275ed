"""What is said of an app that is not reached: what is wrong, and what to do."""

import socket
import ssl
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from gpulaunch import AsyncGpuLaunch, ConnectionSetupError, GpuLaunch, NoAnswerError
from gpulaunch.cli.exits import Exit, exit_of
from gpulaunch.client.connecting import uses_environment
from tests.standins.azure.certificate import Certificates, make_certificates


class Answering(BaseHTTPRequestHandler):
    """A healthy app, and a proxy that wants a password."""

    def do_GET(self) -> None:
        body = b'{"status": "ok", "version": "0.1.0", "storage": "ok"}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_CONNECT(self) -> None:
        self.send_error(407, "Proxy Authentication Required")

    def log_message(self, format: str, *args: object) -> None:
        pass


class Quiet(HTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that does not trust the server closes the connection; that is what is tested."""


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Generator[int]:
    server = Quiet(("127.0.0.1", 0), Answering)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def complaint(address: str) -> tuple[NoAnswerError, int]:
    """The error of a call, and how often it was tried again."""
    pauses: list[float] = []
    with GpuLaunch(address, sleep=pauses.append) as gpu, pytest.raises(NoAnswerError) as caught:
        gpu.health()
    return caught.value, len(pauses)


def test_a_port_where_nothing_listens_should_be_called_so() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error, retries = complaint(f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert "nothing listens there. Is the app running" in str(error)
    assert (retries, exit_of(error)) == (3, Exit.UNAVAILABLE)


def test_a_name_that_does_not_exist_should_be_called_so() -> None:
    error, _ = complaint("http://no-such-app.invalid")
    assert "the name no-such-app.invalid cannot be looked up" in str(error)
    assert exit_of(error) == Exit.UNAVAILABLE


def of_own_authority(folder: Path) -> tuple[Certificates, ssl.SSLContext]:
    made = make_certificates(folder, "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.chain, made.key)
    return made, context


def test_an_untrusted_certificate_should_be_said_once_with_what_to_do(tmp_path: Path) -> None:
    _, context = of_own_authority(tmp_path)
    with serving(context) as port:
        error, retries = complaint(f"https://localhost:{port}")
    assert f"The certificate of https://localhost:{port} is not trusted" in str(error)
    assert "SSL_CERT_FILE" in str(error)
    assert (retries, error.code, exit_of(error)) == (0, "tls", Exit.SETUP)


def test_a_certificate_should_be_trusted_by_what_the_message_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, context = of_own_authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.ca))
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
    with serving(context) as port, GpuLaunch(f"https://localhost:{port}") as gpu:
        assert gpu.health().status == "ok"


def test_https_to_a_port_without_it_should_be_called_so() -> None:
    with serving() as port:
        error, retries = complaint(f"https://127.0.0.1:{port}")
    assert "does not speak TLS" in str(error)
    assert (retries, error.code, exit_of(error)) == (0, "tls", Exit.SETUP)


def test_a_proxy_that_is_not_reached_should_be_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        proxy = f"127.0.0.1:{unused.getsockname()[1]}"
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret@{proxy}")
        error, retries = complaint("https://app.invalid")
    assert f"Cannot reach the proxy http://{proxy}, which https://app.invalid is behind" in str(error)
    assert "NO_PROXY" in str(error)
    assert "secret" not in str(error)
    assert (retries, error.code, exit_of(error)) == (0, "proxy", Exit.SETUP)


def test_a_proxy_that_refuses_should_be_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        error, retries = complaint("https://app.invalid")
    assert "407" in str(error)
    assert (retries, error.code) == (0, "proxy")
    assert isinstance(error, ConnectionSetupError)


@pytest.mark.parametrize("name", ["ALL_PROXY", "https_proxy", "HTTP_PROXY"])
def test_a_socks_proxy_should_be_named_and_not_end_in_a_traceback(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "socks5h://me:secret@127.0.0.1:1080")
    for kind in (GpuLaunch, AsyncGpuLaunch):
        with pytest.raises(ConnectionSetupError, match=f"{name} is a SOCKS proxy") as caught:
            kind("https://app.invalid")
        assert (caught.value.code, exit_of(caught.value)) == ("proxy", Exit.SETUP)
        assert "secret" not in str(caught.value)


def test_a_socks_proxy_should_not_matter_for_an_app_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    with serving() as port, GpuLaunch(f"http://127.0.0.1:{port}") as gpu:
        assert gpu.health().status == "ok"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_app_on_this_machine_should_be_reached_past_every_proxy(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://proxy.invalid:3128")
    with serving() as port, GpuLaunch(f"http://{host}:{port}") as gpu:
        assert gpu.health().status == "ok"


def test_an_app_elsewhere_should_be_asked_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as port:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
        with GpuLaunch("http://app.invalid") as gpu:
            assert gpu.health().status == "ok"
        monkeypatch.setenv("NO_PROXY", "app.invalid")
        error, _ = complaint("http://app.invalid")
    assert "cannot be looked up" in str(error)


@pytest.mark.parametrize(
    ("address", "used"),
    [
        ("http://localhost:7071", False),
        ("http://127.0.0.2", False),
        ("http://[::1]:7071", False),
        ("http://app.localhost", False),
        ("https://my-app.azurewebsites.net", True),
        ("http://10.0.0.4", True),
        ("http://localhost.example.com", True),
    ],
)
def test_proxies_should_apply_beyond_this_machine(address: str, used: bool) -> None:
    assert uses_environment(address) is used
