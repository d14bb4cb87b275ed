"""Budget admission: a new record and its reservation are written in one transaction, or neither is.

Deployments without budgets or limits never touch the ledger.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from gpulaunch.models.instances import EventType
from shared.billing.budget import BudgetAlert, Budgets, apply_thresholds, budget_refusal
from shared.billing.gate import LedgerGate
from shared.billing.ledger import label_of, reservation_for, reserve
from shared.billing.limits import AdmissionLimits, count_refusal
from shared.domain.errors import AdmissionRefusedError
from shared.domain.instance import Event, EventData, InstanceRecord
from shared.domain.messages import BudgetNotice
from shared.domain.money import MICRO, Reservation
from shared.errors import AlreadyExistsError
from shared.storage.base import Booking, IdempotencyEntry, InstanceStore, VersionedLedger

log = logging.getLogger("gpulaunch.money")


@dataclass(frozen=True)
class AdmissionRules:
    budgets: Budgets
    limits: AdmissionLimits

    @property
    def counted(self) -> bool:
        return self.budgets.any or self.limits.counted

    @property
    def labels(self) -> set[str]:
        return self.limits.labels | set(self.budgets.labels)


class BudgetAlerts(Protocol):
    """Passes budget alerts on; never raises."""

    def admitted(self, record: InstanceRecord, events: Sequence[Event]) -> None: ...

    def refused(self, record: InstanceRecord, notice: BudgetNotice) -> None: ...


@dataclass(frozen=True)
class Admission:
    store: InstanceStore
    gate: LedgerGate
    rules: AdmissionRules
    alerts: BudgetAlerts

    def admit(
        self, record: InstanceRecord, events: Sequence[Event], idempotency: IdempotencyEntry | None = None
    ) -> InstanceRecord:
        """Write a new record and reserve what it needs, all or nothing; return the record as written.

        Raises:
            AdmissionRefusedError: A budget or a limit has no room; nothing was written.
            AlreadyExistsError: The idempotency key, or the record, exists already.
            StoreUnavailableError: Storage did not answer, or others kept changing the ledger.
        """
        rules = self.rules
        if not rules.counted:
            self.store.create(record, events, idempotency)
            return record
        reservation = reservation_for(record, rules.labels)
        now = record.created_at

        def attempt(found: VersionedLedger) -> InstanceRecord:
            refusal = count_refusal(found.ledger, reservation, rules.limits, now)
            if refusal is not None:
                raise AdmissionRefusedError(refusal)
            refusal = budget_refusal(found.ledger, reservation, rules.budgets)
            if refusal is not None:
                if self._is_admitted(record, idempotency):
                    raise AlreadyExistsError(f"{record.instance_id} or its key")
                self._alert_refusal(found, record, reservation)
                raise AdmissionRefusedError(refusal)
            rated = rules.limits.launches_per_minute is not None
            reserved = reserve(found.ledger, reservation, now, rated=rated)
            ledger, alerts = apply_thresholds(reserved, reservation, rules.budgets, refused=False)
            crossed = [_event(record, number, alert) for number, alert in enumerate(alerts, record.event_count)]
            update = {"reservation": reservation, "event_count": record.event_count + len(crossed)}
            admitted = record.model_copy(update=update)
            self.store.create(admitted, [*events, *crossed], idempotency, Booking(ledger, found.etag))
            _log(alerts)
            self.alerts.admitted(admitted, crossed)
            return admitted

        return self.gate.change(attempt)

    def take(self, record: InstanceRecord, events: Sequence[Event]) -> None:
        """Write the record of a node that runs already, and reserve what it needs whether there is room or not.

        Raises:
            AlreadyExistsError: The record exists already.
            StoreUnavailableError: Storage did not answer, or others kept changing the ledger.
        """
        if not self.rules.counted:
            self.store.create(record, events, None)
            return
        reservation = reservation_for(record, self.rules.labels)
        counted = record.model_copy(update={"reservation": reservation})

        def attempt(found: VersionedLedger) -> str:
            ledger = reserve(found.ledger, reservation, record.updated_at, rated=False)
            return self.store.create(counted, events, None, Booking(ledger, found.etag))

        self.gate.change(attempt)

    def _is_admitted(self, record: InstanceRecord, idempotency: IdempotencyEntry | None) -> bool:
        """Whether the same launch was admitted meanwhile: what takes up the budget may be its own reservation."""
        if idempotency is not None and self.store.idempotency(idempotency.key_hash) is not None:
            return True
        return self.store.load(record.instance_id) is not None

    def _alert_refusal(self, found: VersionedLedger, record: InstanceRecord, reservation: Reservation) -> None:
        marked, alerts = apply_thresholds(found.ledger, reservation, self.rules.budgets, refused=True)
        if alerts:
            self.store.book(Booking(marked, found.etag))
            _log(alerts)
            for alert in alerts:
                self.alerts.refused(record, _notice(alert, record.created_at))


def _event(record: InstanceRecord, number: int, alert: BudgetAlert) -> Event:
    """The alert in the timeline of the instance whose launch brought the budget there."""
    return Event(
        sequence=number,
        at=record.created_at,
        type=EventType.ALERT,
        phase=record.phase,
        message=alert.message,
        data=_data(alert),
    )


def _log(alerts: Sequence[BudgetAlert]) -> None:
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


def _data(alert: BudgetAlert) -> EventData:
    return {
        "alert": "budget",
        "month": alert.month,
        "scope": alert.scope,
        "threshold_percent": alert.threshold,
        "budget_micro_usd": alert.budget,
        "used_micro_usd": alert.used,
    }
