"""From a record to what providers and nodes are told about its latest attempt."""

from shared.agent.task import agent_port, node_environment
from shared.auth import Purpose
from shared.control.parts import Parts
from shared.domain.instance import InstanceRecord
from shared.domain.node import NodeStatus
from shared.domain.provider import AttemptRef, LaunchSpec, NodeTarget


def reaches_us(parts: Parts, record: InstanceRecord) -> bool:
    """Whether the instance's node can call us; otherwise it is asked."""
    return record.mode == "real" and parts.settings.public_url is not None


def launch_spec(parts: Parts, record: InstanceRecord) -> LaunchSpec:
    """What the provider is given to launch the latest attempt.

    Raises LaunchRefusedError and ProviderUnavailableError for a model source that can't be read.
    """
    attempt = record.attempts[-1]
    environment: dict[str, str] = {}
    secrets: dict[str, str] = {}
    if record.mode == "real":
        assignment = None if reaches_us(parts, record) else parts.assignments.make(record, attempt.number)
        made = node_environment(parts.settings, parts.deriver, record, attempt, assignment)
        environment, secrets = dict(made.environment), dict(made.secrets)
    return LaunchSpec(
        cluster_name=attempt.cluster_name,
        instance_id=record.instance_id,
        attempt=attempt.number,
        offer=attempt.offer,
        labels=record.request.labels,
        environment=environment,
        secrets=secrets,
        started_at=attempt.started_at,
    )


def attempt_ref(record: InstanceRecord) -> AttemptRef:
    """Where the latest attempt is to be found."""
    attempt = record.attempts[-1]
    return AttemptRef(
        cluster_name=attempt.cluster_name,
        instance_id=record.instance_id,
        attempt=attempt.number,
        offer=attempt.offer,
        request_id=attempt.request_id,
        labels=record.request.labels,
        started_at=attempt.started_at,
    )


def redacted(parts: Parts, status: NodeStatus) -> NodeStatus:
    """A node's account without secrets."""
    return status.model_copy(
        update={"detail": parts.redactor.text(status.detail), "log_tail": parts.redactor.lines(status.log_tail)}
    )


def node_target(
    parts: Parts, record: InstanceRecord, address: str | None, port: int | None = None
) -> NodeTarget | None:
    """How to ask the latest attempt's node; None while its address is unknown.

    `address` and `port` are newer than what the record says, where given.
    """
    attempt = record.attempts[-1]
    host = address or attempt.address
    if host is None:
        return None
    return NodeTarget(
        instance_id=record.instance_id,
        cluster_name=attempt.cluster_name,
        attempt=attempt.number,
        address=host,
        port=port or attempt.port,
        agent_port=agent_port(attempt.cluster_name, attempt.offer.provider, parts.settings),
        agent_token=parts.deriver.derive(record.instance_id, attempt.number, Purpose.AGENT),
    )
