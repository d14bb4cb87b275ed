"""Delete nodes and find out what became of them, with the cloud's own API beside SkyPilot where it is configured."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from gpulaunch.models.instances import Phase
from gpulaunch.models.requests import ProviderName
from shared.backends.base import Backends
from shared.clouds.base import CloudCompute
from shared.control.launch_spec import attempt_ref
from shared.domain.instance import Attempt, InstanceRecord
from shared.domain.provider import (
    CleanupStatus,
    NodeState,
    NodeView,
    ProviderNotEnabledError,
    ProviderUnavailableError,
    RecordsLostError,
)
from shared.lifecycle.observations import Released

log = logging.getLogger("gpulaunch.clouds")


@dataclass(frozen=True)
class NodeKeeper:
    backends: Backends
    clouds: Mapping[ProviderName, CloudCompute]
    is_deleted: Callable[[str], bool]
    """Whether a person has found that a node no longer exists."""

    def describe(self, record: InstanceRecord) -> NodeView | None:
        """What became of a node that does not answer; None: neither the cloud nor the provider can say.

        SkyPilot's records may be two minutes old, or lack the node; the cloud's listing is of this sweep, whatever the
        number of nodes.
        """
        seen = self._seen_by_cloud(record)
        if seen is not None:
            return seen
        try:
            return self.backends(record.mode).provider.describe(attempt_ref(record))
        except (ProviderUnavailableError, ProviderNotEnabledError) as error:
            log.warning("%s: the provider cannot describe its node: %s", record.instance_id, error)
            return None

    def describe_starting(self, record: InstanceRecord) -> NodeView:
        """What became of a node that is not ready yet.

        That SkyPilot no longer has it, or calls it stopped, counts only where the cloud does not say otherwise: its
        records may be those of another server or account, or older than the node.

        Raises:
            ProviderUnavailableError: SkyPilot cannot say, or the cloud cannot confirm it.
            ProviderNotEnabledError: The provider cannot be used as things are set up.
        """
        cloud, name = self._cloud_of(record), record.attempts[-1].cluster_name
        try:
            view = self.backends(record.mode).provider.describe(attempt_ref(record))
        except RecordsLostError:
            seen = None if cloud is None else cloud.describe(name)
            if seen is None:
                raise
            return replace(seen, listed=True)
        runs = view.state in (NodeState.PENDING, NodeState.UP)
        if cloud is None or runs or view.failure is not None:
            return view
        seen = cloud.describe(name)
        return view if seen is None else replace(seen, request_id=view.request_id, listed=True)

    def is_in_cloud(self, record: InstanceRecord) -> bool:
        """Whether the cloud has anything of the latest attempt's node, where it can be asked.

        Raises:
            ProviderUnavailableError: The cloud does not answer.
        """
        cloud = self._cloud_of(record)
        return cloud is not None and cloud.describe(record.attempts[-1].cluster_name) is not None

    def created_at(self, record: InstanceRecord, said: datetime | None = None) -> datetime | None:
        """When the latest attempt's machine was created; None: unknown, or known already.

        The cloud's word counts where it can be asked, else what the provider `said`.
        """
        attempt, cloud = record.attempts[-1], self._cloud_of(record)
        if attempt.billed_from not in (None, attempt.started_at):
            return None
        if cloud is None:
            return said
        try:
            view = cloud.describe(attempt.cluster_name)
        except ProviderUnavailableError as error:
            log.info("%s: the cloud cannot say since when its machine exists: %s", record.instance_id, error)
            return None
        return None if view is None else view.created_at

    def release(self, record: InstanceRecord) -> Released:
        """Delete the latest attempt's node, and find out from when it cost money.

        It is deleted once nothing of it is left, in the cloud's own listing as well. SkyPilot forgets a cluster as soon
        as its deletion is accepted, or when its machine disappears, whatever else is left. An instance that ends waits
        for the last trace; the next attempt of one that goes on only for what costs money, since deleting a resource
        group takes the cloud minutes. Garbage collection finds the rest.

        Raises:
            ProviderUnavailableError: It is not known what is left.
            ProviderNotEnabledError: The provider cannot be used as things are set up.
        """
        created_at, view = self.created_at(record), self._describe_unconfirmed(record)
        never_launched = view is not None and _never_launched(record.attempts[-1], view)
        listed = view is not None and view.listed
        left = self._delete(record)
        return Released(
            self._suffices(record, left),
            created_at=created_at,
            never_launched=never_launched and left is CleanupStatus.NOTHING,
            listed=listed,
        )

    def _suffices(self, record: InstanceRecord, left: CleanupStatus) -> bool:
        return left is CleanupStatus.NOTHING or (
            left is CleanupStatus.FREE_LEFTOVERS and record.phase is not Phase.TERMINATING
        )

    def _delete(self, record: InstanceRecord) -> CleanupStatus:
        attempt = record.attempts[-1]
        cloud = self._cloud_of(record)
        try:
            deleted = self.backends(record.mode).provider.release(attempt_ref(record))
        except RecordsLostError:
            # The cloud can say it in SkyPilot's place, and so can a person.
            deleted = cloud is not None or self.is_deleted(attempt.cluster_name)
            if not deleted:
                raise
        except ProviderUnavailableError:
            if cloud is not None and record.phase is Phase.TERMINATING:
                # Delete through the cloud even while SkyPilot is down, so that billing stops; only both together can
                # say that nothing is left.
                cloud.delete(attempt.cluster_name, attempt.offer.region)
            raise
        if not deleted:
            return CleanupStatus.MACHINE
        return CleanupStatus.NOTHING if cloud is None else cloud.delete(attempt.cluster_name, attempt.offer.region)

    def _describe_unconfirmed(self, record: InstanceRecord) -> NodeView | None:
        """What the provider says of an attempt that it never confirmed, or that was ended before anyone asked."""
        attempt = record.attempts[-1]
        if record.mode != "real" or attempt.node_up_at is not None or attempt.listed:
            return None
        if attempt.failure is not None and (attempt.request_id is not None or attempt.release_found):
            return None
        try:
            return self.backends(record.mode).provider.describe(attempt_ref(record))
        except (ProviderUnavailableError, ProviderNotEnabledError):
            return None

    def _seen_by_cloud(self, record: InstanceRecord) -> NodeView | None:
        """What the cloud says of the latest attempt's machine; None: it has no word on it."""
        cloud = self._cloud_of(record)
        if cloud is None:
            return None
        try:
            return cloud.describe(record.attempts[-1].cluster_name)
        except ProviderUnavailableError as error:
            log.warning("%s: the cloud cannot describe its node: %s", record.instance_id, error)
            return None

    def _cloud_of(self, record: InstanceRecord) -> CloudCompute | None:
        return self.clouds.get(record.request.provider) if record.mode == "real" else None


def _never_launched(attempt: Attempt, view: NodeView) -> bool:
    """Whether the provider remembers neither a launch nor a node of an attempt that it never confirmed.

    SkyPilot remembers launches beyond their end; the simulation forgets a node with its release.
    """
    if attempt.request_id is not None or attempt.release_found:
        return False
    return view.state is NodeState.ABSENT and view.request_id is None and view.failure is None and not view.listed
