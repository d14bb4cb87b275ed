"""Pull: the control plane asks the agent, and every answer renews the lease."""

from __future__ import annotations

import hmac
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from shared.agent.node.state import State


class StatusHandler(BaseHTTPRequestHandler):
    """One request to the agent."""

    server_version, sys_version, timeout = "gpulaunch", "", 10

    def do_GET(self) -> None:
        """Answer 200 with the node's status to the bearer of the agent's token, else 401."""
        server = cast("StatusServer", self.server)
        given = self.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {server.token}".encode()):
            self._answer(401, {"code": "unauthorized"})
        elif self.path != "/v1/status":
            self._answer(404, {"code": "not_found"})
        else:
            server.renew()
            status = server.state.status(50)
            self._answer(200, status)
            if "notice" in status:
                server.noticed.set()

    def _answer(self, status: int, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: it would be a line per request."""


class StatusServer(ThreadingHTTPServer):
    """Answers `GET /v1/status` to whoever has the agent's token."""

    daemon_threads = True

    def __init__(self, port: int, token: str, state: State, renew: Callable[[], None]) -> None:
        if not token:
            raise ValueError("GPULAUNCH_AGENT_TOKEN is not set")
        self.token, self.state, self.renew = token, state, renew
        self.noticed = threading.Event()
        """The control plane has read the notice."""
        super().__init__(("0.0.0.0", port), StatusHandler)  # noqa: S104 - the control plane asks from outside

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore callers that hang up."""
