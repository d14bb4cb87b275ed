"""One attempt's life on its node: what runs side by side, in which phase, and why it ends."""

from __future__ import annotations

import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from shared.agent.node.clock import NodeClock, parse_time
from shared.agent.node.config import Config
from shared.agent.node.errors import FatalError, FetchError, RetryableError, StoppedError, T, backoff
from shared.agent.node.fetch import Fetcher
from shared.agent.node.host import cloud_node, end_machine, watch_interruption
from shared.agent.node.install import Installer
from shared.agent.node.job import JobRun
from shared.agent.node.log import Log
from shared.agent.node.process import tail
from shared.agent.node.report import ControlPlane, Reporter, StatusServer
from shared.agent.node.serve import PORT_PATIENCE_SECONDS, VllmServer
from shared.agent.node.state import FAILED, INSTALLING, LOADING, SERVING, STARTING, STOPPING, Lease, State
from shared.agent.node.tls import KEY_FILE
from shared.agent.node.transport import MIB, Http

OVER = "the control plane ended the attempt"


def begin(name: str, work: Callable[[], T]) -> Future[T]:
    """Work on a thread of its own, which does not keep the agent from ending as an executor's would."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:  # whatever it is, the main thread reports it
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


def finished(work: Future[Any], code: str) -> bool:
    """Raises FatalError, by default with this code, if the work failed."""
    error = work.exception() if work.done() else None
    if isinstance(error, FatalError):
        raise error
    if error is not None and not isinstance(error, StoppedError):
        raise FatalError(code, f"{type(error).__name__}: {error}")
    return work.done() and error is None


class Agent:
    """One attempt's life on its node. The main thread decides; others fetch, install, report and watch."""

    def __init__(self, config: Config, environ: Mapping[str, str], transport: Http, clock: NodeClock, log: Log) -> None:
        self._config, self._environ, self._http, self._clock, self._log = config, environ, transport, clock, log
        self._state, self._lease = State(log), Lease(clock, config.lease_seconds)
        self._deadline = config.deadline
        self._deadline_ticks = clock.ticks() + config.deadline - clock.now()
        self._stop, self._over = threading.Event(), threading.Event()
        self._terminated = False
        self._assignment: dict[str, Any] | None = None
        self._server = VllmServer(config, transport, clock, self._state)
        self._job = JobRun(config, clock, self._state)
        self._node = cloud_node(config, transport, clock, log)
        self._installer = Installer(config, environ, log, self._stop)
        self._control = ControlPlane(config, transport, self._lease) if config.url else None
        self._channel: Reporter | StatusServer | None = None
        log.hide(config.node_token, config.agent_token)
        if config.assignment is not None:
            self._take(config.assignment)

    def _take(self, assignment: dict[str, Any]) -> None:
        self._log.hide(assignment["api_key"], assignment.get("hub_token"))
        self._deadline = min(self._deadline, parse_time(assignment["deadline_at"]))
        self._assignment = assignment

    def _assigned(self) -> dict[str, Any]:
        """The assignment, asked for until it comes.

        Raises:
            FetchError: The control plane cannot list the model's files, or the task names no control plane.
            StoppedError: The agent is ending.
        """
        tries = 0
        while self._assignment is None and self._control is not None:
            try:
                self._take(_complete(self._control.assignment(), self._config))
            except RetryableError as error:
                tries += 1
                self._log(f"no assignment yet: {error}")
                if self._clock.wait(self._stop, backoff(error, tries, 30.0)):
                    raise StoppedError from error
        if self._assignment is None:
            raise FetchError("the task contains neither an assignment nor the address of a control plane")
        return self._assignment

    def _fetch(self) -> None:
        assignment = self._assigned()
        for name, files in folders_of(assignment).items():
            refresh = None if self._control is None else partial(_fresh_urls, self._control, name)
            folder = self._config.work / name
            fetcher = Fetcher(folder, self._http, self._clock, self._state, self._stop, refresh=refresh)
            fetcher.fetch(files, _hub_headers(assignment, files))

    def run(self) -> int:
        """Run the attempt from start to end; return the exit code."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        reason = "failure"
        try:
            reason = self._live()
        finally:
            try:
                self._end(reason)
            finally:
                end_machine(self._node, self._clock, self._log)
                self._log("ended")
        return 0 if reason == OVER else 1

    def _on_signal(self, _number: int, _frame: Any) -> None:
        self._terminated = True

    def _live(self) -> str:
        self._listen()
        self._state.tail = lambda: tail(self._server.output) or tail(self._installer.output)
        installed, fetched = begin("install", self._installer.install), begin("fetch", self._fetch)
        watched = (self._node, self._state, self._clock, self._log, self._over)
        threading.Thread(target=watch_interruption, args=watched, name="watch", daemon=True).start()
        shown = self._clock.ticks()
        while True:
            reason = self._why_end()
            if reason is not None:
                return reason
            if self._state.phase != FAILED:
                try:
                    self._advance(installed, fetched)
                except FatalError as failure:
                    self._fail(failure)
                except Exception as error:
                    # A node whose agent has exited looks like one that works: report the failure and stay.
                    self._fail(FatalError("server_failed", f"{type(error).__name__}: {error}"))
            if self._clock.ticks() - shown >= 15 and self._state.phase in (INSTALLING, LOADING):
                shown = self._clock.ticks()
                self._log(
                    f"{self._state.phase}: {self._state.fetched // MIB} of {(self._state.total or 0) // MIB} MiB here"
                )
            time.sleep(0.1)

    def _listen(self) -> None:
        """Start to report or to answer. A killed agent may still hold the port, so try for some seconds."""
        if self._control is not None:
            reporter = Reporter(self._state, self._control, self._lease, self._clock, self._server.load, self._log)
            threading.Thread(target=reporter.run, args=(self._over,), name="report", daemon=True).start()
            self._channel = reporter
            return
        for _ in range(int(PORT_PATIENCE_SECONDS)):
            try:
                self._channel = StatusServer(
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
        threading.Thread(target=self._channel.serve_forever, name="status", daemon=True).start()

    def _why_end(self) -> str | None:
        if self._lease.over:
            return OVER
        if self._terminated:
            self._state.warn("sigterm")
        elif self._clock.now() >= self._deadline or self._clock.ticks() >= self._deadline_ticks:
            self._state.warn("deadline")
        elif self._lease.lost:
            self._state.warn("lease_lost")
        return self._state.notice

    def _advance(self, installed: Future[Path], fetched: Future[None]) -> None:
        """Check what is running and start what comes next."""
        state = self._state
        here = finished(fetched, "model_fetch_failed")
        if state.phase == INSTALLING and finished(installed, "install_failed"):
            state.enter(LOADING)
        if state.phase == LOADING and self._assignment is not None:
            self._server.prepare(installed.result(), self._assignment, self._environ)
        if state.phase == LOADING and here:
            state.enter(STARTING)
        if state.phase in (STARTING, SERVING) and self._server.advance():
            state.enter(SERVING, f"on port {state.port}")
            self._job.advance(self._assigned(), self._environ)

    def _fail(self, failure: FatalError) -> None:
        """Report the failure and stay: the control plane, the deadline or the lease ends the machine."""
        self._state.evidence = failure.evidence
        self._state.enter(FAILED, failure.detail, failure.code)
        for line in self._state.tail()[-20:]:
            self._log(f"| {line}")
        self._stop.set()
        self._job.stop()
        self._server.stop(5)

    def _grace(self, reason: str) -> float:
        """Seconds for the notice to be read and for requests to finish."""
        if reason == "eviction":
            left = self._state.seconds_left
            return 20.0 if left is None else max(0.0, min(120.0, left - 8))
        # Slurm and containers kill 30 s after SIGTERM; a control plane that lost the node reads no notice.
        return {"sigterm": 10.0, "deadline": 2.0, "lease_lost": 1.0}.get(reason, 0.0)

    def _end(self, reason: str) -> None:
        self._log(f"ending: {reason}")
        self._stop.set()
        until = self._clock.ticks() + self._grace(reason)
        while self._clock.ticks() < until and not self._lease.over:
            noticed = self._channel is not None and self._channel.noticed.is_set()
            if noticed and (reason not in ("eviction", "sigterm") or not sum(self._server.load().values())):
                break
            time.sleep(0.1)
        self._state.enter(STOPPING, f"ending: {reason}")
        self._job.stop()
        self._server.stop()
        self._over.set()
        # Only the machine's end is left to wait for; a signal may end the agent sooner.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        (self._config.work / KEY_FILE).unlink(missing_ok=True)
        for fetched in (*self._config.work.glob("model*"), *self._config.work.glob("extra-*")):
            shutil.rmtree(fetched, ignore_errors=True)


def _complete(assignment: dict[str, Any], config: Config) -> dict[str, Any]:
    """Raises RetryableError where a control plane that knows of no certificates answered: it is being updated."""
    if config.tls and not assignment.get("tls"):
        raise RetryableError("the assignment has no certificate; an earlier version of the control plane answered")
    return assignment


def _hub_headers(assignment: Mapping[str, Any], files: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The Hub's token, for files of the Hub only."""
    token, hub = assignment.get("hub_token"), assignment.get("hub_endpoint", "").rstrip("/") + "/"
    ours = token and files and all(file["url"].startswith(hub) for file in files)
    return {"Authorization": f"Bearer {token}"} if ours else {}


def folders_of(assignment: Mapping[str, Any]) -> dict[str, Sequence[Mapping[str, Any]]]:
    """The files to fetch by folder: the model, then what vLLM needs beside it."""
    folders: dict[str, Sequence[Mapping[str, Any]]] = {"model": assignment["files"]}
    more: Sequence[Mapping[str, Any]] = assignment.get("folders") or ()
    for one in more:
        if not re.fullmatch(r"extra-\d+", one["name"]):
            raise FetchError(f"{one['name']!r} is not the name of a folder")
        folders[one["name"]] = one["files"]
    return folders


def _fresh_urls(control: ControlPlane, folder: str) -> dict[str, str]:
    return {entry["path"]: entry["url"] for entry in folders_of(control.assignment()).get(folder, [])}
