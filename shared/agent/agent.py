# ruff: noqa: UP017 - Python 3.9 has no datetime.UTC
"""gpulaunch's agent: fetches a model, installs vLLM, serves, reports, and ends its node when nobody wants it any more.

One file, standard library only, Python 3.9 or later: its text is shipped with the task and run on the GPU node.

Environment: GPULAUNCH_INSTANCE, GPULAUNCH_ATTEMPT, GPULAUNCH_CLUSTER, GPULAUNCH_CLOUD (azure, aws, gcp, kubernetes,
slurm), GPULAUNCH_DEADLINE (RFC 3339), GPULAUNCH_LEASE_SECONDS, GPULAUNCH_VLLM_REQUIREMENT, GPULAUNCH_VLLM_EXECUTABLE
(optional; where it exists nothing is installed), GPULAUNCH_WORK_DIR (default ~/gpulaunch/<instance>-<attempt>), and
  push: GPULAUNCH_URL and the secret GPULAUNCH_NODE_TOKEN: the agent reports to the control plane;
  pull: GPULAUNCH_AGENT_PORT and the secrets GPULAUNCH_ASSIGNMENT (base64 of gzip of JSON) and GPULAUNCH_AGENT_TOKEN:
        the agent answers `GET /v1/status`.
GPULAUNCH_METADATA_URL and GPULAUNCH_MANAGEMENT_URL stand in for the cloud's own addresses in tests.

Exit code: 0 told to end, or another agent runs this attempt; 1 ended by itself (deadline, lease, eviction, SIGTERM).

What ending the machine can do, by cloud:
  slurm       `scancel` of its own job. Without a job id to be found, only its processes end.
  azure       deletes its own resource group as the VM's managed identity, and asks again until the VM dies; a group
              that is not the cluster's own (shared) is never deleted: then, or when refused, the VM is deallocated,
              which ends the compute cost and keeps the disk's.
  gcp         deletes its own instance as the VM's service account; failing that `shutdown`, which keeps the disk.
  aws         `shutdown`: stops the instance (or terminates it, where it was launched so); a stopped one keeps its disk
              until the control plane's garbage collection takes it. It needs sudo without a password.
  kubernetes  deletes its own pod by its service account; without that right the agent ends and the pod stays.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import email.utils
import errno
import fcntl
import gzip
import hashlib
import hmac
import http.client
import http.server
import json
import os
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Mapping, MutableMapping, NamedTuple, Sequence, cast  # noqa: UP035 - older Pythons

INSTALLING, LOADING, STARTING, SERVING, STOPPING, FAILED = (
    "installing",
    "loading_model",
    "starting_server",
    "serving",
    "stopping",
    "failed",
)
MIB = 1024 * 1024
RANGE = 16 * MIB  # what a restart may have to fetch again, per connection
STRETCH = 8  # ranges that one request asks for at most: a connection's start costs what some MiB cost
CONNECTIONS = 16  # one connection to an object store gives some 50-100 MB/s; a node's network takes many
TRIES = 8  # with back-off up to 60 s: about two minutes without a byte
PROGRESS_SECONDS = 5.0
PORT_PATIENCE_SECONDS = 15.0  # a killed agent's vLLM needs a moment to let go of its port
QUIET = (OSError, http.client.HTTPException)  # all that a network can do to a request
SECRETS = ("GPULAUNCH_NODE_TOKEN", "GPULAUNCH_ASSIGNMENT", "GPULAUNCH_AGENT_TOKEN")


class FailureError(Exception):
    """The attempt failed: a code that the control plane knows, and a line for people."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class AgainError(Exception):
    """It did not work now; `after` is how many seconds to wait at least."""

    def __init__(self, reason: str, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class StoppedError(Exception):
    """The agent ends; whatever was under way is given up."""


class Clock:
    """Time: the wall's for deadlines, the machine's own (which goes on in a suspended VM) for leases."""

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def ticks(self) -> float:
        """Seconds since the machine started."""
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait for the event, at most so long; whether it came."""
        return event.wait(seconds)


class Log:
    """Lines to standard output, where the job's log takes them, with every known secret struck out."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()

    def hide(self, *secrets: str | None) -> None:
        """Never show these."""
        self._secrets.update(secret for secret in secrets if secret)

    def clean(self, text: str) -> str:
        """The text without secrets and signatures of addresses."""
        for secret in self._secrets:
            text = text.replace(secret, "[hidden]")
        return re.sub(r"(https?://[^\s?\"']+)\?[^\s\"']+", r"\1?[hidden]", text)[:2000]

    def __call__(self, text: str) -> None:
        """Write one line."""
        print(f"{time.strftime('%H:%M:%S')} gpulaunch: {self.clean(text)}", flush=True)


@dataclass
class Config:
    """The agent's environment, read once; secrets are gone from the environment afterwards."""

    instance: str
    attempt: str
    cluster: str
    cloud: str
    url: str | None
    node_token: str
    agent_token: str
    agent_port: int
    assignment: dict[str, Any] | None = field(repr=False)
    requirement: str
    executable: str | None
    work: Path
    deadline: float
    lease_seconds: float
    metadata_url: str | None
    management_url: str

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> Config:
        """Read it and strike the secrets out of `environ`."""
        token, packed, agent_token = (environ.pop(name, "") for name in SECRETS)
        instance, attempt = environ["GPULAUNCH_INSTANCE"], environ["GPULAUNCH_ATTEMPT"]
        default = Path.home() / "gpulaunch" / f"{instance}-{attempt}"
        return cls(
            instance=instance,
            attempt=attempt,
            cluster=environ.get("GPULAUNCH_CLUSTER", ""),
            cloud=environ.get("GPULAUNCH_CLOUD", ""),
            url=environ.get("GPULAUNCH_URL"),
            node_token=token,
            agent_token=agent_token,
            agent_port=int(environ.get("GPULAUNCH_AGENT_PORT", "0")),
            assignment=json.loads(gzip.decompress(base64.b64decode(packed))) if packed else None,
            requirement=environ.get("GPULAUNCH_VLLM_REQUIREMENT", "vllm"),
            executable=environ.get("GPULAUNCH_VLLM_EXECUTABLE"),
            work=Path(environ.get("GPULAUNCH_WORK_DIR") or default),
            deadline=parse_time(environ["GPULAUNCH_DEADLINE"]),
            lease_seconds=float(environ["GPULAUNCH_LEASE_SECONDS"]),
            metadata_url=environ.get("GPULAUNCH_METADATA_URL"),
            management_url=environ.get("GPULAUNCH_MANAGEMENT_URL", "https://management.azure.com"),
        )


def parse_time(text: str) -> float:
    """Seconds since 1970 of an RFC 3339 time."""
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


# ---- HTTP


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects are followed by hand, so that a token never reaches another host."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


def tls_context() -> ssl.SSLContext:
    """The usual checks, also for Pythons that were built without knowing where certificates are."""
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509"]:
        for bundle in ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"):
            if Path(bundle).exists():
                context.load_verify_locations(bundle)
                break
    return context


class Answer(NamedTuple):
    """A small answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    data: dict[str, Any] | None
    """The JSON object, or None when the answer was something else."""

    @property
    def retry_after(self) -> float:
        """Seconds that the server asks to wait; 0 when it does not."""
        return retry_after(self.headers)


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds of a Retry-After header, at most two minutes: a date or nothing counts as 0."""
    text = (headers.get("Retry-After") or "").strip()
    return min(float(text), 120.0) if text.isdigit() else 0.0


class Http:
    """Requests; proxies of the environment are used except towards this machine and its metadata service."""

    def __init__(self) -> None:
        https = urllib.request.HTTPSHandler(context=tls_context())
        self._proxied = urllib.request.build_opener(_NoRedirect, https)
        self._direct = urllib.request.build_opener(_NoRedirect, https, urllib.request.ProxyHandler({}))

    def open(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None, timeout: float = 30.0
    ) -> Any:
        """The answer, to be read and closed, whatever its status; raises OSError or HTTPException without one."""
        request = urllib.request.Request(url, data=body, headers=dict(headers), method=method)  # noqa: S310 - of the control plane, the assignment or the metadata service
        host = urllib.parse.urlsplit(url).hostname or ""
        near = host == "localhost" or host.startswith(("127.", "169.254.", "metadata."))
        try:
            return (self._direct if near else self._proxied).open(request, timeout=timeout)
        except urllib.error.HTTPError as error:
            return error

    def json(
        self, method: str, url: str, headers: Mapping[str, str], body: Any = None, timeout: float = 15.0
    ) -> Answer:
        """A small exchange of JSON; `data` is None when the answer is none. Raises OSError or HTTPException."""
        sent = None if body is None else json.dumps(body).encode()
        asked = {"Content-Type": "application/json", **headers} if sent is not None else headers
        with self.open(method, url, asked, sent, timeout) as answer:
            text = answer.read(8 * MIB)
        try:
            data = json.loads(text)
        except ValueError:
            data = None
        return Answer(answer.status, answer.headers, cast("dict[str, Any]", data) if isinstance(data, dict) else None)


# ---- What the node is


class State:
    """What the agent says of its node; threads write, the reporter or the status server reads."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._lock = threading.Lock()
        self.phase, self.detail, self.failure = INSTALLING, "", ""
        self.fetched, self.total = 0, None
        self.port: int | None = None
        self.version: str | None = None
        self.notice: str | None = None
        self.seconds_left: float | None = None
        self.exit_code: int | None = None
        self.tail: Callable[[], list[str]] = list
        self.changed = threading.Event()

    fetched: int
    total: int | None

    def enter(self, phase: str, detail: str = "", failure: str = "") -> None:
        """Go to a phase; a failed node stays failed until it stops."""
        with self._lock:
            if self.phase in (phase, STOPPING) or (self.phase == FAILED and phase != STOPPING):
                return
            self.phase, self.detail, self.failure = phase, self._log.clean(detail), failure
        self._log(f"{phase}{': ' if detail else ''}{detail}")
        self.changed.set()

    def add_fetched(self, count: int) -> None:
        """So many more bytes of the model are here (negative: fewer)."""
        with self._lock:
            self.fetched += count

    def warn(self, notice: str, seconds_left: float | None = None) -> None:
        """The node expects to go away; the first reason counts."""
        with self._lock:
            if self.notice is not None:
                return
            self.notice, self.seconds_left = notice, seconds_left
        self._log(f"notice: {notice}")
        self.changed.set()

    def finish_job(self, exit_code: int) -> None:
        """The job ended."""
        self.exit_code = exit_code
        self._log(f"the job ended with {exit_code}")
        self.changed.set()

    def status(self, lines: int) -> dict[str, Any]:
        """The node's account of itself with so many log lines; what is unknown is left out."""
        said: dict[str, Any] = {
            "phase": self.phase,
            "detail": self.detail,
            "failure": self.failure or None,
            "fetched_bytes": self.fetched if self.total is not None else None,
            "total_bytes": self.total,
            "port": self.port,
            "notice": self.notice,
            "job": None if self.exit_code is None else {"exit_code": self.exit_code},
            "log_tail": [self._log.clean(line) for line in self.tail()[-lines:]] if lines else None,
        }
        return {name: value for name, value in said.items() if value not in (None, "", [])}


class Lease:
    """How long the node may live without hearing from the control plane."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self.over = False
        """The control plane said that this attempt is over."""
        self.renew(seconds)

    def renew(self, seconds: float) -> None:
        """So many seconds from now."""
        self.seconds = seconds
        self._until = self._clock.ticks() + seconds

    @property
    def lost(self) -> bool:
        """Nobody renewed it."""
        return self._clock.ticks() >= self._until


# ---- Reporting: push


class ControlPlane:
    """The control plane as a node may call it."""

    def __init__(self, config: Config, transport: Http, lease: Lease, log: Log) -> None:
        self._base = f"{config.url}/api/nodes/{config.instance}"
        self._headers = {"Authorization": f"Bearer {config.node_token}"}
        self._http, self._lease, self._log = transport, lease, log

    def call(self, name: str, body: Any = None) -> Any:
        """POST a body, or GET without one; the answer's JSON.

        Only an answer of success renews the lease: not one that says that we are unknown, and no error of a server.
        Raises AgainError, and FailureError where the model's source can't be read.
        """
        try:
            answer = self._http.json("GET" if body is None else "POST", f"{self._base}/{name}", self._headers, body)
        except QUIET as error:
            raise AgainError(f"{name}: {error}") from error
        data: dict[str, Any] = answer.data or {}
        if answer.status == 410 or data.get("renewed") is False:
            self._lease.over = True
        elif answer.status == 422 and body is None:
            raise FailureError("model_fetch_failed", str(data.get("detail") or "the model's source can't be read"))
        elif not 200 <= answer.status < 300:
            raise AgainError(f"{name}: answered {answer.status}", answer.retry_after)
        elif isinstance(data.get("lease_seconds"), int):
            self._lease.renew(data["lease_seconds"])
        return data


class Reporter:
    """Decides what to tell the control plane next, one call at a time; what was not taken is told again."""

    def __init__(
        self,
        *,
        state: State,
        control: ControlPlane,
        lease: Lease,
        clock: Clock,
        load: Callable[[], dict[str, float]],
        log: Log,
    ) -> None:
        self._state, self._control, self._lease, self._clock = state, control, lease, clock
        self._load, self._log = load, log
        self._phase = ""
        self._fetched = -1
        self._registered = self._completed = False
        self.noticed = threading.Event()
        """The notice was taken."""
        self._told_at = float("-inf")
        self._failures = 0

    def due(self) -> tuple[str, dict[str, Any]] | None:
        """The call that should be made now, or None."""
        state, since = self._state, self._clock.ticks() - self._told_at
        if state.notice is not None and not self.noticed.is_set():
            left = {} if state.seconds_left is None else {"seconds_left": state.seconds_left}
            return "notice", {"notice": state.notice, **left}
        if state.phase != self._phase:
            return "progress", state.status(40 if state.phase == FAILED else 0)
        if state.phase == SERVING and not self._registered:
            version = {} if state.version is None else {"vllm_version": state.version}
            return "register", {"port": state.port, **version}
        if state.exit_code is not None and not self._completed:
            return "complete", {"exit_code": state.exit_code}
        beat = min(60.0, self._lease.seconds / 5)
        if state.phase == SERVING and since >= beat:
            return "heartbeat", self._load()
        if state.phase != SERVING and since >= (PROGRESS_SECONDS if state.fetched != self._fetched else beat):
            return "progress", state.status(0)
        return None

    def step(self) -> float:
        """Make the call that is due, if any; seconds until it is worth asking again."""
        due = self.due()
        if due is None:
            return 0.5
        name, body = due
        try:
            self._control.call(name, body)
        except AgainError as error:
            self._failures += 1
            if self._failures in (1, 5) or self._failures % 20 == 0:
                self._log(f"report not taken, {error}")
            return max(error.after, min(30.0, 2.0 ** min(self._failures, 5)) * random.uniform(0.5, 1))  # noqa: S311 - spreads calls, guards nothing
        self._failures, self._told_at = 0, self._clock.ticks()
        if name == "progress":
            self._phase, self._fetched = body["phase"], body.get("fetched_bytes", self._state.fetched)
        self._registered |= name == "register"
        self._completed |= name == "complete"
        if name == "notice":
            self.noticed.set()
        return 0.0

    def run(self, over: threading.Event) -> None:
        """Report until the agent ends."""
        while not over.is_set():
            pause = self.step()
            if pause:
                self._clock.wait(self._state.changed, pause)
                self._state.changed.clear()


# ---- Reporting: pull


class StatusHandler(http.server.BaseHTTPRequestHandler):
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
            said = server.state.status(50)
            self._answer(200, said)
            if "notice" in said:
                server.noticed.set()

    def _answer(self, status: int, said: dict[str, Any]) -> None:
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: it would be a line for every question."""


class StatusServer(http.server.ThreadingHTTPServer):
    """Answers `GET /v1/status` to whoever has the agent's token; every such answer renews the lease."""

    daemon_threads = True

    def __init__(self, port: int, token: str, state: State, renew: Callable[[], None]) -> None:
        if not token:
            raise ValueError("GPULAUNCH_AGENT_TOKEN is not set")
        self.token, self.state, self.renew = token, state, renew
        self.noticed = threading.Event()
        super().__init__(("0.0.0.0", port), StatusHandler)  # noqa: S104 - asked from outside, that is its purpose

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hangs up is no event."""


# ---- Fetching


def safe_target(folder: Path, path: str) -> Path:
    """Where a file of the model goes. Raises FailureError when that would leave the model's folder."""
    parts = path.split("/")
    if not path.isprintable() or "\\" in path or any(part in ("", ".", "..") for part in parts):
        raise FailureError("model_fetch_failed", f"refused a file that would leave the model's folder: {path!r}")
    return folder.joinpath(*parts)


@dataclass
class Remote:
    """One file on its way: what is known of it and which ranges of it are here."""

    path: str
    url: str
    size: int | None
    target: Path
    headers: dict[str, str]
    location: str | None = None
    etag: str | None = None
    done: set[int] = field(default_factory=set[int])
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def part(self) -> Path:
        """Where its bytes are collected."""
        return self.target.with_name(self.target.name + ".part")

    @property
    def sidecar(self) -> Path:
        """Which of its ranges are complete."""
        return self.target.with_name(self.target.name + ".part.json")

    @property
    def ranges(self) -> int:
        """How many ranges it has."""
        return -(-(self.size or 0) // RANGE)

    def length(self, index: int) -> int:
        """Bytes of one range."""
        return min(RANGE, (self.size or 0) - index * RANGE)

    def recall(self) -> None:
        """Take up what an earlier run left."""
        try:
            left = json.loads(self.sidecar.read_text())
            if left["size"] == self.size and left["range"] == RANGE and self.part.stat().st_size == self.size:
                self.etag = left["etag"]
                self.done = {index for index in left["done"] if 0 <= index < self.ranges}
        except (OSError, ValueError, KeyError, TypeError):
            self.done = set()

    def note(self) -> None:
        """Write down what is here; the caller holds the lock."""
        text = json.dumps({"size": self.size, "range": RANGE, "etag": self.etag, "done": sorted(self.done)})
        draft = self.sidecar.with_name(self.sidecar.name + ".new")
        draft.write_text(text)
        draft.replace(self.sidecar)


class Fetcher:
    """Fetches files side by side, each in ranges over several connections, and takes up what an earlier run left."""

    def __init__(
        self,
        *,
        folder: Path,
        transport: Http,
        clock: Clock,
        state: State,
        stop: threading.Event,
        refresh: Callable[[], dict[str, str]] | None = None,
    ) -> None:
        self._folder, self._http, self._clock, self._state, self._stop = folder, transport, clock, state, stop
        self._refresh = refresh
        self._refresh_lock = threading.Lock()
        self._refreshes = 0
        self._remotes: list[Remote] = []

    def fetch(self, files: Sequence[dict[str, Any]], headers: Mapping[str, str] | None = None) -> None:
        """Fetch `{path, url, size}` into the folder. Raises FailureError or StoppedError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        remotes = {
            entry["path"]: Remote(
                entry["path"],
                entry["url"],
                entry.get("size"),
                safe_target(self._folder, entry["path"]),
                dict(headers or {}),
            )
            for entry in files
        }
        missing = self._remotes = [remote for remote in remotes.values() if not self._is_here(remote)]
        for remote in missing:
            if remote.size is None:
                remote.size = self._retry(remote, lambda remote=remote: self._ask_size(remote))
            remote.target.parent.mkdir(parents=True, exist_ok=True)
            remote.recall()
        here = sum(remote.target.stat().st_size for remote in remotes.values() if remote.target.exists())
        here += sum(remote.length(index) for remote in missing for index in remote.done)
        total = here + sum(remote.length(i) for remote in missing for i in range(remote.ranges) if i not in remote.done)
        free = shutil.disk_usage(self._folder).free
        if total - here > free:
            raise FailureError(
                "model_fetch_failed", f"disk full: the model needs {total - here} more bytes, {free} are free"
            )
        self._state.fetched, self._state.total = here, total
        self._work(missing)

    def _is_here(self, remote: Remote) -> bool:
        return remote.target.is_file() and remote.size in (None, remote.target.stat().st_size)

    def _work(self, missing: Sequence[Remote]) -> None:
        todo: deque[tuple[Remote, int]] = deque()
        errors: list[BaseException] = []
        lock = threading.Lock()
        for remote in missing:
            if not remote.done:
                with remote.part.open("wb") as file:
                    file.truncate(remote.size)
            todo.extend((remote, index) for index in range(remote.ranges) if index not in remote.done)
            if len(remote.done) == remote.ranges:
                self._complete(remote)

        def work() -> None:
            while not errors and not self._stop.is_set():
                with lock:
                    if not todo:
                        return
                    remote, first, count = take_stretch(todo)
                try:
                    self._fetch_stretch(remote, first, count)
                except (FailureError, StoppedError) as error:
                    errors.append(error)
                except OSError as error:
                    errors.append(self._broken(remote, error))

        workers = [threading.Thread(target=work, name="fetch", daemon=True) for _ in range(CONNECTIONS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if errors:
            raise errors[0]
        if self._stop.is_set():
            raise StoppedError

    def _broken(self, remote: Remote, error: OSError) -> FailureError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            needed = max(0, (self._state.total or 0) - self._state.fetched)
            return FailureError("model_fetch_failed", f"disk full: the model needs {needed} more bytes")
        return FailureError("model_fetch_failed", f"{remote.path}: {error}")

    def _complete(self, remote: Remote) -> None:
        remote.part.replace(remote.target)
        remote.sidecar.unlink(missing_ok=True)

    def _retry(self, remote: Remote, once: Callable[[], Any]) -> Any:
        tries, seen = 0, self._state.fetched
        while not self._stop.is_set():
            try:
                return once()
            except AgainError as error:
                tries = 1 if self._state.fetched > seen else tries + 1
                seen = self._state.fetched
                if tries >= TRIES:
                    raise FailureError("model_fetch_failed", f"{remote.path}: {error}, after {tries} tries") from error
                backoff = min(60.0, 2.0 ** (tries - 1)) * random.uniform(0.5, 1)  # noqa: S311 - spreads calls, guards nothing
                self._clock.wait(self._stop, max(error.after, backoff))
        raise StoppedError

    def _open(self, remote: Remote, first: int, last: int) -> Any:
        """Ask for bytes; follows redirects by hand and remembers where they led. Raises AgainError or FailureError."""
        url, asked = remote.url, remote.location or remote.url
        headers = {**remote.headers, "Range": f"bytes={first}-{last}", "Accept-Encoding": "identity"}
        for _ in range(6):
            if urllib.parse.urlsplit(asked)[:2] != urllib.parse.urlsplit(url)[:2]:
                headers.pop("Authorization", None)
            try:
                answer = self._http.open("GET", asked, headers)
            except QUIET as error:
                raise AgainError(f"{type(error).__name__}: {error}") from error
            if answer.status in (200, 206, 416):
                remote.location = asked
                return answer
            with answer:
                if answer.status in (301, 302, 303, 307, 308):
                    target = urllib.parse.urljoin(asked, answer.headers.get("Location") or "")
                    if not target.startswith("https://") and asked.startswith("https://"):
                        raise FailureError(
                            "model_fetch_failed", f"{remote.path}: refused a redirect from https to http"
                        )
                    asked = target
                    continue
                self._refuse(remote, url, asked, answer)
        raise FailureError("model_fetch_failed", f"{remote.path}: too many redirects")

    def _refuse(self, remote: Remote, url: str, asked: str, answer: Any) -> None:
        """Always raises: AgainError where another try may help, else FailureError."""
        status = answer.status
        if status in (401, 403) and asked != url:
            remote.location = None
            raise AgainError(f"answered {status} behind a redirect", 1.0)
        if status == 403 and self._refresh is not None and self._refreshes < TRIES:
            with self._refresh_lock:
                if remote.url == url:
                    self._refreshes += 1
                    fresh = self._refresh()
                    for other in self._remotes:
                        other.url, other.location = fresh.get(other.path, other.url), None
            raise AgainError("its address had expired")
        if status in (408, 425, 429) or status >= 500:
            raise AgainError(f"answered {status}", retry_after(answer.headers))
        raise FailureError("model_fetch_failed", f"{remote.path}: the store answered {status}")

    def _ask_size(self, remote: Remote) -> int:
        with self._open(remote, 0, 0) as answer:
            total = (answer.headers.get("Content-Range") or "").rpartition("/")[2]
            if answer.status != 206:
                total = answer.headers.get("Content-Length") if answer.status == 200 else "0"
        if not total or not total.isdigit():
            raise FailureError("model_fetch_failed", f"{remote.path}: the store does not say how large it is")
        return int(total)

    def _fetch_stretch(self, remote: Remote, first: int, count: int) -> None:
        got = [0]
        self._retry(remote, lambda: self._pull(remote, first, count, got))

    def _arrived(self, remote: Remote, index: int) -> None:
        with remote.lock:
            remote.done.add(index)
            remote.note()
            if len(remote.done) == remote.ranges:
                self._complete(remote)

    def _is_whole(self, remote: Remote, answer: Any, start: int) -> bool:
        """Whether the answer is the whole file, not its bytes from `start` on. Raises AgainError and FailureError."""
        said = answer.headers.get("Content-Range") or ""
        total = answer.headers.get("Content-Length") if answer.status == 200 else said.rpartition("/")[2]
        if total is not None and total.isdigit() and int(total) != remote.size:
            message = f"size mismatch: the store has {total} bytes, {remote.size} were expected"
            raise FailureError("model_fetch_failed", f"{remote.path}: {message}")
        if answer.status == 200 and remote.ranges > 1:
            raise FailureError("model_fetch_failed", f"{remote.path}: the store does not answer range requests")
        if answer.status != 200 and (answer.status != 206 or not said.startswith(f"bytes {start}-")):
            raise AgainError(f"answered {answer.status} with range {said!r}")
        etag = answer.headers.get("ETag")
        if etag is not None:
            with remote.lock:
                if remote.etag not in (None, etag):
                    remote.sidecar.unlink(missing_ok=True)
                    raise FailureError("model_fetch_failed", f"{remote.path} changed while it was fetched")
                remote.etag = etag
        return bool(answer.status == 200)

    def _pull(self, remote: Remote, first: int, count: int, got: list[int]) -> None:
        """Fetch what is missing of some ranges; `got` counts what is here. Raises AgainError and FailureError."""
        start = first * RANGE
        length = sum(remote.length(index) for index in range(first, first + count))
        with self._open(remote, start + got[0], start + length - 1) as answer, remote.part.open("r+b") as file:
            if self._is_whole(remote, answer, start + got[0]):
                self._state.add_fetched(-got[0])
                got[0] = 0
            file.seek(start + got[0])
            # What a broken connection loses is one block, so the first ones are small; large ones spare the processor.
            block, memory = MIB // 16, memoryview(bytearray(min(MIB, length - got[0])))
            while got[0] < length:
                if self._stop.is_set():
                    raise StoppedError
                try:
                    # No block goes past a range's end, where it is noted.
                    read = answer.readinto(memory[: min(block, RANGE - got[0] % RANGE, length - got[0])])
                except QUIET as error:
                    raise AgainError(f"{type(error).__name__}: {error}") from error
                if not read:
                    raise AgainError("the connection ended early")
                file.write(memory[:read])
                got[0] += read
                block = min(MIB, 2 * block)
                self._state.add_fetched(read)
                if got[0] % RANGE == 0 or got[0] == length:
                    # What is noted has to survive this process.
                    file.flush()
                    self._arrived(remote, first + (got[0] - 1) // RANGE)


def take_stretch(todo: deque[tuple[Remote, int]]) -> tuple[Remote, int, int]:
    """Take neighbouring ranges of one file: its first one and how many; fewer when few are left for all connections."""
    most = max(1, min(STRETCH, len(todo) // CONNECTIONS))
    remote, first = todo.popleft()
    count = 1
    while count < most and todo and todo[0][0] is remote and todo[0][1] == first + count:
        todo.popleft()
        count += 1
    return remote, first, count


def wanted(names: Sequence[str], args: Sequence[str]) -> list[str]:
    """The files of a Hub repository that vLLM needs: one kind of weights, configuration, tokenizer, code."""
    kept = [
        name
        for name in names
        if not name.startswith((".", "original/", "onnx/", "openvino/", "assets/", "figures/", "coreml/"))
        and not re.search(r"\.(gguf|onnx|onnx_data|h5|msgpack|ot|tflite|mlmodel|md|png|jpe?g|gif|svg|pdf|mp4)$", name)
    ]
    whole = [name for name in kept if name.endswith(".safetensors")]
    if whole:
        kept = [name for name in kept if not re.search(r"\.(bin|pth|pt|ckpt)$|\.bin\.index\.json$", name)]
        # Mistral's repositories hold every weight twice; the second set is for its own loader.
        own = [name for name in whole if name.startswith("consolidated")]
        if own and len(own) < len(whole) and not any("mistral" in arg for arg in args):
            kept = [name for name in kept if not name.startswith("consolidated")]
    elif any(name.endswith(".bin") for name in kept):
        kept = [name for name in kept if not name.endswith((".pth", ".ckpt"))]
    return kept


class Hub:
    """The Hugging Face Hub, as far as listing and addressing files goes."""

    def __init__(self, assignment: Mapping[str, Any], transport: Http, clock: Clock, stop: threading.Event) -> None:
        self._model, self._endpoint = assignment["hub_model"], assignment["hub_endpoint"].rstrip("/")
        self._args, token = assignment["vllm_args"], assignment.get("hub_token")
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http, self._clock, self._stop = transport, clock, stop

    def files(self) -> list[dict[str, Any]]:
        """The files to fetch, all of one revision. Raises FailureError or StoppedError."""
        url = f"{self._endpoint}/api/models/{self._model}/revision/main?blobs=true"
        why = ""
        for tries in range(TRIES):
            after = 0.0
            try:
                answer = self._http.json("GET", url, self.headers, timeout=30)
                if answer.status == 200 and answer.data is not None:
                    return self._choose(answer.data)
                if answer.status in (401, 403):
                    raise FailureError(
                        "model_fetch_failed", f"{self._model}: not found, or gated and HF_TOKEN has no access"
                    )
                if answer.status == 404:
                    raise FailureError("model_fetch_failed", f"{self._model}: the Hub has no such model")
                after, why = answer.retry_after, f"answered {answer.status}"
            except QUIET as error:
                why = str(error)
            if self._clock.wait(self._stop, max(after, min(60.0, 2.0**tries))):
                raise StoppedError
        raise FailureError("model_fetch_failed", f"{self._model}: the Hub does not list its files: {why}")

    def _choose(self, listing: Mapping[str, Any]) -> list[dict[str, Any]]:
        sizes = {entry["rfilename"]: entry.get("size") for entry in listing["siblings"]}
        names = wanted(list(sizes), self._args)
        if not any(name.endswith((".safetensors", ".bin", ".pt", ".pth")) for name in names):
            raise FailureError(
                "model_fetch_failed", f"{self._model}: no weights that vLLM can load (safetensors or bin)"
            )
        base = f"{self._endpoint}/{self._model}/resolve/{listing.get('sha') or 'main'}"
        return [{"path": name, "url": f"{base}/{urllib.parse.quote(name)}", "size": sizes[name]} for name in names]


# ---- Processes

_CHILD = """
import os, sys
try:
    import ctypes
    ctypes.CDLL(None).prctl(1, int(sys.argv[2]), 0, 0, 0)
except (ImportError, OSError, AttributeError):
    pass
if os.getppid() != int(sys.argv[1]):
    os._exit(125)
try:
    os.execvp(sys.argv[3], sys.argv[3:])
except OSError as error:
    print(f"{sys.argv[3]}: {error}", flush=True)
    os._exit(127)
"""

# A vLLM that has done its imports (7 s of a processor, more from a cold disk) and waits for a line: its arguments.
_PRELOADED = """
import json, os, runpy, sys
script = sys.argv[1]
sys.path[0] = os.path.dirname(script)
sys.argv = [script, "serve"]
for name in ("vllm.entrypoints.cli.main", "vllm.entrypoints.cli.serve"):
    try:
        __import__(name)
    except Exception as error:
        print(f"{name} can't be loaded ahead: {error}", flush=True)
        break
line = sys.stdin.readline()
if not line:
    sys.exit()
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
sys.argv = [script, *json.loads(line)]
runpy.run_path(script, run_name="__main__")
"""


class Child:
    """A process in a group of its own, its output in a file, that does not outlive the thread that started it."""

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        log: Path,
        parting: int,
        cwd: Path,
        *,
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        wrapper = [sys.executable, "-I", "-S", "-c", _CHILD, str(os.getpid()), str(int(parting)), *command]
        with log.open("ab") as output:
            self.process = subprocess.Popen(  # noqa: S603 - a list, no shell
                wrapper,
                env=dict(environ),
                stdin=stdin,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=cwd,
            )
        self.log = log

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""
        return self.process.poll()

    def tell(self, line: str) -> bool:
        """Write it a line, its last one; whether it could be written."""
        if self.process.stdin is None:
            return False
        try:
            with self.process.stdin as stdin:
                stdin.write(f"{line}\n".encode())
        except OSError:
            return False
        return True

    def signal_group(self, number: int) -> None:
        """Send the whole group a signal."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return

    def stop(self, patience: float) -> int:
        """Ask it to end, and after so many seconds make it; its exit code."""
        if self.poll() is None:
            self.signal_group(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
        self.signal_group(signal.SIGKILL)
        return self.process.wait()


def tail(path: Path, lines: int = 200) -> list[str]:
    """The last lines of a file; none when there is no file."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 65536))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []


class Installer:
    """Puts vLLM into an environment of its own, once per machine and version."""

    def __init__(self, config: Config, environ: Mapping[str, str], log: Log, stop: threading.Event) -> None:
        self._config, self._environ, self._log, self._stop = config, environ, log, stop
        self.output = config.work / "install.log"

    def install(self) -> Path:
        """The `vllm` to run. Raises FailureError or StoppedError."""
        if self._config.executable is not None and os.access(self._config.executable, os.X_OK):
            return Path(self._config.executable)
        requirement = self._config.requirement
        slug = re.sub(r"[^A-Za-z0-9.]+", "-", requirement)[:40]
        name = f"{slug}-{hashlib.sha256(requirement.encode()).hexdigest()[:8]}"
        folder = Path(self._environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpulaunch" / "venvs" / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.parent / f"{name}.lock").open("w") as lock:
            while not try_lock(lock):
                if self._stop.wait(1):
                    raise StoppedError
            if not (folder / ".complete").exists():
                shutil.rmtree(folder, ignore_errors=True)
                self._fill(folder, requirement)
                (folder / ".complete").touch()
        return folder / "bin" / "vllm"

    def _fill(self, folder: Path, requirement: str) -> None:
        uv = shutil.which("uv") or shutil.which("uv", path=f"{Path.home()}/.local/bin:{Path.home()}/.cargo/bin")
        python = str(folder / "bin" / "python")
        # An interpreter of uv's own comes with the C headers that Triton compiles against; a distribution's often not.
        ways = [
            [uv, "venv", "--python", "3.12", "--python-preference", kind, str(folder)]
            for kind in ("only-managed", "system")
            if uv
        ]
        ways += [[found, "-m", "venv", str(folder)] for found in self._pythons()]
        if not any(self._run(way) and Path(python).exists() for way in ways):
            raise FailureError("install_failed", f"no environment could be made: {self._last_line()}")
        if uv is None and self._run([python, "-m", "pip", "install", "--quiet", "uv"]):
            uv = str(folder / "bin" / "uv")
        command = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install"]
        if not self._run([*command, requirement]):
            raise FailureError("install_failed", f"{requirement} could not be installed: {self._last_line()}")
        if not os.access(folder / "bin" / "vllm", os.X_OK):
            raise FailureError("install_failed", f"{requirement} brought no vllm")

    @staticmethod
    def _pythons() -> list[str]:
        names = ("python3.12", "python3.11", "python3.13", "python3.10")
        return [*(found for found in map(shutil.which, names) if found), sys.executable]

    def _run(self, command: Sequence[str]) -> bool:
        self._log(f"running {' '.join(command)}")
        child = Child(command, self._environ, self.output, signal.SIGKILL, self._config.work)
        while child.poll() is None:
            if self._stop.wait(0.2):
                child.stop(2)
                raise StoppedError
        return child.poll() == 0

    def _last_line(self) -> str:
        lines = [line for line in tail(self.output, 20) if line.strip()]
        return lines[-1] if lines else "see install.log"


def try_lock(file: Any) -> bool:
    """Take the lock of an open file if nobody has it; it is held until the file is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # A file system without locks can't tell: go on, the script that started us holds a lock too.
        return error.errno not in (errno.EAGAIN, errno.EACCES)
    return True


def port_is_free(port: int) -> bool:
    """Whether something may listen on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))  # noqa: S104 - vLLM will listen there
        except OSError:
            return False
        return True


def free_port() -> int:
    """A port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))  # noqa: S104 - vLLM will listen there
        return probe.getsockname()[1]


class Server:
    """vLLM: loaded, started, asked for its health and load, stopped. Used by the main thread, `load` by any."""

    def __init__(self, config: Config, transport: Http, clock: Clock, state: State) -> None:
        self._config, self._http, self._clock, self._state = config, transport, clock, state
        self._child: Child | None = None
        self._loaded: Child | None = None
        self._patience_until: float | None = None
        self._starts = 0
        self._plan: tuple[Path, Mapping[str, Any], Mapping[str, str]] | None = None
        self.output = config.work / "vllm.log"

    def prepare(self, vllm: Path, assignment: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        """What to start; its program is loaded at once, while the model may still be on its way."""
        if self._plan is not None:
            return
        path = f"{vllm.parent}{os.pathsep}{environ.get('PATH', os.defpath)}"
        extra = {"PATH": path, "VLLM_API_KEY": assignment["api_key"]}
        self._plan = (vllm, assignment, {"VLLM_NO_USAGE_STATS": "1", **environ, **extra})
        found = sorted(vllm.resolve().parent.parent.glob("lib/python*/site-packages/vllm-*.dist-info"))
        self._state.version = found[-1].name[len("vllm-") : -len(".dist-info")][:60] if found else None
        python = vllm.parent / "python"
        if python.exists() and is_command_of_vllm(vllm):
            command = [str(python), "-c", _PRELOADED, str(vllm)]
            self._loaded = self._run(command, subprocess.PIPE)

    def _run(self, command: Sequence[str], stdin: int = subprocess.DEVNULL) -> Child:
        environ: Mapping[str, str] = {} if self._plan is None else self._plan[2]
        return Child(command, environ, self.output, signal.SIGTERM, self._config.work, stdin=stdin)

    def advance(self) -> bool:
        """Start it once its port is free, look after it; whether it is healthy. Raises FailureError."""
        if self._child is None:
            self._start()
        if self._child is None:
            return False
        code = self._child.poll()
        if code is not None:
            self._ended(code)
            return False
        if self._state.phase == SERVING:
            return True
        try:
            return self._http.json("GET", f"{self._address}/health", {}, timeout=2).status == 200
        except QUIET:
            return False

    @property
    def _address(self) -> str:
        return f"http://127.0.0.1:{self._state.port}"

    def _start(self) -> None:
        if self._plan is None:
            raise FailureError("server_failed", "nothing to start")
        vllm, assignment, _ = self._plan
        port = assignment.get("port") or free_port()
        if not port_is_free(port):
            until = self._patience_until = self._patience_until or self._clock.ticks() + PORT_PATIENCE_SECONDS
            if self._clock.ticks() >= until:
                raise FailureError("port_taken", f"port {port} is taken by another program")
            return
        self._state.port = port
        self._starts += 1
        command = ["serve", str(self._config.work / "model")]
        command += ["--served-model-name", assignment["model_name"], "--host", "0.0.0.0", "--port", str(port)]  # noqa: S104 - an endpoint is for others
        if not any(one.partition("=")[0].replace("_", "-") == "--max-model-len" for one in assignment["vllm_args"]):
            # A model's own context is often more than fits beside its weights; vLLM then ends after minutes that are
            # paid for. This is the longest that fits.
            command += ["--max-model-len", "auto"]
        command += assignment["vllm_args"]
        loaded, self._loaded = self._loaded, None
        if loaded is not None and loaded.poll() is None and loaded.tell(json.dumps(command)):
            self._child = loaded
        else:
            self._child = self._run([str(vllm), *command])

    def _ended(self, code: int) -> None:
        lines = tail(self.output, 50)
        taken = any("address already in use" in line.lower() for line in lines)
        if taken and self._plan is not None and not self._plan[1].get("port") and self._starts < 3:
            self._child = None
            return
        if taken:
            raise FailureError("port_taken", f"port {self._state.port} is taken by another program")
        last = next((line for line in reversed(lines) if line.strip()), "no output")
        raise FailureError("server_failed", f"vLLM ended with {code}: {last}")

    def load(self) -> dict[str, float]:
        """Running and waiting requests by vLLM's own metrics; empty when it does not say."""
        try:
            with self._http.open("GET", f"{self._address}/metrics", {}, timeout=3) as answer:
                text = answer.read(8 * MIB).decode(errors="replace") if answer.status == 200 else ""
        except QUIET:
            return {}
        return parse_load(text)

    def stop(self, patience: float = 10.0) -> None:
        """End it and all its processes."""
        for child in (self._child, self._loaded):
            if child is not None:
                child.stop(patience)


def is_command_of_vllm(script: Path) -> bool:
    """Whether this is the command that comes with vLLM, and not somebody's wrapper around it."""
    try:
        with script.open("rb") as file:
            return b"from vllm.entrypoints.cli.main import main" in file.read(4096)
    except OSError:
        return False


def parse_load(text: str) -> dict[str, float]:
    """The sums over all models and engines of vLLM's gauges of running and waiting requests."""
    load: dict[str, float] = {}
    for kind in ("running", "waiting"):
        found = re.findall(rf"^vllm:num_requests_{kind}(?:\{{[^}}]*\}})? ([0-9.eE+]+)\s*$", text, re.MULTILINE)
        if found:
            load[f"{kind}_requests"] = sum(map(float, found))
    return load


class Job:
    """The user's command, run once against the node's own endpoint."""

    def __init__(self, config: Config, clock: Clock, state: State) -> None:
        self._config, self._clock, self._state = config, clock, state
        self._child: Child | None = None
        self._until: float | None = None
        self._result = config.work / "job.result"

    def advance(self, assignment: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        """Start it if there is one and it has not run yet, and look after it."""
        job = assignment.get("job")
        if not job or self._state.exit_code is not None:
            return
        if self._child is None:
            if self._result.exists():
                self._state.finish_job(int(self._result.read_text()))
                return
            minutes = job.get("timeout_minutes")
            self._until = None if minutes is None else self._clock.ticks() + minutes * 60
            address = {
                "OPENAI_BASE_URL": f"http://127.0.0.1:{self._state.port}/v1",
                "OPENAI_API_KEY": assignment["api_key"],
            }
            work = self._config.work
            self._child = Child(job["command"], {**environ, **address}, work / "job.log", signal.SIGKILL, work)
        code = self._child.poll()
        if code is None and self._until is not None and self._clock.ticks() >= self._until:
            self._child.stop(5)
            code = 124
        if code is not None:
            self._child.signal_group(signal.SIGKILL)
            self._result.write_text(str(code))
            self._state.finish_job(code)

    def stop(self) -> None:
        """End it if it runs."""
        if self._child is not None and self._child.poll() is None:
            self._child.stop(5)


# ---- The cloud: notices, and the end of the machine


class Cloud:
    """What the machine's surroundings say, and how the machine is taken away."""

    def __init__(
        self, config: Config, transport: Http, clock: Clock, log: Log, run: Callable[..., Any] = subprocess.run
    ) -> None:
        self._config, self._http, self._clock, self._log, self._run = config, transport, clock, log, run
        self._imds_token = ("", float("-inf"))

    def _metadata(
        self, path: str, headers: Mapping[str, str], method: str = "GET", timeout: float = 10
    ) -> tuple[int, str]:
        base = self._config.metadata_url or "http://169.254.169.254"
        with self._http.open(method, f"{base}{path}", headers, timeout=timeout) as answer:
            return answer.status, answer.read(MIB).decode(errors="replace")

    @property
    def warns(self) -> bool:
        """Whether this cloud announces that it takes machines back."""
        return self._config.cloud in ("azure", "aws", "gcp")

    def eviction(self) -> tuple[bool, float | None]:
        """Whether the cloud takes the machine back, and in how many seconds if it says. Raises OSError and the like."""
        return {"azure": self._azure_notice, "aws": self._aws_notice, "gcp": self._gcp_notice}[self._config.cloud]()

    def _azure_notice(self) -> tuple[bool, float | None]:
        # The first call switches the service on, which may take two minutes.
        status, text = self._metadata(
            "/metadata/scheduledevents?api-version=2020-07-01", {"Metadata": "true"}, timeout=120
        )
        events: list[dict[str, Any]] = json.loads(text).get("Events", []) if status == 200 else []
        for event in events:
            # In an availability set events of the other machines are shown as well.
            mine = not event.get("Resources") or self._azure_name() in (None, *event["Resources"])
            if event.get("EventType") in ("Preempt", "Terminate") and mine:
                moment = email.utils.parsedate_to_datetime(event["NotBefore"]) if event.get("NotBefore") else None
                return True, max(0.0, moment.timestamp() - self._clock.now()) if moment else None
        return False, None

    def _azure_name(self) -> str | None:
        status, text = self._metadata("/metadata/instance/compute?api-version=2021-02-01", {"Metadata": "true"})
        return json.loads(text).get("name") if status == 200 else None

    def _aws_notice(self) -> tuple[bool, float | None]:
        token, since = self._imds_token
        if self._clock.ticks() - since > 3600:
            asked = {"X-aws-ec2-metadata-token-ttl-seconds": "21600"}
            _, token = self._metadata("/latest/api/token", asked, "PUT")
            self._imds_token = (token, self._clock.ticks())
        status, text = self._metadata("/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token})
        if status == 401:
            self._imds_token = ("", float("-inf"))
        return (
            (True, max(0.0, parse_time(json.loads(text)["time"]) - self._clock.now()))
            if status == 200
            else (False, None)
        )

    def _gcp_notice(self) -> tuple[bool, float | None]:
        path = "/computeMetadata/v1/instance/preempted"
        status, text = self._metadata(path, {"Metadata-Flavor": "Google"})
        return status == 200 and text.strip() == "TRUE", 30.0

    def watch(self, state: State, over: threading.Event) -> None:
        """Look for a notice every second until there is one or the agent ends."""
        while not over.is_set():
            try:
                coming, left = self.eviction()
            except (*QUIET, ValueError, KeyError, TypeError, AttributeError) as error:
                self._log(f"no word from the metadata service: {error}")
                self._clock.wait(over, 30)
                continue
            if coming:
                state.warn("eviction", None if left is None else min(left, 86400.0))
                return
            self._clock.wait(over, 1)

    def end_machine(self) -> None:
        """Take the machine away, as far as the node can; returns when there is nothing more to try.

        On Azure, GCP and AWS it returns only where asking is in vain: otherwise it waits for the machine to die.
        """
        steps: dict[str, list[Callable[[], bool]]] = {
            "slurm": [self._scancel],
            "azure": [self._azure_delete, self._azure_deallocate],
            "gcp": [self._gcp_delete, self._shutdown],
            "aws": [self._shutdown],
            "kubernetes": [self._delete_pod],
        }
        if self._config.cloud not in steps:
            return
        machine = self._config.cloud in ("azure", "gcp", "aws")
        for number in range(1000):
            granted = False
            for step in steps[self._config.cloud]:
                try:
                    granted |= step()
                except (*QUIET, ValueError, KeyError, subprocess.SubprocessError) as error:
                    self._log(f"{step.__name__}: {error}")
                # Granted and yet alive after some rounds: deletions fail too, so the next best is asked for as well.
                if granted and number < 3:
                    break
            if not machine and (granted or number >= 3):
                self._log("asked for its end" if granted else "this node can't take itself away; only processes end")
                return
            self._clock.wait(threading.Event(), 60 if granted else 10)

    def _azure_call(self, method: str, path: Callable[[Mapping[str, str]], str | None]) -> bool:
        headers = {"Metadata": "true"}
        compute = json.loads(self._metadata("/metadata/instance/compute?api-version=2021-02-01", headers)[1])
        resource = urllib.parse.quote("https://management.azure.com/", safe="")
        asked = f"/metadata/identity/oauth2/token?api-version=2018-02-01&resource={resource}"
        token = json.loads(self._metadata(asked, headers)[1])["access_token"]
        target = path(compute)
        if target is None:
            return False
        group = f"/subscriptions/{compute['subscriptionId']}/resourceGroups/{compute['resourceGroupName']}"
        url = f"{self._config.management_url}{group}{target}"
        answer = self._http.json(method, url, {"Authorization": f"Bearer {token}", "Content-Length": "0"}, timeout=60)
        self._log(f"{method} {urllib.parse.urlsplit(url).path}: {answer.status}")
        return 200 <= answer.status < 300 or answer.status == 404

    def _azure_delete(self) -> bool:
        def own(compute: Mapping[str, str]) -> str | None:
            # SkyPilot names a cluster's own group after it; a shared group holds other people's machines.
            mine = self._config.cluster and compute["resourceGroupName"].lower().startswith(
                f"{self._config.cluster}-".lower()
            )
            kinds = urllib.parse.quote("Microsoft.Compute/virtualMachines", safe="")
            return f"?api-version=2021-04-01&forceDeletionTypes={kinds}" if mine else None

        return self._azure_call("DELETE", own)

    def _azure_deallocate(self) -> bool:
        def machine(compute: Mapping[str, str]) -> str:
            return f"/providers/Microsoft.Compute/virtualMachines/{compute['name']}/deallocate?api-version=2024-07-01"

        return self._azure_call("POST", machine)

    def _gcp_delete(self) -> bool:
        def ask(path: str) -> str:
            return self._metadata(f"/computeMetadata/v1/{path}", {"Metadata-Flavor": "Google"})[1]

        token = json.loads(ask("instance/service-accounts/default/token"))["access_token"]
        zone = ask("instance/zone").rpartition("/")[2]
        url = f"https://compute.googleapis.com/compute/v1/projects/{ask('project/project-id')}/zones/{zone}/instances/"
        answer = self._http.json("DELETE", url + ask("instance/name"), {"Authorization": f"Bearer {token}"})
        return 200 <= answer.status < 300

    def _shutdown(self) -> bool:
        command = ["shutdown", "-h", "now"] if os.geteuid() == 0 else ["sudo", "-n", "shutdown", "-h", "now"]
        return self._run(command, timeout=30, check=False).returncode == 0

    def _delete_pod(self) -> bool:
        account = Path("/var/run/secrets/kubernetes.io/serviceaccount")
        token, namespace = ((account / name).read_text() for name in ("token", "namespace"))
        host = f"{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
        url = f"https://{host}/api/v1/namespaces/{namespace}/pods/{socket.gethostname()}"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"}, method="DELETE")
        context = ssl.create_default_context(cafile=str(account / "ca.crt"))
        with urllib.request.urlopen(request, timeout=15, context=context) as answer:  # noqa: S310 - an address made here, of the cluster itself
            return 200 <= answer.status < 300

    def _scancel(self) -> bool:
        job = slurm_job(os.environ, Path("/proc"))
        places = f"{os.environ.get('PATH', os.defpath)}:/usr/bin:/usr/local/bin:/opt/slurm/bin:/usr/local/slurm/bin"
        scancel = shutil.which("scancel", path=places)
        if job is None or scancel is None:
            self._log(f"no {'job id' if job is None else 'scancel'} to be found")
            return False
        self._log(f"scancel {job}")
        return self._run([scancel, job], timeout=30, check=False).returncode == 0


def slurm_job(environ: Mapping[str, str], proc: Path) -> str | None:
    """The Slurm job this process belongs to: by its environment, its control group, or an ancestor's environment."""
    if environ.get("SLURM_JOB_ID", "").isdigit():
        return environ["SLURM_JOB_ID"]
    pid = "self"
    try:
        found = re.search(r"/job_(\d+)", (proc / pid / "cgroup").read_text())
        while found is None and pid not in ("0", "1"):
            pid = (proc / pid / "stat").read_text().rpartition(")")[2].split()[1]
            inherited = (proc / pid / "environ").read_text(errors="replace")
            found = re.search(r"(?:^|\0)SLURM_JOB_ID=(\d+)\0", inherited)
    except OSError:
        return None
    return None if found is None else found[1]


# ---- The agent


class Background:
    """A thread with an outcome."""

    def __init__(self, name: str, work: Callable[[], Any], code: str) -> None:
        self.value: Any = None
        self._error: BaseException | None = None
        self._code = code
        self._done = threading.Event()

        def run() -> None:
            try:
                self.value = work()
            # Whatever it is, the main thread must hear of it.
            except Exception as error:
                self._error = error
            self._done.set()

        threading.Thread(target=run, name=name, daemon=True).start()

    def finished(self) -> bool:
        """Whether it has done its work. Raises FailureError."""
        if isinstance(self._error, FailureError):
            raise self._error
        if self._error is not None and not isinstance(self._error, StoppedError):
            raise FailureError(self._code, f"{type(self._error).__name__}: {self._error}")
        return self._done.is_set() and self._error is None


class Agent:
    """One attempt's life on its node. The main thread decides; others fetch, install, report and watch."""

    def __init__(self, config: Config, environ: Mapping[str, str], transport: Http, clock: Clock, log: Log) -> None:
        self._config, self._environ, self._http, self._clock, self._log = config, environ, transport, clock, log
        self._state, self._lease = State(log), Lease(clock, config.lease_seconds)
        self._deadline = config.deadline
        self._deadline_ticks = clock.ticks() + config.deadline - clock.now()
        self._stop, self._over = threading.Event(), threading.Event()
        self._terminated = False
        self._assignment: dict[str, Any] | None = None
        self._server = Server(config, transport, clock, self._state)
        self._job = Job(config, clock, self._state)
        self._cloud = Cloud(config, transport, clock, log)
        self._installer = Installer(config, environ, log, self._stop)
        self._control = ControlPlane(config, transport, self._lease, log) if config.url else None
        self._ear: Reporter | StatusServer | None = None
        log.hide(config.node_token, config.agent_token)
        if config.assignment is not None:
            self._take(config.assignment)

    def _take(self, assignment: dict[str, Any]) -> None:
        self._log.hide(assignment["api_key"], assignment.get("hub_token"))
        self._deadline = min(self._deadline, parse_time(assignment["deadline_at"]))
        self._assignment = assignment

    def _assigned(self) -> dict[str, Any]:
        """The assignment, asked for until it comes. Raises StoppedError."""
        tries = 0
        while self._assignment is None and self._control is not None:
            try:
                answer = self._control.call("assignment")
                if "vllm_args" in answer:
                    self._take(answer)
                    break
            except AgainError as error:
                tries += 1
                self._log(f"no assignment yet, {error}")
                if self._clock.wait(self._stop, max(error.after, min(30.0, 2.0 ** min(tries, 5)))):
                    raise StoppedError from error
            if self._lease.over:
                raise StoppedError
        if self._assignment is None:
            raise FailureError("model_fetch_failed", "the task has neither an assignment nor a control plane's address")
        return self._assignment

    def _fresh_urls(self) -> dict[str, str]:
        if self._control is None:
            return {}
        return {entry["path"]: entry["url"] for entry in self._control.call("assignment").get("files", [])}

    def _fetch(self) -> None:
        assignment = self._assigned()
        refresh = self._fresh_urls if self._control is not None else None
        hub = Hub(assignment, self._http, self._clock, self._stop) if assignment.get("hub_model") else None
        files = hub.files() if hub else assignment["files"]
        if hub is not None:
            refresh = None
        fetcher = Fetcher(
            folder=self._config.work / "model",
            transport=self._http,
            clock=self._clock,
            state=self._state,
            stop=self._stop,
            refresh=refresh,
        )
        fetcher.fetch(files, hub.headers if hub else None)

    def run(self) -> int:
        """Live the attempt's life; the exit code."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        reason = "failure"
        try:
            reason = self._live()
        finally:
            try:
                self._end(reason)
            finally:
                self._cloud.end_machine()
                self._log("ended")
        return 0 if reason == "told" else 1

    def _on_signal(self, _number: int, _frame: Any) -> None:
        self._terminated = True

    def _live(self) -> str:
        self._listen()
        self._state.tail = lambda: tail(self._server.output) or tail(self._installer.output)
        installed = Background("install", self._installer.install, "install_failed")
        fetched = Background("fetch", self._fetch, "model_fetch_failed")
        if self._cloud.warns:
            threading.Thread(target=self._cloud.watch, args=(self._state, self._over), daemon=True).start()
        shown = self._clock.ticks()
        while True:
            reason = self._why_end()
            if reason is not None:
                return reason
            if self._state.phase != FAILED:
                try:
                    self._advance(installed, fetched)
                except FailureError as failure:
                    self._fail(failure)
                except Exception as error:
                    # Nobody could tell a node without an agent from one that works: say it and stay.
                    self._fail(FailureError("server_failed", f"{type(error).__name__}: {error}"))
            if self._clock.ticks() - shown >= 15 and self._state.phase in (INSTALLING, LOADING):
                shown = self._clock.ticks()
                self._log(
                    f"{self._state.phase}: {self._state.fetched // MIB} of {(self._state.total or 0) // MIB} MiB here"
                )
            time.sleep(0.1)

    def _listen(self) -> None:
        """Start to report or to answer. A taken port may still be a killed agent's, so there is some patience."""
        if self._control is not None:
            reporter = Reporter(
                state=self._state,
                control=self._control,
                lease=self._lease,
                clock=self._clock,
                load=self._server.load,
                log=self._log,
            )
            threading.Thread(target=reporter.run, args=(self._over,), name="report", daemon=True).start()
            self._ear = reporter
            return
        for _ in range(int(PORT_PATIENCE_SECONDS)):
            try:
                self._ear = StatusServer(
                    self._config.agent_port,
                    self._config.agent_token,
                    self._state,
                    lambda: self._lease.renew(self._config.lease_seconds),
                )
                break
            except OSError as error:
                self._log(f"port {self._config.agent_port}: {error}")
                self._clock.wait(self._stop, 1)
        else:
            raise SystemExit("the agent's port is taken")
        threading.Thread(target=self._ear.serve_forever, name="status", daemon=True).start()

    def _why_end(self) -> str | None:
        if self._lease.over:
            return "told"
        if self._terminated:
            self._state.warn("sigterm")
        elif self._clock.now() >= self._deadline or self._clock.ticks() >= self._deadline_ticks:
            self._state.warn("deadline")
        elif self._lease.lost:
            self._state.warn("lease_lost")
        return self._state.notice

    def _advance(self, installed: Background, fetched: Background) -> None:
        """One look at what goes on, and the next thing begun."""
        state = self._state
        here = fetched.finished()
        if state.phase == INSTALLING and installed.finished():
            state.enter(LOADING)
        if state.phase == LOADING and self._assignment is not None:
            self._server.prepare(installed.value, self._assignment, self._environ)
        if state.phase == LOADING and here:
            state.enter(STARTING)
        if state.phase in (STARTING, SERVING) and self._server.advance():
            state.enter(SERVING, f"on port {state.port}")
            self._job.advance(self._assigned(), self._environ)

    def _fail(self, failure: FailureError) -> None:
        """Say so and stay: the machine ends by the control plane's word, the deadline or the lease."""
        self._state.enter(FAILED, failure.detail, failure.code)
        for line in self._state.tail()[-20:]:
            self._log(f"| {line}")
        self._stop.set()
        self._job.stop()
        self._server.stop(5)

    def _grace(self, reason: str) -> float:
        """Seconds in which the notice can be heard and requests can finish."""
        if reason == "eviction":
            left = self._state.seconds_left
            return 20.0 if left is None else max(0.0, min(120.0, left - 8))
        # Slurm and containers kill 30 s after SIGTERM; whom the control plane has lost can't hear much.
        return {"sigterm": 10.0, "deadline": 2.0, "lease_lost": 1.0}.get(reason, 0.0)

    def _end(self, reason: str) -> None:
        self._log(f"ending: {reason}")
        self._stop.set()
        until = self._clock.ticks() + self._grace(reason)
        while self._clock.ticks() < until and not self._lease.over:
            heard = self._ear is not None and self._ear.noticed.is_set()
            if heard and (reason not in ("eviction", "sigterm") or not sum(self._server.load().values())):
                break
            time.sleep(0.1)
        self._state.enter(STOPPING, f"ending: {reason}")
        self._job.stop()
        self._server.stop()
        self._over.set()
        # From here on only the machine's end is waited for, and whoever ends it sooner is welcome.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        shutil.rmtree(self._config.work / "model", ignore_errors=True)


def protect() -> None:
    """Keep this process' memory and first environment from other processes of the same user."""
    try:
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
    except (OSError, AttributeError):
        return


def main() -> int:
    """Run the agent."""
    protect()
    log = Log()
    config = Config.take(os.environ)
    os.umask(0o077)
    config.work.mkdir(parents=True, exist_ok=True)
    with (config.work / "agent.lock").open("w") as lock:
        if not try_lock(lock):
            log("another agent runs this attempt")
            return 0
        return Agent(config, dict(os.environ), Http(), Clock(), log).run()


if __name__ == "__main__":
    sys.exit(main())
