"""The sweep: one walk over the live instances, and a list of isolated tasks that take part in it.

Whatever one record, message, cloud or task does, the others go on. What failed is logged, counted and shown by
`/api/health`, with when each task last ended.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gpulaunch.models.instances import Phase
from shared.clock import Clock
from shared.control.sweep.base import SweepTask, TaskRun, Walk
from shared.control.sweep.status import SweepStatus, SweepStatusStore, UnreadableRow, after
from shared.errors import StoreError
from shared.storage.base import InstanceStore, Unreadable, Versioned

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
        walked = self._walk(sweep, runs)
        done: dict[str, int] = {}
        for name, run in runs.items():
            sweep.guarded(name, lambda name=name, run=run: done.update({name: run.finish(Walk(walked.complete))}))
        status = SweepStatus(
            ended_at=now,
            live=walked.live,
            ready=walked.ready,
            unreadable_count=len(walked.unreadable),
            unreadable=tuple(UnreadableRow(instance_id=row.instance_id, why=row.why) for row in walked.unreadable),
            tasks=after(self._known(sweep), now, sweep.errors),
        )
        self.statuses.write(status)
        figures = {"live": walked.live, "ready": walked.ready, "unreadable": len(walked.unreadable)}
        figures |= dict.fromkeys(started, 0) | done
        failed = sorted(status.failing)
        extra = {"event": "sweep", **figures, "failed": ", ".join(failed)}
        # The alert for missing sweeps counts these lines: a sweep that could not walk must not count.
        level = logging.INFO if walked.complete else logging.ERROR
        text = ", ".join(f"{name} {number}" for name, number in figures.items())
        log.log(level, "sweep: %s%s", text, f"; failed: {', '.join(failed)}" if failed else "", extra=extra)
        return status

    def _walk(self, sweep: "_Sweep", runs: Mapping[str, TaskRun]) -> "_Walked":
        walked = _Walked()
        sweep.errors[WALK] = ""
        try:
            for found in self.store.live():
                walked.count(found)
                for name, run in runs.items():
                    sweep.guarded(name, lambda run=run, found=found: _show(run, found), _id_of(found))
        except StoreError as error:
            sweep.failed(WALK, error)
            walked.complete = False
        return walked

    def _known(self, sweep: "_Sweep") -> SweepStatus | None:
        try:
            return self.statuses.last(fresh=any(sweep.errors.values()))
        except StoreError as error:
            sweep.failed(WALK, error)
            return None


@dataclass
class _Walked:
    """What the walk came by."""

    live: int = 0
    ready: int = 0
    unreadable: list[Unreadable] = field(default_factory=list[Unreadable])
    complete: bool = True

    def count(self, found: Versioned | Unreadable) -> None:
        self.live += 1
        if isinstance(found, Unreadable):
            self.unreadable.append(found)
        elif found.record.phase is Phase.READY:
            self.ready += 1


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


def _show(run: TaskRun, found: Versioned | Unreadable) -> None:
    if isinstance(found, Unreadable):
        run.see_unreadable(found)
    else:
        run.see(found)


def _id_of(found: Versioned | Unreadable) -> str:
    return found.instance_id if isinstance(found, Unreadable) else found.record.instance_id
