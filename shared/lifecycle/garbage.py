"""What of all that runs is garbage: which nodes may be deleted that no live record knows, and which never. Pure.

Only what carries exactly this deployment's identity is ever deleted. Of that, only what the table can account for goes
by itself: an instance of the table had this very attempt, and has ended or given it up. A node of ours that no record
ever had means that the table lost records, since a record is written before its node is asked for; the node may be in
use, so a person decides.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.domain.provider import Cluster, NodeState

GRACE = timedelta(minutes=5)
"""From the first sight of an orphan to its deletion, and from a node's creation to its first mark: an interrupted step
and the message that comes again take less."""
MAX_DELETIONS = 3
"""Nodes that one pass may delete unconfirmed: lost teardowns come one by one, wrong tables and listings at once."""


@dataclass(frozen=True, kw_only=True)
class Strays:
    """The clusters that no live record knows."""

    garbage: frozenset[str]
    """Ours, accounted for by the table, over with."""
    unrecorded: frozenset[str]
    """Ours, of which the table has no record."""
    young: frozenset[str]
    """Ours, and created too recently to be marked."""
    foreign: Mapping[str, Cluster]
    """Another deployment's, or without an identity: never touched."""


def strays(
    clusters: Iterable[Cluster], known: Collection[str], recorded: Collection[str], deployment: str, now: datetime
) -> Strays:
    """Tell apart what is listed.

    `known`: clusters of all attempts that live records don't call deleted; `recorded`: those of any attempt of any
    record, live or ended. Remains without a machine, such as Azure's empty groups, have no labels; they are ours if
    they are recorded: an instance's id is random, so no other table has it, and nothing runs on them.
    """
    garbage: set[str] = set()
    unrecorded: set[str] = set()
    young: set[str] = set()
    foreign: dict[str, Cluster] = {}
    for cluster in clusters:
        name = cluster.cluster_name
        if name in known:
            continue
        if not may_be_ours(cluster, deployment) or (cluster.deployment is None and name not in recorded):
            foreign[name] = cluster
        elif cluster.gc_protected:
            continue
        elif cluster.created_at is not None and now - cluster.created_at < GRACE:
            young.add(name)
        elif name in recorded:
            garbage.add(name)
        else:
            unrecorded.add(name)
    return Strays(garbage=frozenset(garbage), unrecorded=frozenset(unrecorded), young=frozenset(young), foreign=foreign)


def may_be_ours(cluster: Cluster, deployment: str) -> bool:
    """Whether it carries this identity, or is remains without a machine that carry none."""
    return cluster.deployment == deployment or (cluster.deployment is None and cluster.state is NodeState.ABSENT)


def why_wait(lost: int, ours: int) -> str | None:
    """Why the passes that would delete `lost` of `ours` nodes wait for a confirmation; None: they do not.

    Both count nodes with this deployment's identity. All that no live record knows count as lost, due or not: nodes
    that become due pass by pass cost as much as those that do at once. A single node is never "more than half".
    """
    if lost > MAX_DELETIONS:
        return f"{lost} nodes at once are more than the {MAX_DELETIONS} that are deleted unconfirmed"
    if ours > 1 and lost * 2 > ours:
        return f"{lost} of the {ours} nodes of this deployment are more than half"
    return None


UNRECORDED = "the table has no record of it: was an older table restored, or a record lost?"
"""Why a node of ours waits that no record ever had."""
