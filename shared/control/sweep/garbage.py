"""Garbage collection: nodes that the provider runs and no live record knows, in two passes.

One pass marks an orphan, a later one takes it away if it is still an orphan, so that no single wrong look costs a node.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from gpulaunch.models.instances import Mode
from shared.control.parts import Parts
from shared.domain.provider import CleanupStatus, Cluster, ProviderUnavailableError
from shared.storage.base import ORPHAN, InstanceFilter, Marker

log = logging.getLogger("gpulaunch.garbage")

GRACE = timedelta(minutes=5)
"""From the first sight of an orphan to its end, and from a node's creation to its first mark: a step that was
interrupted, and the message that comes again, take less."""


BOOKS_EVERY = 6
"""Hours between two looks into SkyPilot's books while nothing lives: at a GPU's list price an orphan of a cloud that
is not asked itself costs less than keeping the server awake for a month."""
_AWAKE_MINUTES = 10
"""What a look may take: up to two minutes until the server is awake, then two passes with their grace."""


Source = Mode | Literal["cloud"]
"""Who is asked to take a node away: the provider of a mode, or the cloud itself where SkyPilot has lost it."""


@dataclass(frozen=True)
class Listed:
    """What the providers run, as far as they could be asked."""

    clusters: dict[str, tuple[Source, Cluster]]
    complete: bool
    """False: a provider did not answer; nothing is concluded from what is missing."""


_USED: dict[str, tuple[Mode, ...]] = {
    "simulation": ("simulation",),
    "skypilot": ("real",),
    "auto": ("real", "simulation"),
}
"""Modes that a deployment may have nodes in, by its orchestrator."""


def should_list_skypilot(parts: Parts, now: datetime) -> bool:
    """Whether SkyPilot's books are worth a question: it keeps a server awake that could be scaled to zero.

    Where nothing lives, no orphan is marked and the cloud itself is listed, they can hold nothing that costs money;
    asked they are all the same, for ten minutes now and then, since the first question wakes the server only.
    """
    if parts.cloud is None or (now.hour % BOOKS_EVERY == 0 and now.minute < _AWAKE_MINUTES):
        return True
    # A page of one, where the walk would begin with a thousand records.
    return bool(parts.store.page(InstanceFilter(live=True), 1, None).records) or bool(parts.store.markers(ORPHAN))


def list_clusters(parts: Parts, *, books: bool = True) -> Listed:
    """Ask the providers of all modes in use, and the cloud itself, for what they run; without `books` not SkyPilot."""
    modes = _USED[parts.settings.orchestrator]
    found: dict[str, tuple[Source, Cluster]] = {}
    complete = True
    for mode in modes:
        if mode == "real" and not books:
            complete = False
            continue
        try:
            clusters = parts.backend(mode).provider.clusters()
        except ProviderUnavailableError as error:
            log.warning("no garbage is collected in mode %s, its provider did not answer: %s", mode, error)
            complete = False
            continue
        for cluster in clusters:
            found[cluster.cluster_name] = (mode, cluster)
    if parts.cloud is not None and "real" in modes:
        try:
            for cluster in parts.cloud.clusters():
                found.setdefault(cluster.cluster_name, ("cloud", cluster))
        except ProviderUnavailableError as error:
            log.warning("no garbage is collected in the cloud itself: %s", error)
            complete = False
    return Listed(found, complete)


def collect(parts: Parts, listed: Listed, known: Iterable[str], now: datetime) -> int:
    """Mark the orphans seen for the first time, take away those marked long enough; how many were taken away.

    `known` are the clusters of all attempts that live records don't call gone, read after `listed`.
    """
    kept = set(known)
    orphans = {
        name
        for name, (_, cluster) in listed.clusters.items()
        if name not in kept and _is_ours_to_take(parts, cluster, now)
    }
    marks = {note.key: note for note in parts.store.markers(ORPHAN)}
    taken = 0
    for name in sorted(orphans):
        source = listed.clusters[name][0]
        if name not in marks:
            log.warning("%s is known to no live record; it is taken away unless one claims it soon", name)
            parts.store.put_marker(Marker(kind=ORPHAN, key=name, at=now, text=source))
        elif now - marks[name].at >= GRACE:
            taken += _take(parts, source, name)
    if listed.complete:
        for name in sorted(marks.keys() - orphans):
            parts.store.drop_marker(ORPHAN, name)
    return taken


def _is_ours_to_take(parts: Parts, cluster: Cluster, now: datetime) -> bool:
    if cluster.gc_protected or cluster.workspace not in (None, parts.settings.workspace):
        return False
    return cluster.created_at is None or now - cluster.created_at >= GRACE


def _take(parts: Parts, source: Source, name: str) -> bool:
    """Ask for an orphan's end; the mark stays until it is no longer listed."""
    try:
        if source == "cloud":
            gone = parts.cloud is not None and parts.cloud.delete(name) is CleanupStatus.NOTHING
        else:
            gone = parts.backend(source).provider.delete(name)
    except ProviderUnavailableError as error:
        log.error("%s is an orphan, may be billing, and could not be taken away: %s", name, error)  # noqa: TRY400
        return False
    log.error("%s was an orphan and %s", name, "is taken away" if gone else "is being taken away")
    return gone
