"""The cloud's own word beside SkyPilot's, where a subscription is set: on silent nodes, and on what a teardown left."""

import logging

from gpulaunch.models.instances import Phase
from shared.clouds.base import CloudCompute
from shared.control.launch_spec import attempt_ref
from shared.control.parts import Parts
from shared.domain.instance import InstanceRecord
from shared.domain.provider import CleanupStatus, NodeState, NodeView, ProviderUnavailableError

log = logging.getLogger("gpulaunch.clouds")


def cloud_of(parts: Parts, record: InstanceRecord) -> CloudCompute | None:
    """The cloud that a record's nodes are in, if it can be asked."""
    cloud = parts.cloud
    return cloud if cloud is not None and record.mode == "real" and cloud.provider == record.request.provider else None


def lost_in_cloud(parts: Parts, record: InstanceRecord) -> NodeView | None:
    """What the cloud says of the latest attempt's machine, if it says that it is stopped or gone; else None.

    SkyPilot's books may be two minutes old; the cloud's listing is of this sweep, whatever the number of nodes.
    """
    cloud = cloud_of(parts, record)
    if cloud is None:
        return None
    try:
        view = cloud.describe(record.attempts[-1].cluster_name)
    except ProviderUnavailableError as error:
        log.warning("%s: the cloud did not say what became of its node: %s", record.instance_id, error)
        return None
    return view if view is not None and view.state in (NodeState.STOPPED, NodeState.ABSENT) else None


def release(parts: Parts, record: InstanceRecord) -> bool:
    """Take the latest attempt's node away; True once nothing of it is left, in the cloud's own listing as well.

    SkyPilot forgets a cluster as soon as its deletion was taken, or when its machine is gone, whatever else is left. An
    instance that ends waits for the last trace; the next attempt of one that goes on only for what costs money, since
    a resource group takes the cloud minutes. What is left then without an end is found by the garbage collection.

    Raises ProviderUnavailableError, ProviderNotEnabledError.
    """
    attempt = record.attempts[-1]
    cloud = cloud_of(parts, record)
    try:
        gone = parts.backend(record.mode).provider.release(attempt_ref(record))
    except ProviderUnavailableError:
        if cloud is not None and record.phase is Phase.TERMINATING:
            # Nobody goes on paying because SkyPilot's server is away; that nothing is left is for both to say.
            cloud.delete(attempt.cluster_name, attempt.offer.region)
        raise
    if not gone or cloud is None:
        return gone
    remains = cloud.delete(attempt.cluster_name, attempt.offer.region)
    return remains is CleanupStatus.NOTHING or (
        remains is CleanupStatus.FREE_LEFTOVERS and record.phase is not Phase.TERMINATING
    )
