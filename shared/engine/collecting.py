"""Garbage collection: nodes that the provider runs and no live record knows, in two passes.

One pass marks an orphan, a later one takes it away if it is still an orphan, so that no single wrong look costs a node.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.engine.parts import Parts
from shared.models.records import Mode
from shared.providers.base import Cluster, ProviderUnavailableError
from shared.store.base import ORPHAN, Note

log = logging.getLogger("gpulaunch.garbage")

GRACE = timedelta(minutes=5)
"""From the first sight of an orphan to its end, and from a node's creation to its first mark: a step that was
interrupted, and the message that comes again, take less."""


@dataclass(frozen=True)
class Listed:
    """What the providers run, as far as they could be asked."""

    clusters: dict[str, tuple[Mode, Cluster]]
    complete: bool
    """False: a provider did not answer; nothing is concluded from what is missing."""


_USED: dict[str, tuple[Mode, ...]] = {
    "simulation": ("simulation",),
    "skypilot": ("real",),
    "auto": ("real", "simulation"),
}
"""Modes that a deployment may have nodes in, by its orchestrator."""


def list_clusters(parts: Parts) -> Listed:
    """Ask the providers of all modes in use for what they run."""
    modes = _USED[parts.settings.orchestrator]
    found: dict[str, tuple[Mode, Cluster]] = {}
    complete = True
    for mode in modes:
        try:
            clusters = parts.kit(mode).provider.clusters()
        except ProviderUnavailableError as error:
            log.warning("no garbage is collected in mode %s, its provider did not answer: %s", mode, error)
            complete = False
            continue
        for cluster in clusters:
            found[cluster.cluster_name] = (mode, cluster)
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
    marks = {note.key: note for note in parts.store.notes(ORPHAN)}
    taken = 0
    for name in sorted(orphans):
        mode = listed.clusters[name][0]
        if name not in marks:
            log.warning("%s is known to no live record; it is taken away unless one claims it soon", name)
            parts.store.put_note(Note(kind=ORPHAN, key=name, at=now, text=mode))
        elif now - marks[name].at >= GRACE:
            taken += _take(parts, mode, name)
    if listed.complete:
        for name in sorted(marks.keys() - orphans):
            parts.store.drop_note(ORPHAN, name)
    return taken


def _is_ours_to_take(parts: Parts, cluster: Cluster, now: datetime) -> bool:
    if cluster.exempt or cluster.workspace not in (None, parts.settings.workspace):
        return False
    return cluster.created_at is None or now - cluster.created_at >= GRACE


def _take(parts: Parts, mode: Mode, name: str) -> bool:
    """Ask for an orphan's end; the mark stays until it is no longer listed."""
    try:
        gone = parts.kit(mode).provider.discard(name)
    except ProviderUnavailableError as error:
        log.error("%s is an orphan, may be billing, and could not be taken away: %s", name, error)  # noqa: TRY400
        return False
    log.error("%s was an orphan and %s", name, "is taken away" if gone else "is being taken away")
    return gone
