"""What SkyPilot is asked for: one task with one resources entry, so that failover stays ours."""

import re
from collections.abc import Callable, Mapping

from gpulaunch.models.requests import ProviderName
from shared.domain.provider import LaunchSpec

INSTANCE_LABEL, ATTEMPT_LABEL = "gpulaunch-instance", "gpulaunch-attempt"
WORKSPACE_LABEL = "gpulaunch-workspace"
EXEMPT_LABEL = "gpulaunch-exempt"
"""A user's label of this name with any value but `false` keeps the node from being collected as garbage."""

NO_UPLOAD: Mapping[str, Mapping[str, str]] = {
    cloud: {"remote_identity": "NO_UPLOAD"}
    for cloud in ("aws", "azure", "gcp", "kubernetes", "nebius", "oci", "slurm", "ssh", "vast")
}
"""Laid over the server's configuration for every launch: credential files of no cloud are copied to the node.

These are all clouds for which SkyPilot 0.14.1 knows the setting. By default it copies the files of every cloud that the
server has credentials for, whichever cloud the node is on. Only `azure` and `kubernetes` are allowed in a task's own
`config`, so it travels in the request's `override_skypilot_config`, which local and remote servers honour alike. Only
a `remote_identity` that the server's own configuration has for a workspace or a region is stronger than this.
"""

_AUTODOWN_MINUTES = 10
"""After the agent has ended (deadline, lost lease, `terminate`) the node takes itself away: long enough for our own
teardown, which is faster and confirms it, to be the usual one."""
_AUTODOWN: frozenset[ProviderName] = frozenset({"aws", "gcp", "kubernetes"})
"""Where SkyPilot's own autodown works without credentials on the node: these give each node an identity of its own
(instance profile, service account). Azure's needs the CLI's login, which is not copied, so the agent deletes its
resource group itself; Slurm has no autodown, the agent cancels its job."""


def _lower(text: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "-", text.lower())[:63]


def _kubernetes_key(text: str) -> str:
    return re.sub(r"^[^a-z0-9]+|[^a-z0-9]+$", "", re.sub(r"[^a-z0-9_.-]", "-", text.lower())[:63])


def _kubernetes_value(text: str) -> str:
    return re.sub(r"^[^A-Za-z0-9]+|[^A-Za-z0-9]+$", "", re.sub(r"[^A-Za-z0-9_.-]", "-", text)[:63])


def _azure_key(text: str) -> str:
    return re.sub(r"[<>%&\\?/\s]", "-", text)


def _no_space(text: str) -> str:
    return re.sub(r"\s", "-", text)


def _same(text: str) -> str:
    return text


_CLEAN: Mapping[ProviderName, tuple[Callable[[str], str], Callable[[str], str]]] = {
    "azure": (_azure_key, _same),
    "aws": (_no_space, _no_space),
    "gcp": (_lower, _lower),
    "kubernetes": (_kubernetes_key, _kubernetes_value),
    "slurm": (_no_space, _no_space),
}
_RESERVED = re.compile(r"^(aws:|microsoft|azure|windows|skypilot-|ray-|gpulaunch-(?!exempt$))", re.IGNORECASE)
"""Prefixes that a cloud, SkyPilot or we keep for themselves."""


def labels_for(launch_spec: LaunchSpec, workspace: str) -> dict[str, str]:
    """The user's labels in a form that the cloud takes, and ours.

    Two labels that become one keep the first one's value; a label that the cloud can't take at all is left out: labels
    are for people and bills, and no launch fails for one.
    """
    clean_key, clean_value = _CLEAN[launch_spec.offer.provider]
    labels = {
        INSTANCE_LABEL: clean_value(launch_spec.instance_id),
        ATTEMPT_LABEL: str(launch_spec.attempt),
        WORKSPACE_LABEL: workspace,
    }
    for key, value in launch_spec.labels.items():
        if _RESERVED.match(key):
            continue
        cleaned = clean_key(key)
        if cleaned:
            labels.setdefault(cleaned, clean_value(value))
    return labels


def is_exempt(labels: Mapping[str, str]) -> bool:
    """Whether a node's labels keep it from being collected as garbage."""
    return labels.get(EXEMPT_LABEL, "false").lower() not in ("false", "no", "0")


def task_for(launch_spec: LaunchSpec, script: str, ports: list[int], workspace: str) -> dict[str, object]:
    """The task of one attempt, in the shape of SkyPilot's YAML.

    Parameters
    ----------
    script
        Text of `run`; there is no `setup`, the agent installs while the model is fetched.
    ports
        Ports to open to the outside; empty on Slurm, which refuses any.
    workspace
        Goes into the labels, so that no other workspace on the same server takes the node for garbage of its own.
    """
    offer = launch_spec.offer
    resources: dict[str, object] = {
        "infra": f"{offer.provider}/{offer.region}",
        "labels": labels_for(launch_spec, workspace),
    }
    if offer.instance_type is not None:
        resources["instance_type"] = offer.instance_type
    if offer.instance_type is None or offer.provider == "gcp":
        # A machine type of GCP alone has no GPU, save for types with GPUs of their own.
        resources["accelerators"] = {offer.gpu: offer.gpu_count}
    if offer.use_spot:
        resources["use_spot"] = True
    if ports:
        resources["ports"] = [str(port) for port in ports]
    if offer.provider in _AUTODOWN:
        resources["autostop"] = {"idle_minutes": _AUTODOWN_MINUTES, "down": True, "wait_for": "jobs"}
    return {
        "name": "gpulaunch",
        "resources": resources,
        "envs": dict(launch_spec.environment),
        "secrets": dict(launch_spec.secrets),
        "run": script,
    }
