"""Have every ready instance probed: slices go to a queue, the last one is probed here."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache

from gpulaunch.models.instances import Phase
from shared.control.probe import Prober
from shared.control.sweep.base import Cadence, TaskRun, Walk
from shared.domain.messages import ProbeMessage
from shared.queues import PROBES
from shared.storage.base import Queues, Versioned

SLICE = 200
"""Ready instances per probe message: with 20 ms a probe and 64 at once, well under a second of work. The sweep itself
probes the last slice, which for a small fleet is all of it: a message and a second reading would cost more."""

READ_EVERY = timedelta(minutes=2)
"""Between two reads of how long messages wait; while they do, each sweep reads it."""
BEHIND = timedelta(seconds=15)
"""How old a waiting message of probes is if it is of an earlier sweep."""


class ProbeReady:
    name = "probes"

    def __init__(self, queues: Queues, prober: Prober, slice_size: int = SLICE) -> None:
        self._queues = queues
        self._prober = prober
        self._slice = slice_size
        self._reading = Cadence(READ_EVERY)
        self._behind = False

    def begin(self, now: datetime) -> TaskRun:
        return _Run(self._queues, self._prober, self._slice, lambda: self._is_behind(now))

    def _is_behind(self, now: datetime) -> bool:
        """Whether messages of an earlier sweep still wait, as last read: more would make the queue longer."""
        if self._reading.take(now) or self._behind:
            since = self._queues.waiting_since(PROBES)
            self._behind = since is not None and since + BEHIND <= now
        return self._behind


class _Run(TaskRun):
    def __init__(self, queues: Queues, prober: Prober, slice_size: int, is_behind: Callable[[], bool]) -> None:
        self._queues = queues
        self._prober = prober
        self._slice = slice_size
        self._is_behind = cache(is_behind)
        self._here: list[Versioned] = []
        self._sent = 0

    def see(self, found: Versioned) -> None:
        if found.record.phase is not Phase.READY:
            return
        if len(self._here) == self._slice:
            newest, oldest = self._here[0].record.instance_id, self._here[-1].record.instance_id
            self._here = []
            if not self._is_behind():
                self._queues.send(PROBES, ProbeMessage(instanceId=newest, lastInstanceId=oldest))
                self._sent += 1
        self._here.append(found)

    def finish(self, walk: Walk) -> int:  # noqa: ARG002 - records that were not seen are probed by the next sweep
        self._prober.probe(self._here)
        return self._sent
