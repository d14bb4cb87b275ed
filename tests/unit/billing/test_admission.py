"""A refusal marks the budget as used up before anyone is alerted, so that of many callers one alerts."""

import logging
from collections.abc import Sequence

import pytest

from shared.billing.admission import Admission, AdmissionRules
from shared.billing.budget import Budgets
from shared.billing.gate import LedgerGate
from shared.billing.limits import AdmissionLimits
from shared.domain.errors import AdmissionRefusedError
from shared.domain.instance import Event, InstanceRecord
from shared.domain.messages import BudgetNotice
from shared.errors import AlreadyExistsError, StaleLedgerError
from shared.storage.base import IdempotencyEntry
from tests.twins.factories import make_record
from tests.twins.store import MemoryInstanceStore

NEEDS_ALL = make_record(worst_case_usd=1.0)


class Admitting:
    def __init__(self, budget: int) -> None:
        self.store, self.notices = MemoryInstanceStore(), list[BudgetNotice]()
        rules = AdmissionRules(Budgets(monthly=budget), AdmissionLimits())
        self.admission = Admission(self.store, LedgerGate(self.store, lambda _: None), rules, self)

    def admitted(self, record: InstanceRecord, events: Sequence[Event]) -> None:
        pass

    def refused(self, record: InstanceRecord, notice: BudgetNotice) -> None:
        self.notices.append(notice)

    def refuse(self) -> None:
        with pytest.raises(AdmissionRefusedError):
            self.admission.admit(NEEDS_ALL, [])


def test_a_refusal_should_be_alerted_once_a_month(caplog: pytest.LogCaptureFixture) -> None:
    admitting = Admitting(budget=500_000)
    with caplog.at_level(logging.WARNING, "gpulaunch.money"):
        admitting.refuse()
        admitting.refuse()
    assert len(admitting.notices) == len(caplog.messages) == 1
    assert admitting.store.calls.count("book") == 1


def test_a_refusal_that_another_caller_was_first_with_should_be_neither_logged_nor_alerted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    admitting = Admitting(budget=500_000)
    # The other caller's mark, with an answer that tells this one that the ledger was changed by somebody else.
    admitting.store.calls.fail_next("book", StaleLedgerError("another was first"), applied=True)
    with caplog.at_level(logging.WARNING, "gpulaunch.money"):
        admitting.refuse()
    assert (admitting.notices, caplog.messages) == ([], [])


@pytest.mark.parametrize("key", [None, "key"])
def test_the_same_launch_twice_should_be_no_refusal_and_no_alert(key: str | None) -> None:
    admitting = Admitting(budget=1_500_000)

    def admit(record: InstanceRecord) -> None:
        entry = None
        if key is not None:
            entry = IdempotencyEntry(
                key_hash=key, body_hash="b", instance_id=record.instance_id, answer="{}", created_at=record.created_at
            )
        admitting.admission.admit(record, [], entry)

    admit(NEEDS_ALL)
    again = NEEDS_ALL if key is None else NEEDS_ALL.model_copy(update={"instance_id": f"{NEEDS_ALL.instance_id[:-1]}9"})
    with pytest.raises(AlreadyExistsError):
        admit(again)
    assert admitting.notices == []


def test_a_launch_that_another_caller_overtakes_should_log_its_threshold_once(caplog: pytest.LogCaptureFixture) -> None:
    admitting = Admitting(budget=1_500_000)
    admitting.store.calls.fail_next("create", StaleLedgerError("another was first"))
    with caplog.at_level(logging.WARNING, "gpulaunch.money"):
        admitting.admission.admit(NEEDS_ALL, [])
    assert len(caplog.messages) == 1
    assert admitting.notices == []
