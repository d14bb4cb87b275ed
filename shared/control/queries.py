"""Reads that change nothing: instances, the catalog, the control plane's own health."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gpulaunch.models.instances import ID_END, INSTANCE_ID, STARTING
from gpulaunch.models.problems import FieldError
from gpulaunch.models.queries import CatalogQuery
from gpulaunch.models.reports import CatalogAnswer, HealthAnswer, SweepTaskView
from gpulaunch.version import VERSION
from shared.clock import Clock
from shared.control.garbage_report import GarbageReports
from shared.control.sweep.status import SweepStatus, SweepStatusStore
from shared.domain.catalog import Catalog, NotCataloguedError
from shared.domain.errors import AmbiguousNameError, InstanceNotFoundError, InvalidFieldsError
from shared.domain.instance import Event, InstanceRecord
from shared.errors import StoreUnavailableError
from shared.planning.gpu_fit import fit, need
from shared.storage.base import InstanceFilter, InstanceStore, RecordPage, Versioned

SWEEP_LATE = timedelta(minutes=5)
"""Sweeps come every half minute; ten missed ones are more than a hiccup of the host."""
MOST_EVENTS = 1000
"""Events in one answer: one page of a table's query."""
FIRST_EVENTS = 100
"""Of these from the beginning of a longer story, with the launch and the way to ready."""


MOST_OF_A_NAME = 64
"""Characters of an unknown name in a message."""


@dataclass(frozen=True)
class InstanceQueries:
    store: InstanceStore

    def resolve(self, given: str) -> str:
        """The id of the instance that is called so: by its id or, while it is live, by its name or the end of its id.

        An id costs nothing, anything else a walk over the live instances.

        Raises:
            InstanceNotFoundError: None is called so.
            AmbiguousNameError: Several are.
        """
        if re.fullmatch(INSTANCE_ID, given):
            return given
        end = given.upper() if re.fullmatch(ID_END, given) else ""
        named: dict[str, str] = {}
        by_end: list[str] = []
        for one in self.store.live():
            name = one.record.request.name if isinstance(one, Versioned) else None
            if name is not None:
                named[one.instance_id] = name
            if end and one.instance_id.endswith(end):
                by_end.append(one.instance_id)
        found = [instance_id for instance_id, name in named.items() if name == given] or by_end
        if not found:
            shown = given[:MOST_OF_A_NAME]
            raise InstanceNotFoundError(shown, difflib.get_close_matches(shown, set(named.values()), n=2, cutoff=0.7))
        if len(found) > 1:
            raise AmbiguousNameError(given, found)
        return found[0]

    def find(self, instance_id: str) -> Versioned:
        """The record of an instance.

        Raises:
            InstanceNotFoundError: There is no such instance.
            UnreadableRecordError: Its record cannot be read.
        """
        found = self.store.load(instance_id)
        if found is None:
            raise InstanceNotFoundError(instance_id)
        return found

    def page(self, wanted: InstanceFilter, size: int, token: str | None) -> RecordPage:
        """A page of instances, newest first.

        Raises:
            ForeignTokenError: The token does not come from a page of this list.
        """
        return self.store.page(wanted, size, token)

    def events(self, record: InstanceRecord, after: int = -1) -> list[Event]:
        """The events of an instance with a sequence above `after`, in order, at most a thousand.

        From the beginning, a longer story is its first hundred and its latest; `after` reads on from any event.
        """
        latest = record.event_count - (MOST_EVENTS - FIRST_EVENTS) - 1
        if after >= 0 or latest < FIRST_EVENTS:
            return self.store.events(record.instance_id, after=after, limit=MOST_EVENTS)
        first = self.store.events(record.instance_id, limit=FIRST_EVENTS)
        return first + self.store.events(record.instance_id, after=latest, limit=MOST_EVENTS - FIRST_EVENTS)

    def misfit(self, record: InstanceRecord) -> str:
        """What the plan warned of, until the model's own files have told; empty: nothing."""
        if record.phase not in STARTING or record.model is not None:
            return ""
        request = record.request
        found = fit(need(request.model_name, request.model_source, request.vllm_args), record.offers)
        return found.warning or "" if found else ""

    def marked(self, kind: str) -> Mapping[str, datetime]:
        """The ids of instances with a marker of a kind, and since when they have it."""
        return {marker.key: marker.at for marker in self.store.markers(kind)}


@dataclass(frozen=True)
class CatalogQueries:
    catalog: Catalog

    def answer(self, query: CatalogQuery) -> CatalogAnswer:
        """What can be launched on a provider.

        Raises:
            InvalidFieldsError: The catalog has no prices for the provider.
        """
        region, gpu = (query.region or "").casefold(), (query.gpu or "").casefold()
        try:
            listing = self.catalog.listing(query.provider)
        except NotCataloguedError as error:
            problem = FieldError(field="provider", message=str(error), nearest=error.nearest)
            raise InvalidFieldsError([problem]) from error
        return CatalogAnswer(
            provider=query.provider,
            prices_as_of=listing.prices.as_of,
            prices_source=listing.prices.source,
            notes=list(listing.notes),
            regions=list(listing.regions),
            instance_types=list(listing.instance_types),
            gpus=list(listing.gpus),
            offers=[
                offer
                for offer in listing.offers
                if (not region or offer.region.casefold() == region) and (not gpu or offer.gpu.casefold() == gpu)
            ],
        )


@dataclass(frozen=True)
class HealthReports:
    """Whether the control plane works, from storage and from what the last sweep stored."""

    statuses: SweepStatusStore
    garbage: GarbageReports
    clock: Clock

    def answer(self) -> HealthAnswer:
        """The state, `ok` or `degraded` with what and why. Two reads, which prove that storage answers."""
        try:
            status = self.statuses.read()
            garbage = self.garbage.read().report
        except StoreUnavailableError:
            problem = "Storage does not answer."
            return HealthAnswer(status="degraded", version=VERSION, storage="unavailable", problems=[problem])
        if status is None:
            return HealthAnswer(status="ok", version=VERSION, storage="ok")
        problems = [*self._problems(status)]
        if garbage.waiting:
            nodes = "1 node waits" if len(garbage.waiting) == 1 else f"{len(garbage.waiting)} nodes wait"
            problems.append(f"{nodes} for a confirmation to be deleted, and may be billing; see `gpulaunch gc`.")
        if garbage.lost:
            nodes = "1 node" if len(garbage.lost) == 1 else f"{len(garbage.lost)} nodes"
            problems.append(f"SkyPilot has lost its records of {nodes}, which may be running; see `gpulaunch gc`.")
        return HealthAnswer(
            status="degraded" if problems else "ok",
            version=VERSION,
            storage="ok",
            problems=problems,
            swept_at=status.ended_at,
            tasks=[
                SweepTaskView(name=name, ended_at=task.ended_at, failed_at=task.failed_at if task.error else None)
                for name, task in status.tasks.items()
            ],
            unreadable=status.unreadable_count,
            garbage_waiting=len(garbage.waiting),
            foreign_nodes=len(garbage.foreign),
        )

    def _problems(self, status: SweepStatus) -> Sequence[str]:
        found: list[str] = []
        if self.clock.now() - status.ended_at > SWEEP_LATE:
            found.append(f"No sweep has ended since {status.ended_at:%Y-%m-%d %H:%M:%S} UTC; see the host's log.")
        found += [
            f"The sweep's task {name} failed at {task.failed_at:%Y-%m-%d %H:%M:%S} UTC; see the app's log."
            for name, task in status.failing.items()
        ]
        if status.unreadable_count:
            count = "1 record" if status.unreadable_count == 1 else f"{status.unreadable_count} records"
            found.append(f"{count} cannot be read: marked in GET /api/instances, terminated by DELETE.")
        return found
