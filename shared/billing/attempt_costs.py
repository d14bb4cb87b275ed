"""What attempts cost, with the on-demand prices that a saving is measured against."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from shared.billing.ledger import cost_entry, machine, newly_gone
from shared.domain.catalog import Catalog, NotCataloguedError
from shared.domain.instance import Attempt, InstanceRecord
from shared.domain.money import CostEntry


class AttemptCosts:
    """Cost entries of attempts, priced from the plan and, where the plan has no price, from the catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def final(self, before: InstanceRecord, after: InstanceRecord) -> tuple[CostEntry, ...]:
        """The entries of the attempts whose nodes were deleted between two states of a record."""
        return self._entries(after, newly_gone(before, after), after.updated_at)

    def so_far(self, record: InstanceRecord, now: datetime) -> tuple[CostEntry, ...]:
        """The entries of a live instance's attempts, each as if it ended now unless it did."""
        return self._entries(record, [one for one in record.attempts if one.node_up_at is not None], now)

    def _entries(self, record: InstanceRecord, attempts: Sequence[Attempt], now: datetime) -> tuple[CostEntry, ...]:
        prices = self._on_demand(record, attempts)
        return tuple(cost_entry(record, attempt, now, prices) for attempt in attempts)

    def _on_demand(self, record: InstanceRecord, attempts: Sequence[Attempt]) -> Mapping[str, float]:
        """USD per hour by machine: the prices that the launch was planned with, else today's."""
        wanted = {machine(attempt.offer) for attempt in attempts}
        prices = {machine(offer): offer.price_per_hour for offer in record.offers if not offer.use_spot}
        if wanted - set(prices):
            try:
                offers = self._catalog.listing(record.request.provider).offers
            except NotCataloguedError:
                # The offer was planned with another catalog: no saving is claimed.
                offers = ()
            for offer in offers:
                if not offer.use_spot and machine(offer) in wanted:
                    prices.setdefault(machine(offer), offer.price_per_hour)
        return prices
