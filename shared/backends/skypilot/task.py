"""What SkyPilot is asked for: one task with one resources entry, so that failover stays ours."""

from collections.abc import Mapping

from gpulaunch.models.requests import GPU_IS_AN_ADDON
from shared.clouds.labels import ATTEMPT_LABEL, DEPLOYMENT_LABEL, INSTANCE_LABEL, WORKSPACE_LABEL, accepted_labels
from shared.clouds.registry import CLOUDS
from shared.domain.provider import LaunchSpec

NO_UPLOAD: Mapping[str, Mapping[str, str]] = {
    cloud: {"remote_identity": "NO_UPLOAD"} for cloud in (*CLOUDS, "nebius", "oci", "ssh", "vast")
}
"""Laid over the server's configuration for every launch: credential files of no cloud are copied to the node.

These are all clouds for which SkyPilot 0.14.1 knows the setting. By default it copies the files of every cloud that the
server has credentials for, whichever cloud the node is on. Only `azure` and `kubernetes` are allowed in a task's own
`config`, so it travels in the request's `override_skypilot_config`, which local and remote servers honour alike. Only
a `remote_identity` that the server's own configuration has for a workspace or a region is stronger than this.
"""

_AUTODOWN_MINUTES = 10
"""After the agent has ended (deadline, lost lease, `terminate`) the node deletes itself: late enough that the
regular teardown, which is faster and confirmed, usually comes first."""


def labels_for(launch_spec: LaunchSpec, workspace: str) -> dict[str, str]:
    rules = CLOUDS[launch_spec.offer.provider].labels
    return {
        **accepted_labels(launch_spec.labels, rules),
        INSTANCE_LABEL: rules.value(launch_spec.instance_id),
        ATTEMPT_LABEL: str(launch_spec.attempt),
        WORKSPACE_LABEL: workspace,
        DEPLOYMENT_LABEL: launch_spec.deployment,
    }


def task_for(launch_spec: LaunchSpec, script: str, ports: list[int], workspace: str) -> dict[str, object]:
    """The task of one attempt, in the shape of SkyPilot's YAML.

    There is no `setup`: the agent installs while the model is fetched. The deployment's identity goes into the
    labels, so that no other deployment takes the node for garbage of its own; `workspace` is there for people.
    """
    offer = launch_spec.offer
    resources: dict[str, object] = {
        "infra": f"{offer.provider}/{offer.region}",
        "labels": labels_for(launch_spec, workspace),
    }
    if offer.instance_type is not None:
        resources["instance_type"] = offer.instance_type
    if offer.instance_type is None or offer.provider in GPU_IS_AN_ADDON:
        resources["accelerators"] = {offer.gpu: offer.gpu_count}
    if launch_spec.disk_gib is not None and CLOUDS[offer.provider].traits.rents_machines:
        resources["disk_size"] = launch_spec.disk_gib
    if offer.use_spot:
        resources["use_spot"] = True
    if ports:
        resources["ports"] = [str(port) for port in ports]
    if CLOUDS[offer.provider].skypilot_autodown:
        resources["autostop"] = {"idle_minutes": _AUTODOWN_MINUTES, "down": True, "wait_for": "jobs"}
    return {
        "name": "gpulaunch",
        "resources": resources,
        "envs": dict(launch_spec.environment),
        "secrets": dict(launch_spec.secrets),
        "run": script,
    }
