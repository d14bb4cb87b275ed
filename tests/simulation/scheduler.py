"""One simulated clock, and tasks that hand control over only where they wait: the same seed runs the same way.

Tasks are greenlets: the program's own functions run in them unchanged, and every I/O operation is a place where others
may run, or where the process may die. Time is counted in whole milliseconds, as storage keeps it.
"""

import hashlib
import heapq
from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random
from typing import Any, cast

import greenlet as greenlets

from tests.twins.clock import START

greenlet: Any = cast("Any", greenlets).greenlet


class Died(BaseException):
    """The process of the task was killed."""


class Process:
    """What dies at once: tasks of one worker, or one machine."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.tasks: dict[Task, None] = {}
        self.on_end: Callable[[], None] | None = None
        """Called once its tasks have ended."""


class Task:
    def __init__(self, name: str, process: Process, act: Callable[[], Any], hub: Any) -> None:
        self.name = name
        self.process = process
        self.began = 0
        """When it was spawned, milliseconds."""
        self.ended = False
        self.died = False
        self.dying = False
        self.result: Any = None
        self.error: Exception | None = None
        self.on_end: Callable[[Task], None] | None = None
        self.greenlet: Any = greenlet(self._run, hub)
        self._act = act

    def _run(self) -> None:
        try:
            self.result = self._act()
        except Died:
            self.died = True
        except Exception as error:
            self.error = error


class Scheduler:
    """The clock, what is to happen when, and the trace of what happened."""

    def __init__(self, random: Random, start: datetime = START) -> None:
        self.random = random
        self.start = start
        self.milliseconds = 0
        self.current: Task | None = None
        self.stopped = False
        """Nothing more is to happen."""
        self.trace: list[tuple[int, str, str]] = []
        self.details: list[tuple[int, int, str, str]] | None = None
        """Every operation, if a list is given: the place in the trace before which it happened, time, task and text."""
        self._hub: Any = greenlet.getcurrent()
        self._coming: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._tasks: dict[Task, None] = {}

    def now(self) -> datetime:
        return self.moment(self.milliseconds)

    def moment(self, milliseconds: int) -> datetime:
        """The time so many milliseconds after the start."""
        return self.start + timedelta(milliseconds=milliseconds)

    @property
    def seconds(self) -> float:
        return self.milliseconds / 1000

    def note(self, what: str) -> None:
        self.trace.append((self.milliseconds, self.current.name if self.current else "", what))

    def detail(self, what: str) -> None:
        """Write down an operation, where that is wanted."""
        if self.details is not None:
            who = self.current.name if self.current else ""
            self.details.append((len(self.trace), self.milliseconds, who, what))

    def digest(self) -> str:
        """A hash over all that happened."""
        return hashlib.sha256(repr(self.trace).encode()).hexdigest()

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._coming, (self.milliseconds + int(seconds * 1000), self._count, act))

    def spawn(
        self,
        name: str,
        process: Process,
        act: Callable[[], Any],
        on_end: Callable[[Task], None] | None = None,
        delay: float = 0.0,
    ) -> Task:
        task = Task(name, process, act, self._hub)
        task.on_end = on_end
        task.began = self.milliseconds
        process.tasks[task] = None
        self._tasks[task] = None
        self.after(delay, lambda: self._switch(task))
        return task

    def pause(self, seconds: float) -> None:
        """Let others run, for some time; only within a task."""
        task = self._own()
        if task.dying:
            raise Died
        self.after(seconds, lambda: self._switch(task))
        self._hub.switch()

    def join(self, task: Task) -> None:
        """Wait for the end of another task; only within a task."""
        waiting = self._own()
        task.on_end = lambda _: self._switch(waiting)
        self._hub.switch()

    def join_within(self, task: Task, seconds: float) -> bool:
        """Wait for the end of another task, for so long; whether it has ended. Only within a task."""
        waiting = self._own()
        woken: list[bool] = []

        def wake() -> None:
            if not woken:
                woken.append(True)
                self._switch(waiting)

        task.on_end = lambda _: wake()
        self.after(seconds, wake)
        self._hub.switch()
        return task.ended

    def kill(self, process: Process) -> None:
        if not process.alive:
            return
        process.alive = False
        if self.current is not None and self.current.process is process:
            self.current.dying = True
        self.after(0, lambda: self._kill_tasks(process))

    def run(self, until: float, enough: Callable[[], bool] | None = None) -> bool:
        """Run for that long, in seconds since the start; True when `enough` said so before."""
        end = int(until * 1000)
        looked = self.milliseconds
        while self._coming and self._coming[0][0] <= end and not self.stopped:
            at, _, act = heapq.heappop(self._coming)
            self.milliseconds = max(at, self.milliseconds)
            act()
            if enough is not None and self.milliseconds - looked >= 10_000:
                looked = self.milliseconds
                if enough():
                    return True
        self.milliseconds = end
        return False

    def close(self) -> None:
        for task in list(self._tasks):
            self._throw(task)

    def _own(self) -> Task:
        if self.current is None:
            raise RuntimeError("only a task can wait")
        return self.current

    def _switch(self, task: Task) -> None:
        if task.ended or task.dying:
            return
        self.current = task
        task.greenlet.switch()
        self.current = None
        if task.greenlet.dead:
            self._end(task)

    def _throw(self, task: Task) -> None:
        if task.ended:
            return
        task.dying = task.died = True
        if task.greenlet:
            self.current = task
            task.greenlet.throw(Died)
            self.current = None
        self._end(task)

    def _end(self, task: Task) -> None:
        task.ended = True
        del self._tasks[task]
        task.process.tasks.pop(task, None)
        on_end = task.on_end
        if on_end is not None:
            self.after(0, lambda: on_end(task))

    def _kill_tasks(self, process: Process) -> None:
        for task in list(process.tasks):
            self._throw(task)
        if process.on_end is not None:
            process.on_end()
