"""This node on its cloud: watch for its interruption, and end the machine.

A new cloud is a module in `clouds` and a line here.
"""

from __future__ import annotations

import subprocess
import threading

from shared.agent.node.clock import NodeClock
from shared.agent.node.clouds.aws import AwsNode
from shared.agent.node.clouds.azure import AzureNode
from shared.agent.node.clouds.base import CloudNode, MetadataService, Run
from shared.agent.node.clouds.gcp import GcpNode
from shared.agent.node.clouds.kubernetes import KubernetesPod
from shared.agent.node.clouds.slurm import SlurmJob
from shared.agent.node.config import Config
from shared.agent.node.errors import NETWORK_ERRORS
from shared.agent.node.log import Log
from shared.agent.node.state import State
from shared.agent.node.transport import Http


def cloud_node(
    config: Config, transport: Http, clock: NodeClock, log: Log, run: Run = subprocess.run
) -> CloudNode | None:
    """This node on its cloud; None on a cloud that the agent does not know."""
    metadata = MetadataService(transport, config.metadata_url)
    clouds: dict[str, CloudNode] = {
        "aws": AwsNode(metadata, clock, run),
        "azure": AzureNode(config, metadata, transport, clock, log),
        "gcp": GcpNode(metadata, transport, run),
        "kubernetes": KubernetesPod(),
        "slurm": SlurmJob(log, run),
    }
    return clouds.get(config.cloud)


def watch_interruption(node: CloudNode | None, state: State, clock: NodeClock, log: Log, over: threading.Event) -> None:
    """Ask every second for a notice, until there is one or the agent ends."""
    if node is None or not node.is_virtual_machine:
        return
    while not over.is_set():
        try:
            notice = node.interruption()
        except (*NETWORK_ERRORS, ValueError, KeyError, TypeError, AttributeError) as error:
            log(f"no answer from the metadata service: {error}")
            clock.wait(over, 30)
            continue
        if notice is not None:
            state.warn("eviction", None if notice.seconds_left is None else min(notice.seconds_left, 86400.0))
            return
        clock.wait(over, 1)


def end_machine(node: CloudNode | None, clock: NodeClock, log: Log) -> None:
    """End the machine, as far as the node can; return when there is nothing more to try.

    A virtual machine is asked to end again and again until it dies, for hours: a deletion that was granted can fail.
    """
    if node is None:
        return
    for number in range(1000):
        granted = False
        for end in node.endings():
            try:
                granted |= end()
            except (*NETWORK_ERRORS, ValueError, KeyError, subprocess.SubprocessError) as error:
                log(f"{end.__name__}: {error}")
            # Still alive after three granted requests: try the next best as well.
            if granted and number < 3:
                break
        if not node.is_virtual_machine and (granted or number >= 3):
            log("requested this node's end" if granted else "this node cannot end itself; only its processes end")
            return
        clock.wait(threading.Event(), 60 if granted else 10)
