"""Keeps SkyPilot's live catalog a day old at most: the sweep asks for the lists, and fetches them a sweep later.

A list is stored as a note of the workspace, one row for each cloud, so that every worker process plans with the same
prices, and one that has just started has them without asking a server that may be asleep. What is stored is the list as
it came: a correction made later holds for it at once. Launches read what is there and never wait for the server.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Protocol

from gpulaunch.models.requests import ProviderName
from shared.catalog.live import RENEWED, RENTED, ListingError, LiveCatalog, PriceList, pack, read_listing, unpack
from shared.domain.provider import ProviderUnavailableError
from shared.errors import StoreError
from shared.storage.base import PRICES, InstanceStore, Marker

log = logging.getLogger("gpulaunch.prices")

_PATIENCE = timedelta(minutes=10)
"""How long a server may take for a list: it fetches some megabytes from the network at most."""
_REST = timedelta(hours=1)
"""After a failure: a server that can't list a cloud's prices has no network as a rule, and each question keeps one that
could be scaled to zero awake for five minutes."""
_WAKING = timedelta(minutes=1)
"""After no answer: a server comes up within minutes."""


class PriceLists(Protocol):
    """Who has the live lists. Both calls raise ProviderUnavailableError and ListingError."""

    def ask(self, provider: ProviderName) -> str:
        """Have a list made; what to fetch it with."""
        ...

    def fetch(self, request_id: str) -> object | None:
        """The list; None while it is being made."""
        ...


def stored_lists(store: InstanceStore, known: Mapping[ProviderName, PriceList]) -> Iterator[PriceList]:
    """The lists that were stored and are not known; none, with a line in the log, while storage does not answer.

    Reading a list takes up to a tenth of a second, so one of a known time is not read again.
    """
    try:
        notes = store.markers(PRICES)
    except StoreError as error:
        log.warning("the stored prices can't be read: %s", error)
        return
    for note in notes:
        try:
            for provider in RENTED:
                if provider == note.key and (provider not in known or known[provider].at != note.at):
                    yield read_listing(provider, note.at, unpack(note.text))
        except ListingError as error:
            log.warning("%s", error)


class PriceKeeper:
    """Renews the lists, one small step a call; for one thread at a time.

    What it has asked for is kept in memory: a process that ends in between costs one more question.
    """

    def __init__(self, lists: Callable[[], PriceLists], catalog: LiveCatalog, store: InstanceStore) -> None:
        self._lists = lists
        self._catalog = catalog
        self._store = store
        self._asked: dict[ProviderName, tuple[datetime, str]] = {}
        self._rests: dict[ProviderName, datetime] = {}
        self._unanswered = False

    def step(self, now: datetime) -> None:
        """Ask for the lists that are due and fetch those that are made; milliseconds each. Raises nothing."""
        for provider in RENTED:
            try:
                self._step(provider, now)
            except ProviderUnavailableError as error:
                # The question wakes a server that is scaled to zero; it would be asleep again after a longer rest.
                self._asked.pop(provider, None)
                self._rests.update(dict.fromkeys(RENTED, now + _WAKING))
                # Once, not every minute, where there is no server.
                log.log(logging.DEBUG if self._unanswered else logging.INFO, "no live prices for now: %s", error)
                self._unanswered = True
                return
            except (ListingError, StoreError) as error:
                self._asked.pop(provider, None)
                self._rests[provider] = now + _REST
                log.info("no live %s prices, again in %s: %s", provider, _REST, error)

    def _step(self, provider: ProviderName, now: datetime) -> None:
        asked = self._asked.get(provider)
        if asked is None:
            known = self._catalog.listed(provider)
            if (known is None or now - known.at >= RENEWED) and now >= self._rests.get(provider, now):
                self._asked[provider] = (now, self._lists().ask(provider))
            return
        at, request_id = asked
        value = self._lists().fetch(request_id)
        if value is None:
            if now - at >= _PATIENCE:
                raise ListingError(f"the list of {provider} is not made after {_PATIENCE}")
            return
        listed = read_listing(provider, at, value)
        self._unanswered = False
        self._store.put_marker(Marker(kind=PRICES, key=provider, at=at, text=pack(value)))
        self._catalog.take(listed)
        del self._asked[provider]
        log.info("live %s prices: %d offers", provider, len(listed.listing.offers))
