"""What a SkyPilot server's history tells: whether the absence of a cluster from its records means that it is deleted.

A server whose database was restored from a backup or replaced answers every question, and knows nothing of what was
launched since; one whose token was changed may hide another account's clusters. SkyPilot writes its history with a
cluster's first record, keeps it after the deletion, and shows it to everyone.
"""

from collections.abc import Mapping, Sequence

from shared.backends.skypilot.client import SkyClient
from shared.domain.provider import RecordsLostError


def lost(client: SkyClient, names: Sequence[str]) -> Mapping[str, str]:
    """Of clusters that were listed once, those that are not now, and that the history does not call deleted; why."""
    listed = {cluster.name for cluster in client.clusters(names)}
    return _denied(client, [name for name in names if name not in listed])


def _denied(client: SkyClient, missing: Sequence[str]) -> Mapping[str, str]:
    if not missing:
        return {}
    known = {one.name: one.status for one in client.history(missing)}
    why = {name: "is not in its history" for name in missing if name not in known}
    return why | {name: "is hidden from this account" for name in missing if known.get(name) is not None}


def check_history(client: SkyClient, name: str) -> None:
    """Make sure that a cluster that was listed and is not is deleted.

    Raises:
        RecordsLostError: Its absence means nothing.
    """
    why = _denied(client, [name]).get(name)
    if why is not None:
        raise RecordsLostError(
            f"The SkyPilot server cannot say whether {name} exists: the node {why}. Restore its database or its token, "
            f"or delete the machine in the cloud, then run `gpulaunch gc --deleted {name}`."
        )
