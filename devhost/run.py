"""`python -m devhost.run`, which is `make run`: Azurite and the app on one machine, with no account anywhere.

`python -m devhost.run stop`, which is `make stop`, ends it from another terminal.
"""

import ctypes
import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import cast

from devhost import azurite
from devhost.config import HostError, load_local_settings
from shared.errors import SettingsError
from shared.settings import read_settings

_ROOT = Path(__file__).resolve().parent.parent
# The app is up in 3-5 s; a first `func start` may fetch its extension bundle before.
_HEALTH_LIMIT = 120.0
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1

_EXAMPLE = (
    '{"model_name": "meta-llama/Llama-3.1-8B-Instruct", "provider": "azure", "region": "eastus", '
    '"instance_type": "Standard_NV36ads_A10_v5", "use_spot": true}'
)


def main(root: Path = _ROOT) -> int:
    """Run until Ctrl-C, SIGTERM or the end of the terminal (status 0), or until Azurite or the app dies (status 1)."""
    cast(TextIOWrapper, sys.stdout).reconfigure(line_buffering=True)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    port = os.environ.get("PORT") or "7071"
    if not port.isdecimal():
        print(f"PORT={port!r} is not a number", file=sys.stderr)
        return 1
    try:
        with ExitStack() as stack:
            _run(root, int(port), stack)
    except KeyboardInterrupt:
        # A closed terminal takes no more output.
        with suppress(OSError):
            print("Stopped. The next `make run` continues here.")
        return 0
    except (HostError, SettingsError) as error:
        print(f"run: {error}", file=sys.stderr)
    return 1


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


def _run(root: Path, port: int, stack: ExitStack) -> None:
    local = root / ".local"
    lock = _lock(local, stack)
    if not azurite.port_is_free(port):
        raise HostError(f"port {port} is in use; choose another one with `make run PORT=…`")
    # Azurite inherits the lock: should it outlive this process, a second one must not open the same data.
    storage = azurite.start(local / "azurite", pass_fds=(lock,), preexec=_end_with_parent)
    stack.callback(storage.stop)
    token = _secret("GPULAUNCH_ADMIN_TOKENS", local / "admin-token")
    os.environ |= {
        "GPULAUNCH_ADMIN_TOKENS": token,
        "GPULAUNCH_MASTER_KEY": _secret("GPULAUNCH_MASTER_KEY", local / "master-key"),
        "AzureWebJobsStorage": storage.connection_string,
        "AZURE_FUNCTIONS_ENVIRONMENT": "Development",
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
    read_settings()
    log = local / "app.log"
    with log.open("wb") as output:
        app = subprocess.Popen(  # noqa: S603 - a list, our own programs
            _command(root, port),
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - this process has no threads
        )
    stack.callback(azurite.end, app, signal.SIGINT)
    _wait_until_healthy(f"http://127.0.0.1:{port}/api/health", app, log)
    address = f"http://localhost:{port}"
    print(
        "Launch an instance with:\n"
        f"curl -sS -X POST {address}/api/instances/launch -H 'X-Admin-Token: {token.split(',')[0].strip()}' \\\n"
        f"  -H 'Content-Type: application/json' \\\n  -d '{_EXAMPLE}'\n\n"
        f"The log is {log.relative_to(root)}. Ctrl-C or `make stop` stops everything.\n\n"
        f"gpulaunch is ready on {address}; open it in a browser and sign in with the token.\nToken: {token}"
    )
    while True:
        for name, process in (("the app", app), ("Azurite", storage.process)):
            if (status := process.poll()) is not None:
                raise HostError(f"{name} ended by itself (status {status}); everything is stopped")
        time.sleep(0.3)


def _lock(local: Path, stack: ExitStack) -> int:
    """Hold .local for this run, with its process id in the lock; return the file descriptor.

    Raises:
        HostError: Another run holds it.
    """
    local.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(local / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    stack.callback(os.close, lock)
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


def _end_with_parent() -> None:
    """Let Linux end this new process when its parent dies, be it by SIGKILL; other systems have no such call."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _secret(variable: str, path: Path) -> str:
    """Return the variable's value, else the kept one, else a new one that only its owner can read."""
    if os.environ.get(variable):
        return os.environ[variable]
    path.touch(mode=0o600)
    kept = path.read_text("ascii").strip() or secrets.token_urlsafe(32)
    path.write_text(kept + "\n", "ascii")
    return kept


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
            raise HostError("the app did not start; the end of its log is above")
        with suppress(OSError), urllib.request.urlopen(url, timeout=5):  # noqa: S310 - always http on this machine
            return
        time.sleep(0.2)
    raise HostError(f"{url} was not healthy for {_HEALTH_LIMIT:.0f} s; see {log}")


if __name__ == "__main__":
    sys.exit(stop() if sys.argv[1:] == ["stop"] else main())
