"""The clouds, one line each. Nothing here imports a cloud's libraries; `configured_clouds` does not either."""

from collections.abc import Mapping
from types import MappingProxyType

from gpulaunch.models.requests import ProviderName
from shared.clock import Clock
from shared.clouds.aws.plugin import AWS
from shared.clouds.azure.plugin import AZURE
from shared.clouds.base import CloudCompute, CloudPlugin
from shared.clouds.gcp.plugin import GCP
from shared.clouds.kubernetes.plugin import KUBERNETES
from shared.clouds.slurm.plugin import SLURM
from shared.domain.cloud import CloudsByProvider
from shared.settings import Settings

CLOUDS: Mapping[ProviderName, CloudPlugin] = MappingProxyType(
    {cloud.name: cloud for cloud in (AZURE, AWS, GCP, KUBERNETES, SLURM)}
)
CHECKABLE: CloudsByProvider = {name: cloud.traits for name, cloud in CLOUDS.items() if cloud.connect is not None}
"""The clouds that can be asked themselves once the settings name an account of them."""
TRAITS: CloudsByProvider = MappingProxyType({name: cloud.traits for name, cloud in CLOUDS.items()})


def configured_clouds(settings: Settings, clock: Clock) -> Mapping[ProviderName, CloudCompute]:
    """The clouds that can be asked themselves: those whose account the settings name, none in a mere simulation."""
    if settings.orchestrator == "simulation":
        return {}
    connected: dict[ProviderName, CloudCompute] = {}
    for name, cloud in CLOUDS.items():
        compute = None if cloud.connect is None else cloud.connect(settings, clock)
        if compute is not None:
            connected[name] = compute
    return connected
