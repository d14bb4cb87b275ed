"""Whether launches on a cloud can work through SkyPilot, and what to do where they can't."""

import logging
import re
from collections.abc import Sequence

from gpulaunch.models.requests import ProviderName
from shared.backends.skypilot.client import SkyClient
from shared.backends.skypilot.http import SkyFailedError, SkyRefusalError
from shared.backends.skypilot.local import LocalServer, set_up_advice
from shared.backends.skypilot.task import NO_UPLOAD
from shared.cache import KeyedTTLCache
from shared.clock import Clock
from shared.domain.provider import Availability, ProviderUnavailableError
from shared.redaction import Redactor

logger = logging.getLogger(__name__)

_KNOWN_SECONDS = 60.0
"""How long an answer is cached: credentials change by hand, and a check costs the server seconds."""
_START_SECONDS = 90.0
"""A local server is healthy after 5 to 6 s; the rest is for a small machine with cold disks."""
_WAKE_SECONDS = 600.0
"""A server that is scaled to zero: pulling 2 GB, signing in, its tables take one to two minutes, at most five."""
_CHECK_SECONDS = 150.0
"""A check of one cloud takes 0.3 to 5 s; that of all clouds at the server's start was over 20 s after the start on two
idle cores, 35 s on two busy ones. Counted from the launch, so the server's own start is in it."""
_LOG_LINES = 300


class AvailabilityCheck:
    """Asks a SkyPilot server which clouds it has enabled, starting a local one when needed.

    Safe for several threads; an answer is cached for a minute.
    """

    def __init__(self, client: SkyClient, local: LocalServer | None, redactor: Redactor, clock: Clock) -> None:
        self._client = client
        self._local = local
        self._redactor = redactor
        self._answers = KeyedTTLCache[ProviderName, Availability](_KNOWN_SECONDS, clock)
        self._checks = KeyedTTLCache[ProviderName, str](_KNOWN_SECONDS, clock)

    def of(self, provider: ProviderName, elapsed_seconds: float) -> Availability:
        cached = self._answers.find(provider)
        if cached is not None:
            return cached
        try:
            answer = self._find_out(provider, elapsed_seconds)
        except SkyRefusalError as refusal:
            answer = Availability(enabled=False, reason=str(refusal))
        except SkyFailedError as failed:
            raise ProviderUnavailableError(f"SkyPilot cannot list the enabled clouds: {failed}") from failed
        if answer.wait_seconds == 0:
            self._answers.put(provider, answer)
        return answer

    def _find_out(self, provider: ProviderName, elapsed_seconds: float) -> Availability:
        health = self._client.health()
        healthy = health == "healthy"
        if self._local is not None:
            if (copied := self._local.copied()) is not None:
                return Availability(enabled=False, reason=copied)
            if not healthy and not self._local.has_credentials(provider):
                reason = f"no credentials for {provider} on this machine: {set_up_advice(provider)}"
                return Availability(enabled=False, reason=reason)
            if not healthy and (missing := self._local.not_installed()) is not None:
                return Availability(enabled=False, reason=missing)
            if not healthy:
                self._local.start()
                if elapsed_seconds > _START_SECONDS:
                    raise ProviderUnavailableError(
                        "The SkyPilot server on this machine does not become healthy; see ~/.sky/api_server/server.log"
                    )
                return Availability(enabled=False, reason="The SkyPilot server is starting", wait_seconds=2.0)
            if self._client.live_checks():
                # A server that has just started checks every cloud first; a question behind that took 12 s.
                return self._checking(elapsed_seconds)
        elif health == "waking" and elapsed_seconds <= _WAKE_SECONDS:
            reason = f"The SkyPilot server at {self._client.endpoint} is waking up"
            return Availability(enabled=False, reason=reason, wait_seconds=5.0)
        elif not healthy:
            raise ProviderUnavailableError(f"The SkyPilot server at {self._client.endpoint} is not healthy")
        names = self._client.enabled_clouds()
        if provider in names:
            return Availability(enabled=True, reason=self._enabled_reason(provider, names))
        return self._not_enabled(provider, elapsed_seconds)

    def _enabled_reason(self, provider: ProviderName, names: Sequence[str]) -> str:
        where = "on this machine" if self._local is not None else f"at {self._client.endpoint}"
        reason = f"{provider} is enabled in SkyPilot {where}"
        if others := sorted(set(names) - set(NO_UPLOAD)):
            # A remote server's files cannot be read, but what is enabled has files.
            reason += f"; it copies its credentials for {', '.join(others)} to every node and has no setting against it"
            logger.warning("%s", reason)
        return reason

    def _not_enabled(self, provider: ProviderName, elapsed_seconds: float) -> Availability:
        """A server that has just started, or got credentials since, knows nothing yet: have it check once."""
        if self._client.live_checks():
            return self._checking(elapsed_seconds)
        request_id = self._checks.find(provider)
        if request_id is None:
            self._checks.put(provider, self._client.check(provider))
            return self._checking(elapsed_seconds)
        said = _check_reason(self._client.log(request_id, _LOG_LINES))
        reason = f"{provider} is not enabled in SkyPilot: {set_up_advice(provider)}"
        if self._local is None:
            reason += f" on the server at {self._client.endpoint}"
        return Availability(enabled=False, reason=reason + (f" ({self._redactor.text(said)})" if said else ""))

    def _checking(self, elapsed_seconds: float) -> Availability:
        if elapsed_seconds > _CHECK_SECONDS:
            raise ProviderUnavailableError("SkyPilot's check of credentials is taking too long")
        return Availability(enabled=False, reason="SkyPilot is checking credentials", wait_seconds=1.0)


def _check_reason(log: str) -> str:
    """What a check of credentials says is missing, in one line."""
    found = re.search(r"Reason[^:]*: *(?P<why>.+?)(?:\n\s*\n|\nTo enable|\Z)", log, re.DOTALL)
    return " ".join(found["why"].split())[:240] if found is not None else ""
