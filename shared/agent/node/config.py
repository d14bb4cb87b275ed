"""The agent's configuration: its environment, set by `shared/agent/task.py`.

Always: GPULAUNCH_INSTANCE, GPULAUNCH_ATTEMPT, GPULAUNCH_DEADLINE (RFC 3339), GPULAUNCH_LEASE_SECONDS.
Usually: GPULAUNCH_TLS (1), GPULAUNCH_CLUSTER, GPULAUNCH_CLOUD (one of `host.py`), GPULAUNCH_VLLM_REQUIREMENT.
Optional: GPULAUNCH_VLLM_EXECUTABLE (where it exists nothing is installed) and GPULAUNCH_WORK_DIR (default
~/gpulaunch/<instance>-<attempt>).
Push, the agent reports to the control plane: GPULAUNCH_URL and the secret GPULAUNCH_NODE_TOKEN.
Pull, the agent answers `GET /v1/status`: GPULAUNCH_AGENT_PORT and the secrets GPULAUNCH_ASSIGNMENT (base64 of gzip of
JSON) and GPULAUNCH_AGENT_TOKEN.
In tests GPULAUNCH_METADATA_URL and GPULAUNCH_MANAGEMENT_URL replace the cloud's own addresses.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.agent.node.clock import parse_time

SECRETS = ("GPULAUNCH_NODE_TOKEN", "GPULAUNCH_ASSIGNMENT", "GPULAUNCH_AGENT_TOKEN")


@dataclass(frozen=True)
class Config:
    instance: str
    attempt: str
    cluster: str
    cloud: str
    url: str | None
    node_token: str = field(repr=False)
    agent_token: str = field(repr=False)
    agent_port: int
    assignment: dict[str, Any] | None = field(repr=False)
    tls: bool
    """Its endpoint is called by TLS: an assignment has to bring a certificate."""
    requirement: str
    executable: str | None
    work: Path
    deadline: float
    lease_seconds: float
    metadata_url: str | None
    management_url: str

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> Config:
        """Read the configuration and remove the secrets from `environ`, so that no child inherits them."""
        token, packed, agent_token = (environ.pop(name, "") for name in SECRETS)
        instance, attempt = environ["GPULAUNCH_INSTANCE"], environ["GPULAUNCH_ATTEMPT"]
        default = Path.home() / "gpulaunch" / f"{instance}-{attempt}"
        return cls(
            instance=instance,
            attempt=attempt,
            cluster=environ.get("GPULAUNCH_CLUSTER", ""),
            cloud=environ.get("GPULAUNCH_CLOUD", ""),
            url=environ.get("GPULAUNCH_URL"),
            node_token=token,
            agent_token=agent_token,
            agent_port=int(environ.get("GPULAUNCH_AGENT_PORT", "0")),
            assignment=json.loads(gzip.decompress(base64.b64decode(packed))) if packed else None,
            tls=environ.get("GPULAUNCH_TLS") == "1",
            requirement=environ.get("GPULAUNCH_VLLM_REQUIREMENT", "vllm"),
            executable=environ.get("GPULAUNCH_VLLM_EXECUTABLE"),
            work=Path(environ.get("GPULAUNCH_WORK_DIR") or default),
            deadline=parse_time(environ["GPULAUNCH_DEADLINE"]),
            lease_seconds=float(environ["GPULAUNCH_LEASE_SECONDS"]),
            metadata_url=environ.get("GPULAUNCH_METADATA_URL"),
            management_url=environ.get("GPULAUNCH_MANAGEMENT_URL", "https://management.azure.com"),
        )
