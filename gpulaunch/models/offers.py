"""Offers: what can be launched, where, and at what price."""

from typing import Literal

from gpulaunch.models.base import Kept
from gpulaunch.models.requests import GPU_IS_AN_ADDON, ProviderName

PriceSource = Literal["snapshot", "live"]
"""Price source: the project's snapshot, or SkyPilot's live catalog."""


class Offer(Kept):
    """A kind of node in a region at a price."""

    provider: ProviderName
    """The provider."""
    region: str
    """The provider's region."""
    instance_type: str | None
    """The provider's machine type; None if it has none (Slurm)."""
    gpu: str
    """The GPU, by SkyPilot's name."""
    gpu_count: int
    """GPUs per node."""
    gpu_memory_gib: float | None = None
    """Memory per GPU in GiB; None if unknown."""
    vcpus: float | None = None
    """Virtual CPUs; None if unknown."""
    memory_gib: float | None = None
    """The machine's memory in GiB; None if unknown."""
    use_spot: bool
    """Whether it is a spot machine, which may be taken back."""
    price_per_hour: float
    """USD per hour for the whole node; 0 on your own machines."""

    @property
    def kind(self) -> Literal["spot", "on-demand"]:
        return "spot" if self.use_spot else "on-demand"

    @property
    def gpus(self) -> str:
        """The GPU, with its count if there are several: `A10`, `A100-80GB:2`."""
        return f"{self.gpu}:{self.gpu_count}" if self.gpu_count > 1 else self.gpu

    @property
    def key(self) -> str:
        """A unique key for this offer."""
        machine = self.instance_type or self.gpu
        if self.provider in GPU_IS_AN_ADDON:
            machine = f"{machine}+{self.gpu}"
        return f"{self.provider}/{self.region}/{machine}x{self.gpu_count}/{self.kind}"
