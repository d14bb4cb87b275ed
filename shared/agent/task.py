"""What SkyPilot gets for one attempt: the script to run, its environment, and the ports to open.

All of it is pure, and no user input reaches a shell: the script is the same text for every launch, and values travel
as environment variables, which only the agent reads.
"""

import base64
import gzip
import hashlib
import hmac
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

from gpulaunch.models.requests import ProviderName
from gpulaunch.models.times import iso
from shared.agent.build import agent_program
from shared.agent.node import proof
from shared.auth import Deriver, Purpose
from shared.clouds.registry import CLOUDS
from shared.domain.instance import Attempt, InstanceRecord
from shared.domain.node import Assignment
from shared.settings import Settings

AGENT_PORT = 8001
"""The agent's port on nodes that run nothing else; the next one where vLLM uses it."""
SLURM_PORTS = range(20_000, 30_000)
"""Where agents listen on Slurm nodes, which are shared: below Linux' ephemeral ports, so no connection holds one."""
PROOF_HEADER = proof.PROOF_HEADER
"""In an agent's answer to a `Question`."""

_SCRIPT = """\
set -eu
umask 077
# SkyPilot writes the secrets into this very file and leaves it in the node's /tmp; bash has it open.
case "$0" in
  */sky_app_*) rm -f -- "$0" ;;
esac
work="${{GPULAUNCH_WORK_DIR:-$HOME/gpulaunch/$GPULAUNCH_INSTANCE-$GPULAUNCH_ATTEMPT}}"
mkdir -p "$work"
if command -v flock >/dev/null; then
  exec 9>"$work/run.lock"
  flock -n 9 || {{ echo "another agent runs this attempt"; exit 0; }}
fi
python=""
for candidate in python3 python3.12 python3.11 python3.13 python3.10 python3.9 "$HOME/skypilot-runtime/bin/python"; do
  if "$candidate" -c 'import ctypes, ssl, sys; sys.exit(sys.version_info < (3, 9))' >/dev/null 2>&1; then
    python="$candidate"
    break
  fi
done
if [ -z "$python" ]; then
  echo "no Python of version 3.9 or later on this node" >&2
  exit 3
fi
base64 -d <<'GPULAUNCH_AGENT' | gzip -dc >"$work/agent.pyz.new"
{agent}
GPULAUNCH_AGENT
mv "$work/agent.pyz.new" "$work/agent.pyz"
exec "$python" -I -u "$work/agent.pyz"
"""


@dataclass(frozen=True)
class Question:
    """A question to an agent, which proves the asker and has the answer prove the agent; see `proof.py`."""

    token: str
    nonce: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": proof.authorization(self.token, self.nonce), proof.NONCE_HEADER: self.nonce}

    def is_answered(self, given: str, body: bytes) -> bool:
        """Whether the agent itself answers, by its proof and the body of its answer."""
        return hmac.compare_digest(given.encode(), proof.proof(self.token, self.nonce, body).encode())


@dataclass(frozen=True)
class NodeEnvironment:
    environment: Mapping[str, str]
    secrets: Mapping[str, str]
    """Never log their values."""

    def __repr__(self) -> str:
        return f"NodeEnvironment(environment={dict(self.environment)!r}, secrets={sorted(self.secrets)!r})"


def run_script(program: bytes | None = None) -> str:
    """The bash text of SkyPilot's `run`: writes the agent and becomes it; the same text for every launch.

    SkyPilot may run a job twice: the second run exits 0 at once while the first one lives.
    Tests ship another `program`.
    """
    packed = gzip.compress(agent_program() if program is None else program, mtime=0)
    return _SCRIPT.format(agent="\n".join(textwrap.wrap(base64.b64encode(packed).decode(), 120)))


def agent_port(cluster_name: str, provider: ProviderName, settings: Settings) -> int:
    """The port on which an attempt's agent can be asked (used only where the control plane has no public address)."""
    if CLOUDS[provider].traits.shared_nodes:
        digest = hashlib.sha256(cluster_name.encode()).digest()
        return SLURM_PORTS[int.from_bytes(digest[:8], "big") % len(SLURM_PORTS)]
    return AGENT_PORT if settings.node_port != AGENT_PORT else AGENT_PORT + 1


def server_port(provider: ProviderName, settings: Settings) -> int | None:
    """The port for vLLM; None: the agent chooses a free one and says so."""
    return None if CLOUDS[provider].traits.shared_nodes else settings.node_port


def open_ports(cluster_name: str, provider: ProviderName, settings: Settings) -> list[int]:
    """Ports that have to be reachable from outside, for SkyPilot's `resources.ports`; empty where it can't open any."""
    if CLOUDS[provider].traits.shared_nodes:
        return []
    ports = {settings.node_port, None if settings.public_url else agent_port(cluster_name, provider, settings)}
    return sorted(port for port in ports if port is not None)


def node_environment(
    settings: Settings, deriver: Deriver, record: InstanceRecord, attempt: Attempt, assignment: Assignment | None = None
) -> NodeEnvironment:
    """Environment and secrets of one attempt's agent.

    With a public address of the control plane ("push") the only secret is the node's token, worthless after the
    attempt. Without one ("pull") the agent cannot fetch its assignment, so the assignment is one of the secrets.

    Raises:
        ValueError: There is neither a public address nor an assignment.
    """
    provider = attempt.offer.provider
    environment = {
        "GPULAUNCH_INSTANCE": record.instance_id,
        "GPULAUNCH_ATTEMPT": str(attempt.number),
        "GPULAUNCH_CLUSTER": attempt.cluster_name,
        "GPULAUNCH_CLOUD": provider,
        "GPULAUNCH_DEADLINE": iso(record.deadline_at),
        "GPULAUNCH_LEASE_SECONDS": str(settings.lease_seconds),
        "GPULAUNCH_VLLM_REQUIREMENT": settings.vllm_requirement,
    }
    if attempt.tls:
        environment["GPULAUNCH_TLS"] = "1"
    if settings.vllm_executable is not None:
        environment["GPULAUNCH_VLLM_EXECUTABLE"] = settings.vllm_executable
    if settings.public_url is not None:
        environment["GPULAUNCH_URL"] = settings.public_url
        token = deriver.derive(record.instance_id, attempt.number, Purpose.NODE)
        return NodeEnvironment(environment, {"GPULAUNCH_NODE_TOKEN": token})
    if assignment is None:
        raise ValueError("without GPULAUNCH_PUBLIC_URL a node needs its assignment in the task")
    environment["GPULAUNCH_AGENT_PORT"] = str(agent_port(attempt.cluster_name, provider, settings))
    packed = base64.b64encode(gzip.compress(assignment.model_dump_json().encode(), mtime=0)).decode()
    token = deriver.derive(record.instance_id, attempt.number, Purpose.AGENT)
    return NodeEnvironment(environment, {"GPULAUNCH_ASSIGNMENT": packed, "GPULAUNCH_AGENT_TOKEN": token})
