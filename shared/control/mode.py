"""Which mode a launch gets: real machines, or a simulation, and why."""

from gpulaunch.models.instances import Mode
from gpulaunch.models.requests import ProviderName
from shared.api.problems import unavailable
from shared.control.parts import Parts
from shared.domain.provider import ProviderUnavailableError

_PATIENCE = 12.0
"""Seconds that an `auto` launch waits for a SkyPilot server of this machine: it starts in 5 and checks a cloud in 5."""


def choose_mode(parts: Parts, provider: ProviderName) -> tuple[Mode, str]:
    """The mode and why.

    Raises
    ------
    ProblemError
        503: SkyPilot is asked for and can't be used, or does not say; never answered by a simulation.
    """
    orchestrator = parts.settings.orchestrator
    if orchestrator == "simulation":
        return "simulation", "GPULAUNCH_ORCHESTRATOR says simulation."
    try:
        availability = parts.backend("real").provider.availability(provider, 0.0)
        waited = 0.0
        # `skypilot` leaves a check that still runs to the validating phase; `auto` has to know now which mode it is.
        while orchestrator == "auto" and 0 < availability.wait_seconds <= _PATIENCE - waited:
            parts.sleep(availability.wait_seconds)
            waited += availability.wait_seconds
            availability = parts.backend("real").provider.availability(provider, waited)
    except ProviderUnavailableError as error:
        raise unavailable("skypilot_unavailable", parts.redactor.text(str(error))) from error
    if availability.wait_seconds > 0 and orchestrator == "auto":
        raise unavailable("skypilot_unavailable", f"{availability.reason}; try again in some seconds.")
    if availability.enabled or availability.wait_seconds > 0:
        return "real", availability.reason
    if orchestrator == "skypilot":
        raise unavailable("provider_not_enabled", availability.reason, retry_after=60)
    return "simulation", availability.reason
