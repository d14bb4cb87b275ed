"""`--watch`: an instance as it starts, live: a bar per phase, and a line for each notable event."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from gpulaunch.cli.format import clean, event_line
from gpulaunch.cli.session import Session
from gpulaunch.client.errors import EndedError
from gpulaunch.client.synchronous import GpuLaunch
from gpulaunch.format import duration, span, usd
from gpulaunch.models.instances import STARTING, EventType, Phase
from gpulaunch.models.responses import EventView, InstanceView, PhaseTime

_NOTABLE = {
    EventType.ATTEMPT_STARTED: "",
    EventType.ATTEMPT_FAILED: "red",
    EventType.NODE_NOTICE: "yellow",
    EventType.HEALTH: "yellow",
    EventType.TERMINATION: "yellow",
    EventType.ALERT: "red",
}
"""Events that get a line of their own above the bars, with its style."""

_MARKS = {"waiting": ("·", "dim"), "done": ("✓", "green"), "failed": ("✗", "red")}

State = Literal["waiting", "running", "done", "failed"]


@dataclass
class Row:
    """One phase on the way to ready."""

    state: State = "waiting"
    seconds: float | None = None
    """How long it took; None while it lasts."""
    since: float = 0.0
    """When it began, in seconds of the local clock."""


@dataclass
class Progress:
    """An instance's progress, from its events; durations are the app's, except for the current phase."""

    clock: Callable[[], float]
    rows: dict[Phase, Row] = field(default_factory=lambda: {phase: Row() for phase in STARTING})

    def feed(self, event: EventView, age: float) -> None:
        """Apply an event that happened `age` seconds ago."""
        if event.type not in (EventType.ACCEPTED, EventType.PHASE):
            return
        for row in self.rows.values():
            if row.state == "running":
                row.state = "failed" if event.phase not in (*STARTING, Phase.READY) else "done"
                row.seconds = event.duration_seconds or 0.0
        if event.phase in self.rows:
            # After a step back, everything from there on is done again.
            for phase in STARTING[STARTING.index(event.phase) :]:
                self.rows[phase] = Row()
            self.rows[event.phase] = Row("running", None, self.clock() - max(0.0, age))

    def elapsed(self, phase: Phase) -> float | None:
        """Seconds that a phase took, or has taken so far; None before it begins."""
        row = self.rows[phase]
        if row.state == "waiting":
            return None
        return self.clock() - row.since if row.seconds is None else row.seconds


class Watch:
    """Watches one instance until it is ready or has ended: bars on a terminal, lines in a pipe, objects with --json."""

    def __init__(self, session: Session, instance_id: str) -> None:
        self._session = session
        self._gpu: GpuLaunch = session.gpu
        self._id = instance_id
        self._progress = Progress(session.clock)
        self._spinner = Spinner("dots", style="cyan")
        self._view: InstanceView | None = None
        self._expected: dict[Phase, PhaseTime] = {}
        self._after = -1
        self._began: datetime | None = None
        self._bars = session.out.is_terminal and not session.as_json

    def run(self, timeout: float | None) -> InstanceView:
        """Watch until the instance is ready. One that is terminating is watched until it has ended.

        Raises:
            EndedError: it has ended.
            WaitTimeoutError: `timeout` seconds are over.
        """
        live = Live(self, console=self._session.out, refresh_per_second=5) if self._bars else nullcontext()
        with live:
            try:
                return self._gpu.wait_until_ready(self._id, timeout, self.changed)
            except EndedError as error:
                if error.instance.phase.ended:
                    raise
                raise EndedError(self._gpu.wait_until_ended(self._id, timeout, self.changed)) from None

    def changed(self, view: InstanceView) -> None:
        """Take a new state of the instance, and print what happened since the last one."""
        now = self._session.now()
        if self._session.as_json:
            self._session.line(view, "")
        story = self._gpu.events(self._id, self._after)
        self._expected = {one.phase: one for one in story.expected} or self._expected
        for event in story.events:
            self._after = event.sequence
            self._began = self._began or event.at
            self._progress.feed(event, (now - event.at).total_seconds())
            self._print(event)
        self._view = view

    def _print(self, event: EventView) -> None:
        if self._session.as_json or (self._bars and event.type not in _NOTABLE):
            return
        self._session.say(event_line(event, self._began), _NOTABLE.get(event.type, ""))

    def __rich__(self) -> Group:
        """The bars and the current activity; called by the display's own thread."""
        table = Table.grid(padding=(0, 1))
        for width in (1, 15, 24):
            table.add_column(width=width, no_wrap=True)
        table.add_column(width=12, no_wrap=True, justify="right")
        table.add_column(no_wrap=True)
        for phase, row in self._progress.rows.items():
            mark = self._spinner if row.state == "running" else Text(*_MARKS[row.state])
            seconds, expected = self._progress.elapsed(phase), self._expected.get(phase)
            share = self._share(phase, row, seconds)
            bar = ProgressBar(
                1.0, share or 0.0, 24, share is None, complete_style="cyan", finished_style="green", pulse_style="cyan"
            )
            took = Text("" if seconds is None else duration(seconds), "cyan")
            usual = Text(span(expected.least_seconds, expected.most_seconds) if expected else "", "dim")
            table.add_row(mark, Text(phase.value, "dim" if row.state == "waiting" else ""), bar, took, usual)
        return Group(table, Text(clean(self._doing()), "dim", no_wrap=True, overflow="ellipsis"))

    def _share(self, phase: Phase, row: Row, seconds: float | None) -> float | None:
        """The share of a phase that is done; None if unknown, or if it takes longer than expected."""
        if row.state != "running":
            return float(row.state == "done")
        attempt = self._view.attempts[-1] if self._view and self._view.attempts else None
        if phase is Phase.LOADING_MODEL and attempt and attempt.total_bytes:
            return (attempt.fetched_bytes or 0) / attempt.total_bytes
        expected = self._expected.get(phase)
        share = (seconds or 0.0) / expected.most_seconds if expected and expected.most_seconds else 1.0
        return share if share < 1 else None

    def _doing(self) -> str:
        """The last attempt and its current activity."""
        if self._view is None or not self._view.attempts:
            return ""
        attempt = self._view.attempts[-1]
        given = attempt.offer
        kind = "spot" if given.use_spot else "on-demand"
        place = f"{kind}, {usd(given.price_per_hour)}/h, {given.region}, {given.instance_type or given.gpu}"
        fetched = ""
        if self._view.phase is Phase.LOADING_MODEL and attempt.total_bytes:
            fetched = f"; {(attempt.fetched_bytes or 0) / 1e9:.1f} of {attempt.total_bytes / 1e9:.1f} GB"
        detail = attempt.detail if self._view.phase in STARTING else ""
        return f"attempt {attempt.number}: {place}{fetched}{detail and '; ' + detail}"
