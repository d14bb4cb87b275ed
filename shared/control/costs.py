"""GET /api/costs: what ended attempts have cost, as booked, and what running ones cost by now."""

import csv
import io
import re
from collections.abc import Mapping
from datetime import date, timedelta

from gpulaunch.models.problems import FieldError
from gpulaunch.models.requests import LABEL_KEY
from gpulaunch.models.responses import BudgetView, CostGroup, CostsAnswer
from shared.api.problems import invalid_request
from shared.billing.admission import admission_rules, cost_entries
from shared.billing.ledger import account_key, label_of, month_of
from shared.billing.report import BYS, By, Sums, once, report
from shared.control.parts import Parts
from shared.control.queries import one_of, only_known
from shared.domain.money import MICRO, Account
from shared.storage.base import readable

LONGEST = 366
"""Days in one report: a year, since everything that ended since its first day is read."""
_BYS: dict[str, By] = {name: name for name in BYS}
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_HOUR = 3_600_000
"""Milliseconds."""


def costs_answer(parts: Parts, query: Mapping[str, str]) -> CostsAnswer:
    """What was spent; from the first of the month until today unless asked otherwise. Raises ProblemError (422)."""
    only_known(query, ("from", "to", "by", "label", "format"))
    now = parts.clock.now()
    last = _day(query, "to", now.date())
    first = _day(query, "from", last.replace(day=1))
    if not first <= last <= first + timedelta(days=LONGEST - 1):
        message = f"`from` is not after `to`, and a report covers {LONGEST} days at most."
        raise invalid_request([FieldError(field="from", message=message)])
    by = one_of(query, "by", _BYS) or "day"
    label = query.get("label")
    if label is not None and (by != "label" or not re.fullmatch(LABEL_KEY, label)):
        raise invalid_request([FieldError(field="label", message="A label's key, with by=label.")])
    one_of(query, "format", {"json": None, "csv": None})
    # Live ones first: an attempt that ends in between is then found twice, and counted once, rather than never.
    running = [entry for found in readable(parts.store.live()) for entry in cost_entries(parts, found.record, now)]
    made = report(once(parts.store.costs(first), running), first, last, by, label)
    return CostsAnswer(
        first_day=first,
        last_day=last,
        by=by,
        groups=[_group(name, sums) for name, sums in made.groups.items()],
        total=_group("total", made.total),
        budgets=_budgets(parts, month_of(now)),
    )


def as_csv(answer: CostsAnswer) -> str:
    """The groups as CSV with a line of names (RFC 4180); without the total, so that a column adds up to it."""
    text = io.StringIO()
    names = list(CostGroup.model_fields)
    writer = csv.writer(text)
    writer.writerow([answer.by, *names[1:]])
    for group in answer.groups:
        writer.writerow([getattr(group, name) for name in names])
    return text.getvalue()


def _day(query: Mapping[str, str], name: str, default: date) -> date:
    text = query.get(name)
    if text is None:
        return default
    try:
        if _DAY.fullmatch(text):
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise invalid_request([FieldError(field=name, message="A day, UTC, such as 2026-11-23.")])


def _group(name: str, sums: Sums) -> CostGroup:
    return CostGroup(
        key=name,
        node_hours=round(sums.milliseconds / _HOUR, 4),
        actual_usd=sums.actual / MICRO,
        estimated_usd=sums.planned / MICRO,
        on_demand_usd=sums.on_demand / MICRO,
        spot_saving_usd=sums.saved / MICRO,
        simulated_usd=sums.simulated / MICRO,
    )


def _budgets(parts: Parts, month: str) -> list[BudgetView]:
    """How this month's budgets stand; those of real and of simulated launches apart."""
    budgets = admission_rules(parts.settings).budgets
    if not budgets.any:
        return []
    ledger = parts.store.ledger().ledger
    views: list[BudgetView] = []
    for mode in ("real", "simulation"):
        for scope in (mode, *(f"{mode}/{label}" for label in budgets.labels)):
            budget, account = budgets.of(scope), ledger.accounts.get(account_key(month, scope))
            if budget is None or (account is None and mode == "simulation"):
                continue
            account = account or Account()
            views.append(
                BudgetView(
                    month=month,
                    mode=mode,
                    label=label_of(scope) or None,
                    budget_usd=budget / MICRO,
                    spent_usd=account.spent / MICRO,
                    reserved_usd=account.reserved / MICRO,
                    left_usd=max(0, budget - account.spent - account.reserved) / MICRO,
                )
            )
    return views
