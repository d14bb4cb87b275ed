"""The sweep: one walk over the live instances, and a list of isolated tasks that take part in it.

Whatever one record, message, cloud or task does, the others go on. What failed is logged, counted and shown by
`/api/health`, with when each task last ended.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from shared.clock import Clock
from shared.control.sweep.base import SweepTask, TaskRun, Walk
from shared.control.sweep.status import SweepStatus, SweepStatusStore, UnreadableRow, after
from shared.errors import StoreError
from shared.storage.base import InstanceStore, Versioned

log = logging.getLogger("gpulaunch.sweep")

WALK = "walk"
"""The name under which the walk itself stands among the tasks."""


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
            sweep.guarded(task.name, lambda task=task: started.update({task.name: task.begin(now)}))
        runs = {name: run for name, run in started.items() if run is not None}
        for name in started.keys() - runs.keys():
            del sweep.errors[name]
        walk = self._walk(sweep, runs)
        done: dict[str, int] = {}
        for name, run in runs.items():
            sweep.guarded(name, lambda name=name, run=run: done.update({name: run.finish(walk)}))
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
        except StoreError as error:
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
        unexpected = error if not isinstance(error, StoreError) else None
        log.error("the sweep's task %s failed%s: %s", task, where, error, exc_info=unexpected, extra=extra)
