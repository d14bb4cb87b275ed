"""How the control plane learns of the node; every exchange renews the lease.

Push: the agent reports to the control plane. Pull: the control plane asks the agent.
"""

from __future__ import annotations

import hmac
import json
import threading
import urllib.parse
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from shared.agent.node.clock import NodeClock
from shared.agent.node.config import Config
from shared.agent.node.errors import NETWORK_ERRORS, FetchError, RetryableError, StoppedError, backoff
from shared.agent.node.log import Log
from shared.agent.node.proof import NONCE_HEADER, PROOF_HEADER, authorization, proof
from shared.agent.node.state import FAILED, SERVING, Lease, State
from shared.agent.node.transport import Http, JsonAnswer, retry_after

PROGRESS_SECONDS = 5.0
_REDIRECTS = 3
_NONCES = 200_000
"""Remembered: two months of a question each half minute, which is longer than any node lives."""


class ControlPlane:
    def __init__(self, config: Config, transport: Http, lease: Lease) -> None:
        self._base = f"{config.url}/api/nodes/{config.instance}"
        self._headers = {"Authorization": f"Bearer {config.node_token}"}
        self._http, self._lease = transport, lease

    def call(self, name: str, body: Any = None) -> dict[str, Any]:
        """POST a body, or GET without one; return the answer's JSON.

        Only a success renews the lease: neither a server error does, nor a refusal of a caller it does not know.

        Raises:
            RetryableError: No answer, or an error that may pass.
            FetchError: The model's source cannot be read.
        """
        try:
            answer = self._asked(name, body)
        except NETWORK_ERRORS as error:
            raise RetryableError(f"{name}: {error}") from error
        data: dict[str, Any] = answer.data or {}
        if answer.status == 410 or data.get("renewed") is False:
            self._lease.over = True
        elif answer.status == 422 and body is None:
            raise FetchError(str(data.get("detail") or "the model's source cannot be read"))
        elif not 200 <= answer.status < 300:
            raise RetryableError(f"{name}: answered {answer.status}", retry_after(answer.headers))
        elif isinstance(data.get("lease_seconds"), int):
            self._lease.renew(data["lease_seconds"])
        return data

    def _asked(self, name: str, body: Any) -> JsonAnswer:
        """The answer, also where the app's front end redirects, as to https; the token goes to no other host.

        Raises:
            OSError, HTTPException: No answer came.
            RetryableError: It redirects elsewhere.
        """
        url, method = f"{self._base}/{name}", "GET" if body is None else "POST"
        for _ in range(_REDIRECTS):
            answer = self._http.json(method, url, self._headers, body)
            if answer.status not in (301, 302, 307, 308):
                return answer
            here, url = url, urllib.parse.urljoin(url, answer.headers.get("Location") or "")
            there, asked = urllib.parse.urlsplit(url), urllib.parse.urlsplit(here)
            if there.hostname != asked.hostname or there.scheme not in ("https", asked.scheme):
                address = f"{there.scheme}://{there.netloc}"
                raise RetryableError(f"{name}: redirected to {address}; GPULAUNCH_PUBLIC_URL has to be that address")
        raise RetryableError(f"{name}: redirected in a circle")

    def assignment(self) -> dict[str, Any]:
        """What to fetch and serve.

        Raises:
            RetryableError, FetchError: As `call`.
            StoppedError: The attempt is over.
        """
        answer = self.call("assignment")
        if self._lease.over:
            raise StoppedError
        if "vllm_args" not in answer:
            raise RetryableError("the answer is not an assignment")
        if answer.get("hub_model") and not answer.get("files"):
            raise RetryableError("the answer is of an earlier version, without the model's files")
        return answer


class Reporter:
    """Decides what to report next, one call at a time; a report that was not accepted is sent again."""

    def __init__(
        self,
        state: State,
        control: ControlPlane,
        lease: Lease,
        clock: NodeClock,
        load: Callable[[], dict[str, float]],
        log: Log,
    ) -> None:
        self._state, self._control, self._lease, self._clock = state, control, lease, clock
        self._load, self._log = load, log
        self._phase = ""
        self._fetched = -1
        self._registered = self._completed = self._output_told = False
        self.noticed = threading.Event()
        """The control plane accepted the notice."""
        self._reported_at = float("-inf")
        self._failures = 0

    def due(self) -> tuple[str, dict[str, Any]] | None:
        """The call to make now, or None."""
        state, since = self._state, self._clock.ticks() - self._reported_at
        if state.notice is not None and not self.noticed.is_set():
            left = {} if state.seconds_left is None else {"seconds_left": state.seconds_left}
            return "notice", {"notice": state.notice, **left}
        if state.phase != self._phase:
            return "progress", state.status(40 if state.phase == FAILED else 0)
        if state.phase == SERVING and not self._registered:
            version = {} if state.version is None else {"vllm_version": state.version}
            return "register", {"port": state.port, **version}
        if state.exit_code is not None and not self._output_told:
            return "progress", state.status(100)
        if state.exit_code is not None and not self._completed:
            return "complete", {"exit_code": state.exit_code}
        beat = min(60.0, self._lease.seconds / 5)
        if state.phase == SERVING and since >= beat:
            return "heartbeat", self._load()
        if state.phase != SERVING and since >= (PROGRESS_SECONDS if state.fetched != self._fetched else beat):
            return "progress", state.status(0)
        return None

    def step(self) -> float:
        """Make the call that is due, if any; return the seconds to wait before the next step."""
        due = self.due()
        if due is None:
            return 0.5
        name, body = due
        try:
            answer = self._control.call(name, body)
        except RetryableError as error:
            self._failures += 1
            if self._failures in (1, 5) or self._failures % 20 == 0:
                self._log(f"report not accepted: {error}")
            return backoff(error, self._failures, 30.0)
        self._failures, self._reported_at = 0, self._clock.ticks()
        if name == "progress":
            self._phase, self._fetched = body["phase"], body.get("fetched_bytes", self._state.fetched)
            self._output_told |= "job" in body
        self._registered |= name == "register"
        self._completed |= name == "complete"
        if name == "notice":
            self.noticed.set()
        if name == "heartbeat" and answer.get("report"):
            # The control plane has lost what was reported before.
            self._phase, self._registered = "", False
        return 0.0

    def run(self, over: threading.Event) -> None:
        while not over.is_set():
            pause = self.step()
            if pause:
                self._clock.wait(self._state.changed, pause)
                self._state.changed.clear()


class StatusHandler(BaseHTTPRequestHandler):
    server_version, sys_version, timeout = "gpulaunch", "", 10

    def do_GET(self) -> None:
        """Answer 200 with the node's status to whoever proves to have the agent's token, else 401."""
        server = cast("StatusServer", self.server)
        given, self._nonce = self.headers.get("Authorization", ""), self.headers.get(NONCE_HEADER, "")
        # The token itself is what control planes of earlier versions send.
        knows = hmac.compare_digest(given.encode(), f"Bearer {server.token}".encode())
        proves = hmac.compare_digest(given.encode(), authorization(server.token, self._nonce).encode())
        if not knows and not (proves and server.is_new(self._nonce)):
            self._nonce = ""
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
        if self._nonce:
            self.send_header(PROOF_HEADER, proof(cast("StatusServer", self.server).token, self._nonce, body))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: it would be a line per request."""


class StatusServer(ThreadingHTTPServer):
    """Answers `GET /v1/status` to whoever proves to have the agent's token."""

    daemon_threads = True

    def __init__(self, port: int, token: str, state: State, renew: Callable[[], None]) -> None:
        if not token:
            raise ValueError("GPULAUNCH_AGENT_TOKEN is not set")
        self.token, self.state, self.renew = token, state, renew
        self.noticed = threading.Event()
        """The control plane has read the notice."""
        self._nonces: dict[str, None] = {}
        self._lock = threading.Lock()
        super().__init__(("0.0.0.0", port), StatusHandler)  # noqa: S104 - the control plane asks from outside

    def is_new(self, nonce: str) -> bool:
        """Whether a nonce comes for the first time: a question that was overheard renews no lease."""
        with self._lock:
            if not 16 <= len(nonce) <= 64 or nonce in self._nonces:
                return False
            self._nonces[nonce] = None
            if len(self._nonces) > _NONCES:
                del self._nonces[next(iter(self._nonces))]
            return True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore callers that hang up."""
