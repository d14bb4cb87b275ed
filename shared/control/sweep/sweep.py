"""The sweep: one walk over the live instances, and a list of isolated tasks that take part in it.

Whatever one record, message, cloud or task does, the others go on. What failed is logged, counted and shown by
`/api/health`, with when each task last ended.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gpulaunch.deadlines import time_left, time_limit
from shared.clock import Clock
from shared.control.sweep.base import SweepTask, TaskRun, Walk
from shared.control.sweep.status import SweepStatus, SweepStatusStore, UnreadableRow, after
from shared.errors import StoreError
from shared.storage.base import InstanceStore, Versioned

log = logging.getLogger("gpulaunch.sweep")

WALK = "walk"
"""The name under which the walk itself stands among the tasks."""
TASK_SECONDS = 120.0
"""For the calls of one task: a listing of a large subscription takes a minute. However silent clouds are, a quarter of
the sweep's time is left for the tasks that need storage alone."""


def _check_time() -> None:
    """Raise TimeoutError if the sweep's time is over."""
    if time_left() <= 0:
        raise TimeoutError("left to the next sweep, since the time of this one is over")


@dataclass(frozen=True)
class Sweep:
    store: InstanceStore
    tasks: Sequence[SweepTask]
    clock: Clock
    statuses: SweepStatusStore

    def run(self) -> SweepStatus:
        """Walk once over all live instances; return what is stored of it."""
        sweep = _Sweep()
        now = self.clock.now()
        started: dict[str, TaskRun | None] = {}
        for task in self.tasks:
            sweep.timed(task.name, lambda task=task: started.update({task.name: task.begin(now)}))
        runs = {name: run for name, run in started.items() if run is not None}
        for name in started.keys() - runs.keys():
            del sweep.errors[name]
        walk = self._walk(sweep, runs)
        done: dict[str, int] = {}
        for name, run in runs.items():
            sweep.timed(name, lambda name=name, run=run: done.update({name: run.finish(walk)}))
        status = SweepStatus(
            ended_at=now,
            live=walk.live,
            ready=walk.ready,
            unreadable_count=len(walk.unreadable),
            unreadable=tuple(UnreadableRow(instance_id=row.instance_id, why=row.why) for row in walk.unreadable),
            tasks=after(self._known(sweep), now, sweep.errors),
        )
        self.statuses.write(status)
        figures = {"live": walk.live, "ready": walk.ready, "unreadable": len(walk.unreadable)}
        figures |= dict.fromkeys(started, 0) | done
        failed = sorted(status.failing)
        extra = {"event": "sweep", **figures, "failed": ", ".join(failed)}
        # The alert for missing sweeps counts these lines: a sweep that could not walk must not count.
        level = logging.INFO if walk.complete else logging.ERROR
        text = ", ".join(f"{name} {number}" for name, number in figures.items())
        log.log(level, "sweep: %s%s", text, f"; failed: {', '.join(failed)}" if failed else "", extra=extra)
        return status

    def _walk(self, sweep: "_Sweep", runs: Mapping[str, TaskRun]) -> Walk:
        walk = Walk()
        sweep.errors[WALK] = ""
        try:
            for found in self.store.live():
                walk.count(found)
                if isinstance(found, Versioned):
                    for name, run in runs.items():
                        sweep.guarded(name, lambda run=run, found=found: run.see(found), found.instance_id)
                _check_time()
        except (StoreError, TimeoutError) as error:
            sweep.failed(WALK, error)
            walk.complete = False
        return walk

    def _known(self, sweep: "_Sweep") -> SweepStatus | None:
        try:
            return self.statuses.last(fresh=any(sweep.errors.values()))
        except StoreError as error:
            sweep.failed(WALK, error)
            return None


@dataclass
class _Sweep:
    """Runs pieces of work, each on its own."""

    errors: dict[str, str] = field(default_factory=dict[str, str], init=False)

    def timed(self, task: str, work: Callable[[], None]) -> None:
        """Run what a task begins or ends with, in a time of its own and not beyond the sweep's."""

        def within_its_time() -> None:
            _check_time()
            with time_limit(TASK_SECONDS):
                work()

        self.guarded(task, within_its_time)

    def guarded(self, task: str, work: Callable[[], None], instance_id: str = "") -> None:
        self.errors.setdefault(task, "")
        try:
            work()
        except Exception as error:
            # One item of many must not end the others.
            self.failed(task, error, instance_id)

    def failed(self, task: str, error: Exception, instance_id: str = "") -> None:
        where = f" at {instance_id}" if instance_id else ""
        self.errors[task] = f"{type(error).__name__}{where}: {error}"[:300]
        extra = {"event": "sweep_task_failed", "task": task, "instance_id": instance_id or None}
        unexpected = None if isinstance(error, StoreError | TimeoutError) else error
        log.error("the sweep's task %s failed%s: %s", task, where, error, exc_info=unexpected, extra=extra)
