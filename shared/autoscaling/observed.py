"""What is known of the instance of a slot. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from gpulaunch.models.gateways import GatewayReport
from gpulaunch.models.instances import Phase
from gpulaunch.models.routes import RoutedTemplate
from shared.domain.instance import AttemptState, Failure, InstanceRecord


@dataclass(frozen=True, kw_only=True)
class Replica:
    exists: bool = True
    """False: it was never launched."""
    phase: Phase | None = None
    """None: it does not exist, or its record cannot be read."""
    ending: Failure | None = None
    failed: bool = False
    """It ended, or is about to, and not as intended."""
    created_at: datetime | None = None
    lost_at: datetime | None = None
    """When, having served, it began to be replaced by another node; None: it has not served yet."""
    deadline_at: datetime | None = None
    idle: bool = False
    """Its last probe found no request, and none has been seen since."""
    load: float = 0.0
    """Requests running and waiting at its last probe."""
    offer_key: str | None = None
    """The offer that it runs or is tried on."""
    attempt: int = 0
    address: tuple[str, int] | None = None
    """Host and port of its node, while it is ready."""
    drains_until: datetime | None = None
    """Until when its node, which has reported its end, may finish its requests."""
    tls: bool = False
    """Its node answers by TLS."""
    simulated: bool = False
    template: RoutedTemplate | None = None
    """What the gateway has to know of its launch."""

    @property
    def ready(self) -> bool:
        return self.phase is Phase.READY

    @property
    def unreadable(self) -> bool:
        """Whether its record exists and cannot be read; its node may serve."""
        return self.exists and self.phase is None

    @property
    def ended(self) -> bool:
        return self.phase is not None and self.phase.ended

    @property
    def ending_now(self) -> bool:
        return self.phase is Phase.TERMINATING


MISSING = Replica(exists=False)
UNREADABLE = Replica()
Replicas = Mapping[str, Replica]
"""By instance id."""
Gateways = Mapping[str, GatewayReport | None]
"""The latest report of each gateway that has not ended, by its id; None: this version cannot read it."""
NO_GATEWAYS: Gateways = {}


def replica_of(record: InstanceRecord) -> Replica:
    health, attempt = record.health, record.attempt
    known = health if health is not None and health.state == "healthy" else None
    offer = attempt.offer if attempt is not None else record.offers[0] if record.offers else None
    if attempt is not None and attempt.state is AttemptState.GONE and not record.ended:
        offer = record.offers[record.next_offer % len(record.offers)]
    return Replica(
        phase=record.phase,
        ending=record.ending,
        failed=record.ends_as == "failed",
        created_at=record.created_at,
        lost_at=_lost_at(record),
        deadline_at=record.deadline_at,
        idle=known is not None and known.idle_since is not None,
        load=0.0 if known is None else (known.running_requests or 0.0) + (known.waiting_requests or 0.0),
        offer_key=None if offer is None else offer.key,
        attempt=0 if attempt is None else attempt.number,
        address=_address(record),
        drains_until=None if attempt is None else attempt.drains_until,
        tls=attempt is not None and attempt.tls,
        simulated=record.mode == "simulation",
        template=RoutedTemplate(model_name=record.request.model_name, vllm_args=record.request.vllm_args),
    )


def _lost_at(record: InstanceRecord) -> datetime | None:
    served = [one.number for one in record.attempts if one.ready_at is not None]
    if record.phase is Phase.READY or not served:
        return None
    again = [one.started_at for one in record.attempts if one.number > served[-1]]
    return again[0] if again else record.updated_at


def _address(record: InstanceRecord) -> tuple[str, int] | None:
    attempt = record.attempt
    if record.phase is not Phase.READY or attempt is None or attempt.address is None or attempt.port is None:
        return None
    return attempt.address, attempt.port
