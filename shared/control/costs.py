"""What was spent: the booked costs of ended attempts, and what running ones have cost by now."""

from dataclasses import dataclass
from datetime import timedelta

from gpulaunch.models.instances import Mode
from gpulaunch.models.problems import FieldError
from gpulaunch.models.queries import CostsQuery
from gpulaunch.models.reports import BudgetView, CostGroup, CostsAnswer
from shared.billing.budget import Budgets
from shared.billing.ledger import AttemptCosts, account_key, label_of, month_of
from shared.billing.report import Sums, once, report
from shared.clock import Clock
from shared.domain.errors import InvalidFieldsError
from shared.domain.money import MICRO, Account
from shared.storage.base import InstanceStore, readable

LONGEST = 366
"""Days in one report: a year, since everything that ended since its first day is read."""
_HOUR = 3_600_000
"""Milliseconds."""


@dataclass(frozen=True)
class CostReports:
    store: InstanceStore
    costs: AttemptCosts
    budgets: Budgets
    clock: Clock

    def answer(self, query: CostsQuery) -> CostsAnswer:
        """What was spent; from the first of the month until today unless asked otherwise.

        Raises:
            InvalidFieldsError: The days are out of order, or too many.
            StoreUnavailableError: Storage did not answer.
        """
        now = self.clock.now()
        last = query.last_day or now.date()
        first = query.first_day or last.replace(day=1)
        if not first <= last <= first + timedelta(days=LONGEST - 1):
            message = f"`from` must not be after `to`, and a report covers {LONGEST} days at most."
            raise InvalidFieldsError([FieldError(field="from", message=message)])
        # Live ones first: an attempt that ends in between is then found twice, and counted once, rather than never.
        running = [entry for found in readable(self.store.live()) for entry in self.costs.so_far(found.record, now)]
        made = report(once(self.store.costs(first), running), first, last, query.by, query.label)
        return CostsAnswer(
            first_day=first,
            last_day=last,
            by=query.by,
            groups=[_group(name, sums) for name, sums in made.groups.items()],
            total=_group("total", made.total),
            budgets=self._budget_views(month_of(now)),
        )

    def _budget_views(self, month: str) -> list[BudgetView]:
        budgets = self.budgets
        if not budgets.any:
            return []
        ledger = self.store.ledger().ledger
        views: list[BudgetView] = []
        modes: tuple[Mode, ...] = ("real", "simulation")
        for mode in modes:
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
