"""`--watch`: an instance as it starts, live: a bar per phase, and a line for each notable event."""

from contextlib import nullcontext
from datetime import datetime

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
from gpulaunch.models.responses import EventView, InstanceView, StepView

_NOTABLE = {
    EventType.ATTEMPT_STARTED: "",
    EventType.ATTEMPT_FAILED: "red",
    EventType.NODE_NOTICE: "yellow",
    EventType.HEALTH: "yellow",
    EventType.TERMINATION: "yellow",
    EventType.ALERT: "red",
}
"""Events that get a line of their own above the bars, with its style."""

_SILENCE = 15.0
"""Seconds after the last failed try until the app is taken to answer again: an unchanged instance says nothing."""

_MARKS = {"waiting": ("·", "dim"), "done": ("✓", "green"), "stopped": ("✗", "red")}


class Watch:
    """Watches one instance until it is ready or has ended: bars on a terminal, lines in a pipe, objects with --json."""

    def __init__(self, session: Session, instance_id: str) -> None:
        self._session = session
        self._gpu: GpuLaunch = session.gpu
        self._id = instance_id
        self._spinner = Spinner("dots", style="cyan")
        self._view: InstanceView | None = None
        self._steps: list[StepView] = []
        self._steps_at = 0.0
        self._after = -1
        self._began: datetime | None = None
        self._bars = session.out.is_terminal and not session.as_json
        self._outage = ""
        self._lost_since = self._lost_at = 0.0

    def run(self, timeout: float | None) -> InstanceView:
        """Watch until the instance is ready. One that is terminating is watched until it has ended.

        Raises:
            EndedError: it has ended.
            WaitTimeoutError: `timeout` seconds are over.
        """
        live = Live(self, console=self._session.out, refresh_per_second=5) if self._bars else nullcontext()
        self._session.on_retry = self.lost if self._bars else None
        with live:
            try:
                return self._gpu.wait_until_ready(self._id, timeout, self.changed)
            except EndedError as error:
                if error.instance.phase.ended:
                    raise
                raise EndedError(self._gpu.wait_until_ended(self._id, timeout, self.changed)) from None

    def lost(self, text: str) -> None:
        """Show that the app did not answer, among the bars, which stand still meanwhile."""
        now = self._session.clock()
        if not self._is_lost:
            self._lost_since = now
        self._outage, self._lost_at = text, now

    @property
    def _is_lost(self) -> bool:
        return bool(self._outage) and self._session.clock() - self._lost_at < _SILENCE

    def changed(self, view: InstanceView) -> None:
        """Take a new state of the instance, and print what happened since the last one."""
        self._outage = ""
        if self._session.as_json:
            self._session.line(view, "")
        story = self._gpu.events(self._id, self._after)
        self._steps, self._steps_at = story.steps, self._session.clock()
        for event in story.events:
            self._after = event.sequence
            self._began = self._began or event.at
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
        now = self._lost_since if self._is_lost else self._session.clock()
        for step in self._steps:
            mark = self._spinner if step.state == "now" else Text(*_MARKS[step.state])
            seconds = step.seconds
            if seconds is not None and step.state == "now":
                seconds += max(0.0, now - self._steps_at)
            share = self._share(step, seconds or 0.0)
            bar = ProgressBar(
                1.0, share or 0.0, 24, share is None, complete_style="cyan", finished_style="green", pulse_style="cyan"
            )
            took = Text("" if seconds is None else duration(seconds), "cyan")
            usual = Text(span(step.least_seconds, step.most_seconds), "dim")
            table.add_row(mark, Text(step.phase.value, "dim" if step.state == "waiting" else ""), bar, took, usual)
        doing = Text(clean(self._outage if self._is_lost else self._doing()), no_wrap=True, overflow="ellipsis")
        doing.stylize("yellow" if self._is_lost else "dim")
        return Group(table, doing)

    def _share(self, step: StepView, seconds: float) -> float | None:
        """The share of a phase that is done; None if unknown, or if it takes longer than expected."""
        if step.state != "now":
            return float(step.state == "done")
        attempt = self._view.attempts[-1] if self._view and self._view.attempts else None
        if step.phase is Phase.LOADING_MODEL and attempt and attempt.total_bytes:
            return (attempt.fetched_bytes or 0) / attempt.total_bytes
        share = seconds / step.most_seconds if step.most_seconds else 1.0
        return share if share < 1 else None

    def _doing(self) -> str:
        if self._view is None or not self._view.attempts:
            return ""
        attempt = self._view.attempts[-1]
        given = attempt.offer
        place = f"{given.kind}, {usd(given.price_per_hour)}/h, {given.region}, {given.instance_type or given.gpu}"
        fetched = ""
        if self._view.phase is Phase.LOADING_MODEL and attempt.total_bytes:
            fetched = f"; {(attempt.fetched_bytes or 0) / 1e9:.1f} of {attempt.total_bytes / 1e9:.1f} GB"
        detail = attempt.detail if self._view.phase in STARTING else ""
        return f"attempt {attempt.number}: {place}{fetched}{detail and '; ' + detail}"
