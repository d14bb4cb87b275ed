"""What providers and nodes are given about the latest attempt of a record."""

from dataclasses import dataclass

from shared.agent.task import agent_port, node_environment
from shared.auth import Deriver, Purpose
from shared.backends.base import Assignments
from shared.certificates import node_name
from shared.domain.instance import InstanceRecord
from shared.domain.provider import AttemptRef, LaunchSpec, NodeTarget
from shared.planning.model_fit import disk_gib
from shared.settings import Settings


def attempt_ref(record: InstanceRecord) -> AttemptRef:
    attempt = record.attempts[-1]
    return AttemptRef(
        cluster_name=attempt.cluster_name,
        instance_id=record.instance_id,
        attempt=attempt.number,
        offer=attempt.offer,
        request_id=attempt.request_id,
        labels=record.request.labels,
        started_at=attempt.started_at,
        listed=attempt.listed or attempt.node_up_at is not None,
    )


@dataclass(frozen=True)
class LaunchSpecs:
    settings: Settings
    deriver: Deriver
    assignments: Assignments
    deployment: str
    """The deployment's identity."""

    def calls_us(self, record: InstanceRecord) -> bool:
        """Whether the instance's node can reach the control plane; otherwise it is asked."""
        return record.mode == "real" and self.settings.public_url is not None

    def launch_spec(self, record: InstanceRecord) -> LaunchSpec:
        """What the provider needs to launch the latest attempt.

        Raises:
            LaunchRefusedError: The model's source cannot be read.
            ProviderUnavailableError: The model's source does not answer at the moment.
        """
        attempt = record.attempts[-1]
        environment: dict[str, str] = {}
        secrets: dict[str, str] = {}
        if record.mode == "real":
            assignment = None if self.calls_us(record) else self.assignments.make(record, attempt.number)
            made = node_environment(self.settings, self.deriver, record, attempt, assignment)
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
            deployment=self.deployment,
            disk_gib=disk_gib(record.request, record.model),
        )

    def node_target(
        self, record: InstanceRecord, address: str | None = None, port: int | None = None
    ) -> NodeTarget | None:
        """How to call the latest attempt's node; None while its address is unknown.

        `address` and `port` are newer than the record, where given.
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
            agent_port=agent_port(attempt.cluster_name, attempt.offer.provider, self.settings),
            agent_token=self.deriver.derive(record.instance_id, attempt.number, Purpose.AGENT),
            proves=attempt.proves,
            api_key=self.deriver.endpoint_key(record.instance_id, attempt.number),
            server_name=node_name(record.instance_id, attempt.number) if attempt.tls else None,
            authority=self.deriver.authority_certificate() if attempt.tls else "",
        )
