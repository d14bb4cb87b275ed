"""What an instance takes from the ledger when it is accepted and gives back when it ends; pure.

All of an instance's cost is booked to the month in which it was accepted, that of its reservation: what a month's
budget admitted is what that month's budget pays, and nothing is ever moved between months.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gpulaunch.models.offers import Offer
from shared.domain.catalog import Catalog, NotCataloguedError
from shared.domain.instance import Attempt, AttemptState, InstanceRecord
from shared.domain.money import MICRO, Account, CostEntry, Ledger, Reservation, Usage

KEPT_MONTHS = 13
"""Months whose settled accounts stay in the ledger: a year and the present one."""
RATE_WINDOW = timedelta(minutes=1)


def month_of(moment: datetime) -> str:
    return f"{moment:%Y-%m}"


def account_key(month: str, scope: str) -> str:
    return f"{month}/{scope}"


def label_of(scope: str) -> str:
    """The label that a scope counts, `team=a`; empty for everything of a mode."""
    return scope.partition("/")[2]


def to_micro(usd: float) -> int:
    return round(usd * MICRO)


def reservation_for(record: InstanceRecord, counted: Collection[str]) -> Reservation:
    """What a new instance has to hold; `counted` are the labels (`team=a`) that have a budget or a limit."""
    labels = [f"{key}={value}" for key, value in sorted(record.request.labels.items())]
    worst = record.worst_case_usd
    if record.request.budget_usd is not None:
        worst = min(worst, record.request.budget_usd)
    return Reservation(
        month=month_of(record.created_at),
        scopes=(record.mode, *(f"{record.mode}/{label}" for label in labels if label in counted)),
        micro_usd=to_micro(worst),
        gpus=max(offer.gpu_count for offer in record.offers),
    )


def reserve(ledger: Ledger, held: Reservation, now: datetime, *, rated: bool) -> Ledger:
    """The ledger after an admission; `rated`: the launches of the last minute are counted."""
    accounts = {
        key: account for key, account in ledger.accounts.items() if account.reserved or _recent(key, held.month)
    }
    usage = dict(ledger.usage)
    for scope in held.scopes:
        key = account_key(held.month, scope)
        account, use = accounts.get(key, Account()), usage.get(scope, Usage())
        accounts[key] = account.add(reserved=held.micro_usd)
        usage[scope] = use.add(1, held.gpus)
    launched = (*recent_launches(ledger, now), now) if rated else ()
    return ledger.model_copy(update={"accounts": accounts, "usage": usage, "launched": launched})


def settle(ledger: Ledger, held: Reservation, actual: int) -> Ledger:
    accounts, usage = dict(ledger.accounts), dict(ledger.usage)
    for scope in held.scopes:
        key = account_key(held.month, scope)
        account, use = accounts.get(key, Account()), usage.get(scope, Usage())
        accounts[key] = account.add(reserved=-held.micro_usd, spent=actual)
        usage[scope] = use.add(-1, -held.gpus)
    return ledger.model_copy(update={"accounts": accounts, "usage": usage})


def recent_launches(ledger: Ledger, now: datetime) -> tuple[datetime, ...]:
    return tuple(moment for moment in ledger.launched if moment > now - RATE_WINDOW)


def newly_gone(before: InstanceRecord, after: InstanceRecord) -> list[Attempt]:
    """The attempts of which nothing is left since this change, save those that never had a machine."""
    known = {attempt.number for attempt in before.attempts if attempt.state is AttemptState.GONE}
    return [
        attempt
        for attempt in after.attempts
        if attempt.state is AttemptState.GONE and attempt.billed_from is not None and attempt.number not in known
    ]


def cost_entry(record: InstanceRecord, attempt: Attempt, until: datetime, prices: Mapping[str, float]) -> CostEntry:
    """What an attempt has cost until its end, or `until` for one that runs.

    `prices` are on-demand prices by `machine`. Raises ValueError for an attempt that never had a machine.
    """
    if attempt.billed_from is None:
        raise ValueError("an attempt without a machine costs nothing")
    offer = attempt.offer
    return CostEntry(
        instance_id=record.instance_id,
        attempt=attempt.number,
        mode=record.mode,
        provider=offer.provider,
        region=offer.region,
        instance_type=offer.instance_type,
        gpu=offer.gpu,
        gpu_count=offer.gpu_count,
        use_spot=offer.use_spot,
        model_name=record.request.model_name,
        labels=record.request.labels,
        up_at=attempt.billed_from,
        gone_at=attempt.gone_at or until,
        price_per_hour=offer.price_per_hour,
        planned_per_hour=record.estimated_hourly_usd,
        on_demand_per_hour=prices.get(machine(offer)),
    )


@dataclass(frozen=True)
class AttemptCosts:
    """Cost entries of attempts, priced from the plan and, where the plan has no price, from the catalog."""

    catalog: Catalog

    def final(self, before: InstanceRecord, after: InstanceRecord) -> tuple[CostEntry, ...]:
        """The entries of the attempts whose nodes were deleted between two states of a record."""
        return self._entries(after, newly_gone(before, after), after.updated_at)

    def so_far(self, record: InstanceRecord, now: datetime) -> tuple[CostEntry, ...]:
        """The entries of a live instance's attempts, each as if it ended now unless it did."""
        return self._entries(record, [one for one in record.attempts if one.billed_from is not None], now)

    def _entries(self, record: InstanceRecord, attempts: Sequence[Attempt], now: datetime) -> tuple[CostEntry, ...]:
        prices = self._on_demand(record, attempts)
        return tuple(cost_entry(record, attempt, now, prices) for attempt in attempts)

    def _on_demand(self, record: InstanceRecord, attempts: Sequence[Attempt]) -> Mapping[str, float]:
        """USD per hour by machine: the prices that the launch was planned with, else today's."""
        wanted = {machine(attempt.offer) for attempt in attempts}
        prices = {machine(offer): offer.price_per_hour for offer in record.offers if not offer.use_spot}
        if wanted - set(prices):
            try:
                offers = self.catalog.listing(record.request.provider).offers
            except NotCataloguedError:
                # The offer was planned with another catalog: no saving is claimed.
                offers = ()
            for offer in offers:
                if not offer.use_spot and machine(offer) in wanted:
                    prices.setdefault(machine(offer), offer.price_per_hour)
        return prices


def machine(offer: Offer) -> str:
    """What spot and on-demand offers of the same machine in the same region have in common."""
    return f"{offer.provider}/{offer.region}/{offer.instance_type}/{offer.gpu}x{offer.gpu_count}"


def _recent(key: str, month: str) -> bool:
    year, number = (int(part) for part in key.partition("/")[0].split("-"))
    this_year, this_number = (int(part) for part in month.split("-"))
    return (this_year - year) * 12 + this_number - number < KEPT_MONTHS
