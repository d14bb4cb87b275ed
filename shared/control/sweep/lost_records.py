"""Notice that SkyPilot has lost its records: a database restored from a backup or replaced, or another account.

Such a server answers every question, and lists nothing of what it does not know. The nodes are served and paid for as
before; that they are missing from its listing proves nothing until its history has them again, or a person has looked.
"""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime

from shared.control.clusters import ClusterListing, RunningClusters
from shared.control.garbage_report import LostCluster
from shared.control.sweep.base import ALERT_EVERY, named
from shared.domain.messages import GarbageNotice
from shared.domain.provider import ProviderUnavailableError

log = logging.getLogger("gpulaunch.garbage")


@dataclass(frozen=True)
class LostRecords:
    listing: ClusterListing
    alert: Callable[[GarbageNotice], bool]
    """Sends to the webhooks; False: storage refused it, so that it is to be sent again."""

    def find(
        self, running: RunningClusters, listed: Collection[str], before: tuple[LostCluster, ...], now: datetime
    ) -> tuple[LostCluster, ...]:
        """Those of the nodes that SkyPilot has listed whose records it has lost; alert about them when that is due.

        While it does not answer, or is not asked, what was lost before remains lost. One listing more is asked for only
        while a node is missing.
        """
        if running.listed is None:
            return before
        try:
            why = self.listing.lost(frozenset(listed) - running.listed)
        except ProviderUnavailableError as error:
            log.warning("it is not known whether SkyPilot has lost records: %s", error)
            return before
        earlier = {one.cluster_name: one for one in before}
        lost = [
            earlier.get(name, LostCluster(cluster_name=name, since=now, why="")).model_copy(update={"why": reason})
            for name, reason in sorted(why.items())
        ]
        if all(one.alerted_at is not None and now - one.alerted_at < ALERT_EVERY for one in lost):
            return tuple(lost)
        if not self._alert(lost, now):
            return tuple(lost)
        return tuple(one.model_copy(update={"alerted_at": now}) for one in lost)

    def _alert(self, lost: list[LostCluster], now: datetime) -> bool:
        names = named([one.cluster_name for one in lost])
        text = (
            f"The SkyPilot server has lost its records of nodes that it launched: {names}. They may be running "
            "and cost money. Restore its database or its token; or delete the machines in the cloud, then run "
            "`gpulaunch gc --deleted NAME`."
        )
        log.error("%s", text, extra={"event": "records_lost"})
        return self.alert(GarbageNotice(at=now, reason="lost", count=len(lost), message=text))
