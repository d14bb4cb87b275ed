"""The clouds that the agent knows. A new cloud is a module beside this one and a line here."""

from __future__ import annotations

import subprocess

from shared.agent.node.clock import NodeClock
from shared.agent.node.clouds.aws import AwsNode
from shared.agent.node.clouds.azure import AzureNode
from shared.agent.node.clouds.base import CloudNode, MetadataService, Run
from shared.agent.node.clouds.gcp import GcpNode
from shared.agent.node.clouds.kubernetes import KubernetesPod
from shared.agent.node.clouds.slurm import SlurmJob
from shared.agent.node.config import Config
from shared.agent.node.log import Log
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
