"""What an instance takes from the ledger when it is accepted and gives back when it ends; pure.

All of an instance's cost is booked to the month in which it was accepted, that of its reservation: what a month's
budget admitted is what that month's budget pays, and nothing is ever moved between months.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from gpulaunch.models.offers import Offer
from shared.domain.instance import Attempt, AttemptState, InstanceRecord
from shared.domain.money import MICRO, Account, CostEntry, Ledger, Reservation, Usage

KEPT_MONTHS = 13
"""Months whose settled accounts stay in the ledger: a year and the present one."""
RATE_WINDOW = timedelta(minutes=1)


def month_of(moment: datetime) -> str:
    """The month of a point in time in UTC, `2026-11`."""
    return f"{moment:%Y-%m}"


def account_key(month: str, scope: str) -> str:
    """Where the ledger has the account of a scope in a month."""
    return f"{month}/{scope}"


def label_of(scope: str) -> str:
    """The label that a scope counts, `team=a`; empty for everything of a mode."""
    return scope.partition("/")[2]


def to_micro(usd: float) -> int:
    """Whole micro-USD of an amount."""
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
    """The ledger after an instance ended that has cost `actual` micro-USD: its reservation becomes what was spent."""
    accounts, usage = dict(ledger.accounts), dict(ledger.usage)
    for scope in held.scopes:
        key = account_key(held.month, scope)
        account, use = accounts.get(key, Account()), usage.get(scope, Usage())
        accounts[key] = account.add(reserved=-held.micro_usd, spent=actual)
        usage[scope] = use.add(-1, -held.gpus)
    return ledger.model_copy(update={"accounts": accounts, "usage": usage})


def recent_launches(ledger: Ledger, now: datetime) -> tuple[datetime, ...]:
    """When the launches of the last minute were accepted."""
    return tuple(moment for moment in ledger.launched if moment > now - RATE_WINDOW)


def newly_gone(before: InstanceRecord, after: InstanceRecord) -> list[Attempt]:
    """The attempts of which nothing is left since this change, and whose node was ever seen: they cost money."""
    known = {attempt.number for attempt in before.attempts if attempt.state is AttemptState.GONE}
    return [
        attempt
        for attempt in after.attempts
        if attempt.state is AttemptState.GONE and attempt.node_up_at is not None and attempt.number not in known
    ]


def cost_entry(record: InstanceRecord, attempt: Attempt, until: datetime, prices: Mapping[str, float]) -> CostEntry:
    """What an attempt has cost until its end, or `until` for one that runs.

    `prices` are on-demand prices by `machine`. Raises ValueError for an attempt whose node was never seen.
    """
    if attempt.node_up_at is None:
        raise ValueError("an attempt without a node costs nothing")
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
        up_at=attempt.node_up_at,
        gone_at=attempt.gone_at or until,
        price_per_hour=offer.price_per_hour,
        planned_per_hour=record.estimated_hourly_usd,
        on_demand_per_hour=prices.get(machine(offer)),
    )


def machine(offer: Offer) -> str:
    """What spot and on-demand offers of the same machine in the same region have in common."""
    return f"{offer.provider}/{offer.region}/{offer.instance_type}/{offer.gpu}x{offer.gpu_count}"


def _recent(key: str, month: str) -> bool:
    """Whether an account is of the last KEPT_MONTHS."""
    year, number = (int(part) for part in key.partition("/")[0].split("-"))
    this_year, this_number = (int(part) for part in month.split("-"))
    return (this_year - year) * 12 + this_number - number < KEPT_MONTHS
