"""The shell around the ledger: admissions compete for it, ends give back to it, the sweep holds the hard cap.

Everything an admission or an end changes is in one transaction with the record: whoever comes second meets the
ledger's ETag, reads it again and decides anew. Within a process a lock makes them queue instead: waiting for a
neighbour costs less than losing to him. Where nothing is counted, the ledger is neither read nor written.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from gpulaunch.models.instances import EventType, Phase
from gpulaunch.models.problems import LimitReached
from shared.api.problems import ProblemError
from shared.billing.budget import BudgetAlert, Budgets, Running, apply_thresholds, budget_refusal, over_budget
from shared.billing.ledger import cost_entry, label_of, machine, newly_gone, reservation_for, reserve, settle, to_micro
from shared.billing.limits import AdmissionLimits, count_refusal
from shared.control.parts import Parts
from shared.domain.catalog import NotCataloguedError
from shared.domain.costs import micro_so_far
from shared.domain.event import Event
from shared.domain.instance import Attempt, Failure, InstanceRecord
from shared.domain.messages import BudgetNotice
from shared.domain.money import MICRO, CostEntry
from shared.domain.refusal import Refusal
from shared.errors import StaleLedgerError, StoreUnavailableError
from shared.observability.instances import record_costs
from shared.settings import Settings
from shared.storage.base import Booking, IdempotencyEntry, Versioned, VersionedLedger
from shared.webhooks.announcements import announce, announce_refusal

log = logging.getLogger("gpulaunch.money")

T = TypeVar("T")

_TRIES = 40
"""Within a process admissions queue up, so that each process has one at the ETag: forty outlast a hundred processes."""

_ANSWERS = {
    "budget_exceeded": (402, "The budget has no room for this launch"),
    "limit_reached": (403, "A limit has no room for this launch"),
    "not_allowed": (403, "This deployment does not allow this launch"),
    "too_many_launches": (429, "Too many launches in a minute"),
}


@dataclass(frozen=True)
class Rules:
    """What a deployment's settings say about money and limits."""

    budgets: Budgets
    limits: AdmissionLimits

    @property
    def counted(self) -> bool:
        """Whether launches compete for anything, so that the ledger is kept."""
        return self.budgets.any or self.limits.counted

    @property
    def labels(self) -> set[str]:
        """The labels that have a budget or a limit of their own."""
        return self.limits.labels | set(self.budgets.labels)


def admission_rules(settings: Settings) -> Rules:
    """The rules that the settings say."""
    monthly = settings.monthly_budget_usd
    return Rules(
        Budgets(
            monthly=None if monthly is None else to_micro(monthly),
            labels={label: to_micro(usd) for label, usd in settings.label_budgets.items()},
            end_at_cap=settings.budget_action == "end",
        ),
        AdmissionLimits(
            instances=settings.max_instances,
            gpus=settings.max_gpus,
            label_instances=settings.label_max_instances,
            label_gpus=settings.label_max_gpus,
            launches_per_minute=settings.launches_per_minute,
            lifetime_minutes=settings.max_lifetime_minutes,
            providers=settings.allowed_providers,
            regions=settings.allowed_regions,
            types=settings.allowed_types,
            gpu_names=settings.allowed_gpus,
        ),
    )


def problem_of(refusal: Refusal) -> ProblemError:
    """A refusal as an answer: 402, 403 or 429, with the limit's name, its value and what is used of it."""
    status, title = _ANSWERS[refusal.code]
    value = list(refusal.value) if isinstance(refusal.value, tuple) else refusal.value
    limit = LimitReached(name=refusal.limit, value=value, used=refusal.used, asked=refusal.asked)
    return ProblemError(status, refusal.code, title, refusal.detail, limit=limit, retry_after=refusal.retry_after)


def admit(
    parts: Parts, record: InstanceRecord, events: Sequence[Event], idempotency: IdempotencyEntry | None
) -> InstanceRecord:
    """Write a new record and reserve what it needs, all or nothing; the record as it was written.

    Raises
    ------
    ProblemError
        402, 403, 429: there is no room; nothing was written.
    AlreadyExistsError
        The idempotency key, or the record, is there already.
    StoreUnavailableError
        Storage did not answer, or others kept changing the ledger.
    """
    rules = admission_rules(parts.settings)
    if not rules.counted:
        parts.store.create(record, events, idempotency)
        return record
    held = reservation_for(record, rules.labels)
    now = record.created_at

    def once(found: VersionedLedger) -> InstanceRecord:
        refusal = count_refusal(found.ledger, held, rules.limits, now)
        if refusal is not None:
            raise problem_of(refusal)
        refusal = budget_refusal(found.ledger, held, rules.budgets)
        if refusal is not None:
            marked, alerts = apply_thresholds(found.ledger, held, rules.budgets, refused=True)
            if alerts:
                parts.store.book(Booking(marked, found.etag))
                _tell(alerts)
                for alert in alerts:
                    announce_refusal(parts, record, _notice(alert, now))
            raise problem_of(refusal)
        rated = rules.limits.launches_per_minute is not None
        ledger, alerts = apply_thresholds(
            reserve(found.ledger, held, now, rated=rated), held, rules.budgets, refused=False
        )
        told = [_event(record, number, alert) for number, alert in enumerate(alerts, record.event_count)]
        admitted = record.model_copy(update={"reservation": held, "event_count": record.event_count + len(told)})
        parts.store.create(admitted, [*events, *told], idempotency, Booking(ledger, found.etag))
        _tell(alerts)
        announce(parts, admitted, told)
        return admitted

    return _on_ledger(parts, once)


def write(parts: Parts, before: Versioned, record: InstanceRecord, events: Sequence[Event]) -> str:
    """Write a changed record with what it books; its ETag.

    An attempt of which nothing is left any more gets its entry of the costs; an ended record's reservation is settled.
    Both happen once, since the record changes in the same transaction. Raises StaleRecordError, StoreUnavailableError.
    """
    gone = newly_gone(before.record, record)
    prices = on_demand_prices(parts, record, gone)
    costs = tuple(cost_entry(record, attempt, record.updated_at, prices) for attempt in gone)
    held = record.reservation
    if held is None or not record.ended or before.record.ended:
        etag = parts.store.commit(before, record, events, Booking(costs=costs))
        record_costs(parts, costs)
        return etag
    actual = micro_so_far(record, record.updated_at)

    def once(found: VersionedLedger) -> str:
        booking = Booking(settle(found.ledger, held, actual), found.etag, costs)
        return parts.store.commit(before, record, events, booking)

    etag = _on_ledger(parts, once)
    record_costs(parts, costs)
    return etag


def on_demand_prices(parts: Parts, record: InstanceRecord, attempts: Sequence[Attempt]) -> Mapping[str, float]:
    """On-demand prices of the attempts' machines, by `machine`: those the launch was planned with, else today's."""
    wanted = {machine(attempt.offer) for attempt in attempts}
    prices = {machine(offer): offer.price_per_hour for offer in record.offers if not offer.use_spot}
    if wanted - set(prices):
        try:
            offers = parts.catalog.offers(record.request.provider)
        except NotCataloguedError:
            # The offer was planned with another catalog: no saving is claimed.
            offers = ()
        for offer in offers:
            if not offer.use_spot and machine(offer) in wanted:
                prices.setdefault(machine(offer), offer.price_per_hour)
    return prices


def cost_entries(parts: Parts, record: InstanceRecord, now: datetime) -> list[CostEntry]:
    """What a live instance's attempts have cost by now, each as if it ended now unless it did."""
    seen = [attempt for attempt in record.attempts if attempt.node_up_at is not None]
    prices = on_demand_prices(parts, record, seen)
    return [cost_entry(record, attempt, now, prices) for attempt in seen]


class BudgetCapMonitor:
    """Collects, on one walk over the live instances, what the hard cap needs; one read more, none without a budget."""

    def __init__(self, parts: Parts, now: datetime) -> None:
        self._parts = parts
        self._now = now
        self._budgets = admission_rules(parts.settings).budgets
        self._running: list[Running] = []

    def see(self, record: InstanceRecord) -> None:
        """Take in a live instance."""
        if record.reservation is None or not (self._budgets.any and self._budgets.end_at_cap):
            return
        accrued = micro_so_far(record, self._now)
        ending = record.phase is Phase.TERMINATING
        self._running.append(Running(record.instance_id, record.reservation, accrued, ending))

    def to_end(self) -> Mapping[str, Failure]:
        """The instances to end, each with the reason. Raises StoreUnavailableError."""
        if not self._running:
            return {}
        return over_budget(self._parts.store.ledger().ledger, self._running, self._budgets)


def _on_ledger(parts: Parts, once: Callable[[VersionedLedger], T]) -> T:
    """Do something on the newest ledger, again when somebody else was first."""
    try:
        for attempt in Retrying(
            retry=retry_if_exception_type(StaleLedgerError),
            stop=stop_after_attempt(_TRIES),
            wait=wait_random_exponential(multiplier=0.01, max=0.5),
            sleep=parts.sleep,
            reraise=True,
        ):
            with attempt, parts.ledger_lock:
                return once(parts.store.ledger())
    except StaleLedgerError as error:
        raise StoreUnavailableError("others kept changing the ledger") from error
    raise AssertionError("unreachable: the last try returns or raises")


def _event(record: InstanceRecord, number: int, alert: BudgetAlert) -> Event:
    """The alert in the story of the instance whose launch brought the budget there."""
    return Event(
        sequence=number,
        at=record.created_at,
        type=EventType.ALERT,
        phase=record.phase,
        message=alert.message,
        data=_data(alert),
    )


def _tell(alerts: Sequence[BudgetAlert]) -> None:
    for alert in alerts:
        log.warning(alert.message, extra={"event": EventType.ALERT.value, **_data(alert)})


def _notice(alert: BudgetAlert, now: datetime) -> BudgetNotice:
    mode, _, _ = alert.scope.partition("/")
    return BudgetNotice(
        at=now,
        month=alert.month,
        mode="real" if mode == "real" else "simulation",
        label=label_of(alert.scope) or None,
        budget_usd=alert.budget / MICRO,
        used_usd=alert.used / MICRO,
        asked_usd=alert.refused / MICRO,
        message=alert.message,
    )


def _data(alert: BudgetAlert) -> dict[str, str | int]:
    return {
        "alert": "budget",
        "month": alert.month,
        "scope": alert.scope,
        "threshold_percent": alert.threshold,
        "budget_micro_usd": alert.budget,
        "used_micro_usd": alert.used,
    }
