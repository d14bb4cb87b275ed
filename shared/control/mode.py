"""Whether a launch is real or simulated, and why."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from gpulaunch.models.instances import Mode
from gpulaunch.models.requests import ProviderName
from shared.backends.base import Backends
from shared.domain.errors import BackendUnavailableError
from shared.domain.provider import Availability, ProviderUnavailableError
from shared.redaction import Redactor

_PATIENCE = 12.0
"""Seconds that an `auto` launch waits for a local SkyPilot server: it starts in 5 and checks a cloud in 5."""


@dataclass(frozen=True)
class ModeChooser:
    orchestrator: Literal["auto", "skypilot", "simulation"]
    backends: Backends
    redactor: Redactor
    sleep: Callable[[float], None]

    def choose(self, provider: ProviderName) -> tuple[Mode, str]:
        """Return the mode and why.

        Raises:
            BackendUnavailableError: SkyPilot is needed and cannot be used, or does not answer. Never replaced by a
                simulation.
        """
        if self.orchestrator == "simulation":
            return "simulation", "GPULAUNCH_ORCHESTRATOR is set to simulation."
        try:
            availability = self._availability(provider)
        except ProviderUnavailableError as error:
            raise BackendUnavailableError("skypilot_unavailable", self.redactor.text(str(error))) from error
        if availability.wait_seconds > 0 and self.orchestrator == "auto":
            raise BackendUnavailableError("skypilot_unavailable", f"{availability.reason}; try again in some seconds.")
        if availability.enabled or availability.wait_seconds > 0:
            return "real", availability.reason
        if self.orchestrator == "skypilot":
            raise BackendUnavailableError("provider_not_enabled", availability.reason, retry_after=60)
        return "simulation", availability.reason

    def _availability(self, provider: ProviderName) -> Availability:
        backend = self.backends("real").provider
        found = backend.availability(provider, 0.0)
        waited = 0.0
        # `skypilot` leaves a check that still runs to the validating phase; `auto` has to know now which mode it is.
        while self.orchestrator == "auto" and 0 < found.wait_seconds <= _PATIENCE - waited:
            self.sleep(found.wait_seconds)
            waited += found.wait_seconds
            found = backend.availability(provider, waited)
        return found
