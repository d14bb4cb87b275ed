"""Sessions of the pages that were ended before they expired. A cookie does not know it, so storage does."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from shared.cache import TTLCache
from shared.clock import Clock
from shared.storage.base import InstanceStore, Marker

ENDED: Final = "ended-session"
"""Markers of ended sessions; the key is the session's nonce, and its expiry is the session's."""
ALL: Final = "all"
"""Key of the marker whose text is the current generation; sessions of another one are over."""
FIRST_GENERATION: Final = "0"
POLL_SECONDS: Final = 30.0
"""How old a poll's knowledge may be: it shows what its page has shown, and a read for each would double the cost."""


def _recent() -> TTLCache[Mapping[str, Marker]]:
    return TTLCache(POLL_SECONDS)


@dataclass(frozen=True)
class EndedSessions:
    store: InstanceStore
    clock: Clock
    recent: TTLCache[Mapping[str, Marker]] = field(default_factory=_recent)

    def generation(self) -> str:
        """Return the generation of sessions that begin now; one read."""
        return _generation(self._markers(polling=False))

    def is_ended(self, nonce: str, generation: str, polling: bool) -> bool:
        """Return whether a session was ended, here or by another process; one read, for polls one in POLL_SECONDS."""
        markers = self._markers(polling)
        return nonce in markers or generation != _generation(markers)

    def end(self, nonce: str, until: datetime) -> None:
        """End a session that would expire at `until`, and forget those that have expired."""
        now = self.clock.now()
        self.store.put_marker(Marker(kind=ENDED, key=nonce, at=now, until=until))
        for marker in self._markers(polling=False).values():
            if marker.until is not None and marker.until <= now:
                self.store.drop_marker(ENDED, marker.key)

    def end_all(self) -> None:
        """End all sessions, by beginning a new generation."""
        generation = secrets.token_urlsafe(6)
        self.store.put_marker(Marker(kind=ENDED, key=ALL, at=self.clock.now(), text=generation))
        self.recent.drop()

    def _markers(self, polling: bool) -> Mapping[str, Marker]:
        if not polling:
            self.recent.drop()
        return self.recent.get(self.clock.now(), lambda: {one.key: one for one in self.store.markers(ENDED)})


def _generation(markers: Mapping[str, Marker]) -> str:
    return markers[ALL].text if ALL in markers else FIRST_GENERATION
