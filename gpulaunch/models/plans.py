"""What a launch would do and cost, before it is made."""

from gpulaunch.models.base import Answer
from gpulaunch.models.instances import Mode
from gpulaunch.models.offers import Offer
from gpulaunch.models.responses import Estimate, GpuMemory


class ExcludedOffer(Answer):
    """An offer that would have been tried, and why it is not."""

    offer: str
    """Provider, region, machine and kind."""
    reason: str
    """Why, and what would help."""


class PlanAnswer(Answer):
    """What a launch would do and cost; nothing was written."""

    plan: str
    """Names this plan. Sent as `If-Match` with the launch, it refuses any other: 412 `plan_changed`."""
    mode: Mode
    """`simulation` costs nothing and launches nothing."""
    mode_reason: str
    """Why the launch would be real or simulated."""
    offers: list[Offer]
    """The planned offers, in the order in which they would be tried."""
    excluded: list[ExcludedOffer] = []
    """Offers without quota."""
    estimate: Estimate
    """Expected cost."""
    gpu_memory: GpuMemory | None = None
    """Null if the model's name does not state its size, or the GPU's memory is unknown."""
    warnings: list[str] = []
    """What may go wrong, a sentence each."""
