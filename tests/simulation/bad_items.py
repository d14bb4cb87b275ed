"""Tasks of the sweep and probes of nodes that fail for a time, at one record or altogether: a bad item costs itself
alone."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from random import Random
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from shared.app import App
from shared.control.probe import Prober
from shared.control.sweep.base import SweepTask, TaskRun, Walk
from shared.storage.base import Versioned
from tests.simulation.scheduler import Task

if TYPE_CHECKING:
    from tests.simulation.simulator import Simulator

EVERY = 60.0
PROBE = "the probe of a node"
"""The name of what fails at a ready instance, in the sweep or in a slice that came as a message."""


class BadItemError(Exception):
    """A fault of the program that nobody foresaw."""


@dataclass
class Trouble:
    """Which task fails until when (seconds since the start), and where."""

    task: str = ""
    where: str = ""
    """`begin`, `finish`, or an instance whose record is seen."""
    until: float = 0.0


class BadItems:
    def __init__(self, simulator: "Simulator") -> None:
        self._simulator = simulator
        self._chaos = simulator.chaos
        self._random = Random(f"bad items {simulator.seed}")
        self.trouble = Trouble()
        if self._chaos.rates.bad_item:
            simulator.scheduler.after(EVERY, self._perhaps)

    def around(self, app: App) -> App:
        """The program with tasks that can fail."""
        if not self._chaos.rates.bad_item:
            return app
        tasks: Sequence[SweepTask] = [_Task(task, self) for task in app.sweep.tasks]
        self._names = [task.name for task in tasks]
        return replace(app, sweep=replace(app.sweep, tasks=tasks))

    @contextmanager
    def in_probes(self) -> Generator[None]:
        """The program with probes of single nodes that can fail, each leaving the rest of its slice alone."""
        if not self._chaos.rates.bad_item:
            yield
            return
        prober: Any = Prober
        probe, judge = prober._probe, prober._judge
        judged: dict[Task | None, set[str]] = {}

        def perhaps_judge(prober: Prober, found: Versioned, *answer: Any) -> Any:
            judged[self._simulator.scheduler.current].add(found.instance_id)
            self.perhaps_raise(PROBE, found.instance_id)
            return judge(prober, found, *answer)

        def probe_all(prober: Prober, ready: Sequence[Versioned]) -> None:
            seen = judged[self._simulator.scheduler.current] = set()
            try:
                probe(prober, ready)
            except BadItemError:
                missed = sorted(found.instance_id[-4:] for found in ready if found.instance_id not in seen)
                if missed:
                    self._simulator.checks.violated(f"{', '.join(missed)} not probed, since another's probe failed")
                raise

        with patch.object(prober, "_judge", perhaps_judge), patch.object(prober, "_probe", probe_all):
            yield

    def perhaps_raise(self, task: str, where: str) -> None:
        trouble = self.trouble
        if (task, where) == (trouble.task, trouble.where) and self._simulator.scheduler.seconds < trouble.until:
            self._simulator.scheduler.note(f"the task {task} fails at {where[-4:]}: a bad item")
            raise BadItemError(task)

    def _perhaps(self) -> None:
        if not self._chaos.on:
            return
        scheduler = self._simulator.scheduler
        scheduler.after(EVERY, self._perhaps)
        if self._random.random() >= self._chaos.rates.bad_item or scheduler.seconds < self.trouble.until:
            return
        live = [one.instance_id for one in self._simulator.checks.records if not one.ended]
        where = self._random.choice(["begin", "finish", *live, *live])
        until = min(scheduler.seconds + self._random.uniform(30, 300), self._chaos.until)
        task = self._random.choice([*self._names, PROBE, PROBE] if where in live else self._names)
        self.trouble = Trouble(task, where, until)


class _Task:
    def __init__(self, inner: SweepTask, items: BadItems) -> None:
        self.name = inner.name
        self._inner = inner
        self._items = items

    def begin(self, now: datetime) -> TaskRun | None:
        self._items.perhaps_raise(self.name, "begin")
        run = self._inner.begin(now)
        return None if run is None else _Run(self.name, run, self._items)


class _Run(TaskRun):
    def __init__(self, name: str, inner: TaskRun, items: BadItems) -> None:
        self._name = name
        self._inner = inner
        self._items = items

    def see(self, found: Versioned) -> None:
        self._items.perhaps_raise(self._name, found.instance_id)
        self._inner.see(found)

    def finish(self, walk: Walk) -> int:
        self._items.perhaps_raise(self._name, "finish")
        return self._inner.finish(walk)
