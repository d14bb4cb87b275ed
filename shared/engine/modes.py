"""Which mode a launch gets: real machines, or a simulation, and why."""

from shared.engine.parts import Parts
from shared.models.records import Mode
from shared.models.requests import ProviderName
from shared.problems import unavailable
from shared.providers.base import ProviderUnavailableError


def choose_mode(parts: Parts, provider: ProviderName) -> tuple[Mode, str]:
    """The mode and why.

    Raises
    ------
    ProblemError
        503: SkyPilot is asked for and can't be used; never answered by a simulation.
    """
    orchestrator = parts.settings.orchestrator
    if orchestrator == "simulation":
        return "simulation", "GPULAUNCH_ORCHESTRATOR says simulation."
    try:
        # Asked at once, not waited for: whether it can work at all is known before anything is accepted.
        availability = parts.kit("real").provider.availability(provider, 0.0)
    except ProviderUnavailableError as error:
        raise unavailable("skypilot_unavailable", parts.redactor.text(str(error))) from error
    if availability.enabled:
        return "real", availability.reason
    if orchestrator == "skypilot":
        raise unavailable("provider_not_enabled", availability.reason, retry_after=60)
    return "simulation", availability.reason
