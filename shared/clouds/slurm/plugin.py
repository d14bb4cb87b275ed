"""Slurm: clusters of the user's own, whose nodes are shared; a region is the cluster's host in ~/.slurm/config."""

from shared.clouds.base import CloudCredentials, CloudPlugin, LabelRules
from shared.clouds.labels import without_spaces
from shared.clouds.slurm.address import slurm_address
from shared.domain.cloud import CloudTraits

SLURM = CloudPlugin(
    name="slurm",
    traits=CloudTraits(title="Slurm", rents_machines=False, region_word="Cluster", shared_nodes=True),
    credentials=CloudCredentials(files=((".slurm/config",),), advice="add the cluster to ~/.slurm/config"),
    labels=LabelRules(without_spaces, without_spaces),
    # SkyPilot has no autodown there; the agent cancels its job.
    skypilot_autodown=False,
    node_address=slurm_address,
)
