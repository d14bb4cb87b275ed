"""Whether a launch is real or simulated, and why."""

from collections.abc import Callable
from typing import Literal

from gpulaunch.models.instances import Mode
from gpulaunch.models.requests import ProviderName
from shared.backends.base import Backends
from shared.domain.errors import BackendUnavailableError
from shared.domain.provider import Availability, ProviderUnavailableError
from shared.redaction import Redactor

_PATIENCE = 12.0
"""Seconds that an `auto` launch waits for a local SkyPilot server: it starts in 5 and checks a cloud in 5."""


class ModeChooser:
    """Chooses the mode of a launch."""

    def __init__(
        self,
        orchestrator: Literal["auto", "skypilot", "simulation"],
        backends: Backends,
        redactor: Redactor,
        sleep: Callable[[float], None],
    ) -> None:
        self._orchestrator = orchestrator
        self._backends = backends
        self._redactor = redactor
        self._sleep = sleep

    def choose(self, provider: ProviderName) -> tuple[Mode, str]:
        """Return the mode and why.

        Raises:
            BackendUnavailableError: SkyPilot is needed and cannot be used, or does not answer. Never replaced by a
                simulation.
        """
        if self._orchestrator == "simulation":
            return "simulation", "GPULAUNCH_ORCHESTRATOR is set to simulation."
        try:
            availability = self._availability(provider)
        except ProviderUnavailableError as error:
            raise BackendUnavailableError("skypilot_unavailable", self._redactor.text(str(error))) from error
        if availability.wait_seconds > 0 and self._orchestrator == "auto":
            raise BackendUnavailableError("skypilot_unavailable", f"{availability.reason}; try again in some seconds.")
        if availability.enabled or availability.wait_seconds > 0:
            return "real", availability.reason
        if self._orchestrator == "skypilot":
            raise BackendUnavailableError("provider_not_enabled", availability.reason, retry_after=60)
        return "simulation", availability.reason

    def _availability(self, provider: ProviderName) -> Availability:
        backend = self._backends("real").provider
        found = backend.availability(provider, 0.0)
        waited = 0.0
        # `skypilot` leaves a check that still runs to the validating phase; `auto` has to know now which mode it is.
        while self._orchestrator == "auto" and 0 < found.wait_seconds <= _PATIENCE - waited:
            self._sleep(found.wait_seconds)
            waited += found.wait_seconds
            found = backend.availability(provider, waited)
        return found
