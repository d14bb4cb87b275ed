"""`python -m devhost.run`, which is `make run`: Azurite and the app on one machine, with no account anywhere.

`python -m devhost.run stop`, which is `make stop`, ends it from another terminal.
"""

import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import MutableMapping
from contextlib import ExitStack, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import cast

from pydantic import SecretStr

from devhost import azurite
from devhost.config import HostError, load_local_settings
from devhost.files import kept
from devhost.processes import end_with_parent, heard, watched
from gpulaunch.proxies import socks_proxy
from shared.adapters import prepared
from shared.auth import Deriver
from shared.errors import SettingsError, StoreError
from shared.settings import DEVELOPMENT_KEY, Settings, read_settings

_ROOT = Path(__file__).resolve().parent.parent
# The app is up in 3-5 s; a first `func start` may fetch its extension bundle before.
_HEALTH_LIMIT = 120.0
_PORT = 7071
_GATEWAY_PORT = 7072
_HERE = ("localhost", "127.0.0.1", "::1")

_EXAMPLE = (
    '{"model_name": "meta-llama/Llama-3.1-8B-Instruct", "provider": "azure", "region": "eastus", '
    '"instance_type": "Standard_NV36ads_A10_v5", "use_spot": true}'
)


def main(root: Path = _ROOT) -> int:
    """Run until Ctrl-C, SIGTERM or the end of the terminal (status 0), or until Azurite or the app dies (status 1)."""
    cast(TextIOWrapper, sys.stdout).reconfigure(line_buffering=True)
    if "MAKELEVEL" in os.environ:
        # A killed `make` must not leave a run that no terminal shows.
        end_with_parent(os.getppid())
    return watched(lambda: _guarded(root))


def _guarded(root: Path) -> int:
    for number in heard():
        signal.signal(number, signal.default_int_handler)
    try:
        with ExitStack() as stack:
            _run(root, stack)
    except KeyboardInterrupt:
        # A closed terminal takes no more output.
        with suppress(OSError):
            print("Stopped. The next `make run` continues here.")
        return 0
    except OSError as error:
        # A full disk, a folder that can't be written: the system's own words, with the file.
        where = f"{error.filename}: " if error.filename else ""
        print(f"run: {where}{error.strerror or error}; everything is stopped", file=sys.stderr)
    except (HostError, SettingsError, StoreError) as error:
        print(f"run: {error}", file=sys.stderr)
    return 1


def _wanted_port(given: str | None, name: str = "PORT", usual: int = _PORT, taken: int = 0) -> int:
    """Return the port to serve: the given one, which must be free, else the usual or any other that is free.

    Raises:
        HostError: The given one is not a port, or is in use.
    """
    if not given:
        return usual if usual != taken and azurite.port_is_free(usual) else azurite.free_ports(1)[0]
    if not (given.isascii() and given.isdecimal() and 0 < int(given) < 65536):
        raise HostError(f"{name}={given!r} is not a port; set one from 1 to 65535, or leave it out")
    if int(given) == taken or not azurite.port_is_free(int(given)):
        raise HostError(f"port {given} is in use; choose another one with `make run {name}=…`, or leave it out")
    return int(given)


def around_proxies(environment: MutableMapping[str, str]) -> None:
    """Keep what stays on this machine from the proxies in the environment, for this process and all that it starts.

    Raises:
        HostError: A proxy is one that the app can't use.
    """
    name = socks_proxy(environment)
    if name is not None:
        raise HostError(f"{name} is a SOCKS proxy, which the app does not support; name an http:// one")
    given = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    listed = [one.strip() for one in given.split(",") if one.strip()]
    if "*" not in listed:
        environment["no_proxy"] = environment["NO_PROXY"] = ",".join([*listed, *(h for h in _HERE if h not in listed)])


def stop(root: Path = _ROOT) -> int:
    """End the run that holds .local, and wait until it has ended (status 0); status 1 if it doesn't end."""
    path = root / ".local" / "lock"
    asked = False
    with suppress(FileNotFoundError), path.open("r", encoding="ascii") as lock:
        deadline = time.monotonic() + 3 * azurite.STOP_LIMIT
        while not _try_lock(lock.fileno()):
            if not asked:
                with suppress(ProcessLookupError, ValueError):
                    os.kill(int(lock.read()), signal.SIGTERM)
                asked = True
            if time.monotonic() > deadline:
                print(f"run: it does not end; `fuser {path}` names its processes", file=sys.stderr)
                return 1
            time.sleep(0.1)
    print("Stopped." if asked else "Nothing is running here.")
    return 0


def _run(root: Path, stack: ExitStack) -> None:
    local = root / ".local"
    lock = _lock(local)
    port = _wanted_port(os.environ.get("PORT"))
    gateway_port = _wanted_port(os.environ.get("GATEWAY_PORT"), "GATEWAY_PORT", _GATEWAY_PORT, port)
    # Held until the gateway takes it, so that a run that starts meanwhile finds another one.
    held = stack.enter_context(socket.create_server(("127.0.0.1", gateway_port)))
    around_proxies(os.environ)
    me = os.getpid()
    # Azurite inherits the lock: should it outlive this process, a second one must not open the same data.
    storage = azurite.start(local / "azurite", pass_fds=(lock,), preexec=lambda: end_with_parent(me))
    stack.callback(storage.stop)
    token = _secret("GPULAUNCH_ADMIN_TOKENS", local / "admin-token")
    os.environ |= {
        "GPULAUNCH_ADMIN_TOKENS": token,
        "GPULAUNCH_MASTER_KEY": _secret("GPULAUNCH_MASTER_KEY", local / "master-key"),
        "AzureWebJobsStorage": storage.connection_string,
        "AZURE_FUNCTIONS_ENVIRONMENT": "Development",
        "GPULAUNCH_GATEWAY_URL": f"http://localhost:{gateway_port}",
        # `/` leads to our own pages.
        "AzureWebJobsDisableHomepage": "true",
        "FUNCTIONS_WORKER_RUNTIME": "python",
        # What host.json lets three queue functions run at once, and as many again for HTTP.
        "PYTHON_THREADPOOL_THREAD_COUNT": os.environ.get("PYTHON_THREADPOOL_THREAD_COUNT", "48"),
        # Twice the largest body that a node sends; the host reads a body before the app can refuse it.
        "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT": os.environ.get("FUNCTIONS_REQUEST_BODY_SIZE_LIMIT", "2097152"),
    }
    environment = dict(os.environ)
    # The host reads local.settings.json itself; here only to refuse what the app would refuse at its first call.
    load_local_settings(root, os.environ)
    settings = read_settings()
    prepared(settings)
    log = local / "app.log"
    app = _started(_command(root, port), root, environment, log)
    stack.callback(azurite.end, app, signal.SIGINT)
    _wait_until_healthy(f"http://127.0.0.1:{port}/api/health", app, log)
    held.close()
    gateway = _gateway(settings, root, gateway_port, local / "gateway.log")
    stack.callback(azurite.end, gateway, signal.SIGINT)
    # Whether it listens: it is ready once it has read the endpoints, which takes no longer than anyone needs to ask.
    _wait_until_healthy(f"http://127.0.0.1:{gateway_port}/metrics", gateway, local / "gateway.log")
    address = f"http://localhost:{port}"
    # Where the command finds this clone's app.
    (local / "address").write_text(address + "\n", "ascii")
    stack.callback((local / "address").unlink, missing_ok=True)
    print(
        "Launch an instance with:\n"
        f"curl -sS -X POST {address}/api/instances/launch -H 'X-Admin-Token: {token.split(',')[0].strip()}' \\\n"
        f"  -H 'Content-Type: application/json' \\\n  -d '{_EXAMPLE}'\n\n"
        f"The logs are {log.relative_to(root)} and .local/gateway.log. Ctrl-C or `make stop` stops everything.\n\n"
        f"Endpoints answer on http://localhost:{gateway_port}/v1 (`gpulaunch deploy`, then `gpulaunch keys`).\n"
        f"gpulaunch is ready on {address}; open it in a browser and sign in with the token.\nToken: {token}"
    )
    while True:
        for name, process in (("the app", app), ("the gateway", gateway), ("Azurite", storage.process)):
            if (status := process.poll()) is not None:
                raise HostError(f"{name} ended by itself (status {status}); everything is stopped")
        time.sleep(0.3)


def _started(command: list[str], root: Path, environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a part that ends with this process and writes to a log of its own."""
    me = os.getpid()
    with log.open("wb") as output:
        return subprocess.Popen(  # noqa: S603 - a list, our own programs
            command,
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=lambda: end_with_parent(me),  # noqa: PLW1509 - this process has no threads
        )


def _gateway(settings: Settings, root: Path, port: int, log: Path) -> subprocess.Popen[bytes]:
    """Start the gateway, which gets its own key and none of the app's secrets."""
    key = Deriver(settings.master_key or SecretStr(DEVELOPMENT_KEY)).gateway_key()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GPULAUNCH_")}
    environment |= {"GPULAUNCH_GATEWAY_KEY": key, "GPULAUNCH_WORKSPACE": settings.workspace, "GATEWAY_PORT": str(port)}
    return _started([sys.executable, "-m", "gateway"], root, environment, log)


def _lock(local: Path) -> int:
    """Hold .local until this process has ended, with its id in the lock; return the file descriptor.

    Raises:
        HostError: Another run holds it.
    """
    local.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(local / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    if not _try_lock(lock):
        raise HostError(f"another run uses {local}; `make stop` stops it")
    os.truncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())
    return lock


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _secret(variable: str, path: Path) -> str:
    """Return the variable's value, else the kept one, else a new one that only its owner can read."""
    return os.environ.get(variable) or kept(path, lambda: secrets.token_urlsafe(32))


def _command(root: Path, port: int) -> list[str]:
    """Return `func start` where the Core Tools work, else devhost. The npm package can be there without its program."""
    for candidate in (shutil.which("func"), str(root / "node_modules" / ".bin" / "func")):
        if candidate is None or not Path(candidate).exists():
            continue
        with suppress(OSError, subprocess.TimeoutExpired):
            # Reading its version takes a second; a broken launcher must not hang the start.
            if subprocess.run([candidate, "--version"], capture_output=True, timeout=30, check=False).returncode == 0:  # noqa: S603 - a list, names from here
                return [candidate, "start", "--port", str(port)]
    return [sys.executable, "-m", "devhost", "--app", str(root), "--port", str(port)]


def _wait_until_healthy(url: str, app: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _HEALTH_LIMIT
    while time.monotonic() < deadline:
        if app.poll() is not None:
            print(*log.read_text("utf-8", "replace").splitlines()[-40:], sep="\n", file=sys.stderr)
            raise HostError(f"the {log.stem} did not start; the end of its log is above")
        with suppress(OSError), urllib.request.urlopen(url, timeout=5):  # noqa: S310 - always http on this machine, around proxies
            return
        time.sleep(0.2)
    raise HostError(f"{url} was not healthy for {_HEALTH_LIMIT:.0f} s; see {log}")


if __name__ == "__main__":
    sys.exit(stop() if sys.argv[1:] == ["stop"] else main())
