"""Which days a report of costs covers, and what it shows of the month's budgets."""

from datetime import date, timedelta
from typing import Any

import pytest

from gpulaunch.models.queries import CostsQuery
from gpulaunch.models.reports import BudgetView
from shared.billing.budget import Budgets
from shared.billing.ledger import AttemptCosts
from shared.catalog.snapshot import snapshot
from shared.control.costs import LONGEST, CostReports
from shared.domain.errors import InvalidFieldsError
from shared.domain.money import MICRO, Account, Ledger
from shared.storage.base import Booking
from tests.twins.clock import ManualClock
from tests.twins.store import MemoryInstanceStore

MONTHLY = Budgets(monthly=100 * MICRO)
LAST = date(2025, 6, 30)


def views(budgets: Budgets, **accounts: Account) -> tuple[list[BudgetView], MemoryInstanceStore]:
    """The budgets shown; `accounts` of January by scope, `real` or `real_team_a`."""
    store = MemoryInstanceStore()
    names = {scope: f"2026-01/{scope.replace('_team_', '/team=')}" for scope in accounts}
    store.book(Booking(Ledger(accounts={names[scope]: account for scope, account in accounts.items()}), None))
    store.calls.seen.clear()
    reports = CostReports(store, AttemptCosts(snapshot()), budgets, ManualClock())
    return reports.answer(CostsQuery()).budgets, store


@pytest.mark.parametrize(
    ("spent", "reserved", "left"),
    [(0, 0, 100.0), (10, 20, 70.0), (60, 40, 0.0), (70, 40, 0.0), (101, 0, 0.0), (0, 101, 0.0)],
)
def test_what_is_neither_spent_nor_reserved_should_be_left_and_never_less_than_nothing(
    spent: int, reserved: int, left: float
) -> None:
    ((view,), _) = views(MONTHLY, real=Account(spent=spent * MICRO, reserved=reserved * MICRO))
    assert view == BudgetView(
        month="2026-01",
        mode="real",
        label=None,
        budget_usd=100.0,
        spent_usd=float(spent),
        reserved_usd=float(reserved),
        left_usd=left,
    )


@pytest.mark.parametrize(
    ("accounts", "modes"),
    [
        ({}, ["real"]),
        ({"simulation": Account()}, ["real", "simulation"]),
        ({"simulation": Account(spent=1), "real": Account(spent=1)}, ["real", "simulation"]),
    ],
)
def test_a_simulation_s_budget_should_be_shown_where_something_was_simulated(
    accounts: dict[str, Account], modes: list[str]
) -> None:
    found, _ = views(MONTHLY, **accounts)
    assert [view.mode for view in found] == modes


@pytest.mark.parametrize(
    ("monthly", "shown"), [(None, [("team=a", 4.0)]), (100 * MICRO, [(None, 98.0), ("team=a", 4.0)])]
)
def test_a_label_s_budget_should_be_shown_beside_the_whole_one(monthly: int | None, shown: Any) -> None:
    accounts = {"real": Account(spent=2 * MICRO), "real_team_a": Account(reserved=MICRO)}
    found, _ = views(Budgets(monthly=monthly, labels={"team=a": 5 * MICRO}), **accounts)
    assert [(view.label, view.left_usd) for view in found] == shown


def test_without_a_budget_none_should_be_shown_and_the_ledger_not_be_read() -> None:
    found, store = views(Budgets(), real=Account(spent=1))
    assert found == []
    assert "ledger" not in store.calls.seen


def covered(**asked: date) -> tuple[date, date]:
    query = CostsQuery.model_validate({name.rstrip("_"): day for name, day in asked.items()})
    answer = CostReports(MemoryInstanceStore(), AttemptCosts(snapshot()), Budgets(), ManualClock()).answer(query)
    return answer.first_day, answer.last_day


def test_a_report_should_cover_the_days_asked_for_or_the_month_so_far() -> None:
    today = date(2026, 1, 31)
    assert covered() == (date(2026, 1, 1), today)
    assert covered(to=LAST) == (date(2025, 6, 1), LAST)
    assert covered(from_=date(2025, 12, 24)) == (date(2025, 12, 24), today)
    assert covered(from_=LAST, to=LAST) == (LAST, LAST)


@pytest.mark.parametrize(("days", "covers"), [(-1, False), (0, True), (LONGEST - 1, True), (LONGEST, False)])
def test_days_out_of_order_or_too_many_should_be_refused(days: int, *, covers: bool) -> None:
    first = LAST - timedelta(days=days)
    if covers:
        assert covered(from_=first, to=LAST) == (first, LAST)
        return
    with pytest.raises(InvalidFieldsError) as caught:
        covered(from_=first, to=LAST)
    assert [error.field for error in caught.value.errors] == ["from"]
