"""Queue messages: hints, never facts. Any of them may be lost, duplicated, late or out of order."""

from typing import Annotated, Literal, TypeVar

from pydantic import Field, RootModel, StringConstraints, ValidationError

from gpulaunch.models.base import Kept, Stored, UtcTime
from gpulaunch.models.gateways import EndpointMessage
from gpulaunch.models.instances import INSTANCE_ID
from shared.domain.errors import MessageError

InstanceId = Annotated[str, StringConstraints(pattern=INSTANCE_ID)]

Word = Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,40}$")]
"""A value of a set that grows."""


class StepMessage(Stored):
    instanceId: InstanceId  # noqa: N815 - the field's name on the wire: `id` would overwrite binding data in the host
    epoch: int
    """The record's epoch when this was sent; a message of an earlier epoch is dropped."""
    step: Word
    """`advance` or `teardown`. One that a later version knows is an `advance` here: what is due, the record says."""

    @property
    def known(self) -> bool:
        return self.step in ("advance", "teardown")


class LaunchMessage(RootModel[EndpointMessage | StepMessage]):
    """A message of the queue of launches."""


class ProbeMessage(Stored):
    """Probe the ready nodes of a slice of live instances, inclusive."""

    instanceId: InstanceId  # noqa: N815
    """The newest instance of the slice."""
    lastInstanceId: InstanceId  # noqa: N815
    """The oldest instance of the slice."""
    step: Word = "probe"


class BudgetNotice(Stored):
    """A budget that a launch did not fit; complete, since a refused launch has no event to refer to."""

    at: UtcTime
    """When the launch was refused."""
    month: str
    """The month, such as `2026-01`."""
    mode: Literal["real", "simulation"]
    """Real and simulated launches have separate budgets."""
    label: str | None
    """A label such as `team=a`; null for the overall budget."""
    budget_usd: float
    """The budget."""
    used_usd: float
    """Spent or reserved."""
    asked_usd: float
    """Worst-case cost of the launch."""
    message: str
    """What was refused, and what to do."""


class UnreadableNotice(Stored):
    """A record that this version cannot read; complete, since no event of it may be readable either."""

    at: UtcTime
    """When it was found."""
    instance_id: InstanceId
    """The instance."""
    reason: Literal["unreadable_record"] = "unreadable_record"
    """Stable code of the reason."""
    message: str
    """Why it cannot be read, and what to do."""


class GarbageNotice(Stored):
    """Nodes that the garbage collection leaves alone; complete, since they belong to no instance's events."""

    at: UtcTime
    """When they were found."""
    reason: Word
    """`waiting` for a confirmation, `unlabelled` so that nothing shows whose they are, `staying` after their deletion,
    `lost` from the records of SkyPilot, which launched them. A later version may have more.
    """
    count: int
    """How many nodes."""
    message: str
    """Which nodes, why, and what to do."""


class AccessNotice(Stored):
    """Too many failed sign-ins or wrong tokens from one address."""

    at: UtcTime
    """When the limit was reached."""
    source: str
    """The address; of IPv6 the network."""
    message: str
    """What was refused, and what to do."""


NO_INSTANCE = f"inst-{0:026}"
"""Stands for the instance in an alert that is about none."""


class AlertMessage(Kept):
    """Send one event, or a notice, to one receiver. It is sent again with the fields of a later version."""

    instanceId: InstanceId  # noqa: N815
    epoch: int
    sequence: Annotated[int, Field(ge=0, le=999_999)]
    """Number of the event."""
    hook: Annotated[int, Field(ge=0)] = 0
    """Index of the receiver: one that fails is retried without the others."""
    tries: Annotated[int, Field(ge=0)] = 0
    """Number of previous tries."""
    budget: BudgetNotice | None = None
    """Sent instead of an event; `instanceId` is then the id that the refused launch would have had."""
    unreadable: UnreadableNotice | None = None
    """Sent instead of an event."""
    garbage: GarbageNotice | None = None
    """Sent instead of an event; `instanceId` is then NO_INSTANCE."""
    access: AccessNotice | None = None
    """Sent instead of an event; `instanceId` is then NO_INSTANCE."""

    @property
    def webhook_id(self) -> str:
        """The same whenever the same is sent, so that a receiver recognises a repetition."""
        if self.garbage is not None:
            return f"garbage-{self.garbage.reason}-{self.garbage.at:%Y%m%dT%H%M%S}"
        if self.access is not None:
            # One an hour, however many processes see the same attack.
            return f"access-{self.access.at:%Y%m%dT%H}"
        if self.unreadable is not None:
            return f"{self.instanceId}-unreadable-{self.unreadable.at:%Y%m%dT%H}"
        return f"{self.instanceId}-{self.sequence}"


M = TypeVar("M", StepMessage, LaunchMessage, ProbeMessage, AlertMessage)


def read_message(kind: type[M], body: bytes) -> M:
    """Parse a message.

    Raises:
        MessageError: it is not valid JSON or lacks a field; retrying would not help.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise MessageError(f"{where}: {first['msg']}") from error
