"""Let one API server at a time have the database: an update starts the new container while the old one still runs.

`alone.py PID READY`: waits for the database's lock, makes the file READY once it has it, and holds it until the process
PID ends. While it waits, it answers the probes in the server's place: Azure ends the old container only when the new
one is well. If the connection breaks, the lock may be another's: it ends the server, and Azure starts the container
anew.
"""

import http.server
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, Protocol

LOCK = 0x67706C61
"""Advisory locks are numbers; this one is `gpla`."""
_ASK_SECONDS = 2.0
_BEAT_SECONDS = 5.0
_END_SECONDS = 25.0
"""Azure kills a container 30 s after it has asked it to end."""
# The database notices within a minute that a container has ended without a word, instead of after two hours.
_KEEPALIVES = "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"


class Database(Protocol):
    """A connection, in autocommit; the lock belongs to it, and ends with it."""

    def take(self) -> bool:
        """Take the lock if it is free. Raises OSError if the connection is broken."""
        ...

    def beat(self) -> None:
        """Use the connection. Raises OSError if it is broken."""
        ...


class Postgres:
    def __init__(self, uri: str) -> None:
        import psycopg2

        self._error: Any = psycopg2.Error
        try:
            self._connection: Any = psycopg2.connect(
                uri, connect_timeout=10, keepalives_idle=30, keepalives_interval=10, keepalives_count=3,
                options=_KEEPALIVES, application_name="gpulaunch-alone",
            )  # fmt: skip
        except psycopg2.Error as error:
            raise OSError(str(error).strip()) from error
        self._connection.autocommit = True

    def take(self) -> bool:
        return bool(self._ask(f"SELECT pg_try_advisory_lock({LOCK})"))

    def beat(self) -> None:
        self._ask("SELECT 1")

    def _ask(self, question: str) -> Any:
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(question)
                return cursor.fetchone()[0]
        except self._error as error:
            raise OSError(str(error).strip()) from error


class _Waiting(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"status": "waking"}'
        self.send_response(200 if self.path.startswith("/api/health") else 503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Retry-After", "10")
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


def wait_for_lock(uri: str, port: int) -> Postgres:
    """Return the connection that has the lock; answer the probes meanwhile."""
    server = None
    database: Postgres | None = None
    while True:
        try:
            database = database or Postgres(uri)
            if database.take():
                break
            said = "another server has the database; waiting for it to end"
        except OSError as error:
            database, said = None, f"the database does not answer: {error}"
        if server is None:
            sys.stderr.write(f"alone: {said}\n")
            server = http.server.ThreadingHTTPServer(("", port), _Waiting)
            threading.Thread(target=server.serve_forever, daemon=True).start()
        time.sleep(_ASK_SECONDS)
    if server is not None:
        server.shutdown()
        server.server_close()
    return database


def hold(database: Database, pid: int) -> bool:
    """Hold the lock while a process runs; return whether it was held to its end."""
    while _runs(pid):
        try:
            database.beat()
        except OSError as error:
            sys.stderr.write(f"alone: the lock is lost, so the server ends: {error}\n")
            return False
        time.sleep(_BEAT_SECONDS)
    return True


def end(pid: int) -> None:
    """End a process, by force if need be."""
    for number, seconds in ((signal.SIGTERM, _END_SECONDS), (signal.SIGKILL, 0.0)):
        until = time.monotonic() + seconds
        if _runs(pid):
            os.kill(pid, number)
        while _runs(pid) and time.monotonic() < until:
            time.sleep(0.1)


def _runs(pid: int) -> bool:
    """Whether the process that started this one still runs; its number may be another's later."""
    return os.getppid() == pid


def main() -> None:
    pid, ready = int(sys.argv[1]), Path(sys.argv[2])
    port = int(os.environ.get("SKYPILOT_API_SERVER_LOCAL_PORT", "46580"))
    database = wait_for_lock(os.environ["SKYPILOT_DB_CONNECTION_URI"], port)
    ready.touch()
    if not hold(database, pid):
        end(pid)


if __name__ == "__main__":
    main()
