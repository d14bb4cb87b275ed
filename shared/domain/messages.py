"""Queue messages: hints, never facts. Any of them may be lost, doubled, late or out of order."""

from typing import Annotated, Literal, TypeVar

from pydantic import Field, StringConstraints, ValidationError

from gpulaunch.models.base import Stored, UtcTime
from gpulaunch.models.instances import INSTANCE_ID
from shared.errors import MessageError

InstanceId = Annotated[str, StringConstraints(pattern=INSTANCE_ID)]


class StepMessage(Stored):
    """Please bring this instance one step forward."""

    instanceId: InstanceId  # noqa: N815 - the field's name on the wire: `id` would overwrite binding data in the host
    epoch: int
    """The record's epoch when this was sent; a message of an earlier epoch is dropped."""
    step: Literal["advance", "teardown"]


class ProbeMessage(Stored):
    """Please probe the ready nodes of one slice of live instances, both ends included."""

    instanceId: InstanceId  # noqa: N815
    """The newest instance of the slice."""
    lastInstanceId: InstanceId  # noqa: N815
    """The oldest instance of the slice."""
    step: Literal["probe"] = "probe"


class BudgetNotice(Stored):
    """A budget without room for a launch; whole, since a launch that was refused has no event to point to."""

    at: UtcTime
    month: str
    mode: Literal["real", "simulation"]
    label: str | None
    """`team=a`; null: the budget of everything."""
    budget_usd: float
    used_usd: float
    """Spent or reserved."""
    asked_usd: float
    """What the launch might have cost at worst."""
    message: str


class AlertMessage(Stored):
    """Please tell one receiver of one event, or of a budget."""

    instanceId: InstanceId  # noqa: N815
    epoch: int
    sequence: Annotated[int, Field(ge=0, le=999_999)]
    """The event's number."""
    hook: Annotated[int, Field(ge=0)] = 0
    """Which of the configured receivers: one that fails is tried again without the others."""
    tries: Annotated[int, Field(ge=0)] = 0
    """How often it was tried before."""
    budget: BudgetNotice | None = None
    """What is told instead of an event; `instanceId` is then the id that the refused launch would have had."""


M = TypeVar("M", StepMessage, ProbeMessage, AlertMessage)


def read_message(kind: type[M], body: bytes) -> M:
    """Understand a message's body.

    Raises
    ------
    MessageError
        It is no JSON or lacks a field; no retry will help.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise MessageError(f"{where}: {first['msg']}") from error
