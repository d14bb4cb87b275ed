"""Offers: what can be rented where and for how much."""

from typing import Literal

from gpulaunch.models.base import Stored
from gpulaunch.models.requests import ProviderName

PriceSource = Literal["snapshot", "live"]
"""The snapshot in the project, or SkyPilot's live catalog."""


class Offer(Stored):
    """One kind of node in one region at one price."""

    provider: ProviderName
    region: str
    instance_type: str | None
    """The provider's name of the machine; None where there are no machine types (Slurm)."""
    gpu: str
    gpu_count: int
    gpu_memory_gib: float | None = None
    """Memory of one GPU, GiB; None when unknown."""
    vcpus: float | None = None
    memory_gib: float | None = None
    use_spot: bool
    price_per_hour: float
    """USD per hour for the whole node; 0 on machines of one's own."""

    @property
    def key(self) -> str:
        """What tells this offer from others, in one word."""
        kind = "spot" if self.use_spot else "on-demand"
        machine = self.instance_type or self.gpu
        if self.provider == "gcp":
            # There a GPU is put into a machine: one type has several.
            machine = f"{machine}+{self.gpu}"
        return f"{self.provider}/{self.region}/{machine}x{self.gpu_count}/{kind}"
