"""Monthly budgets: what fits, when to warn, and what ends at the hard cap. Pure.

What counts is the cost of ended instances and the worst case of live ones. No admission can exceed a budget, so nothing
has to be terminated to keep it, unless it is lowered or a node outlives its deadline: then actual spending decides
(`over_budget`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gpulaunch.models.instances import Reason
from shared.billing.ledger import account_key, label_of
from shared.domain.errors import Refusal
from shared.domain.instance import Failure
from shared.domain.money import MICRO, Account, Ledger, Reservation

THRESHOLDS = (50, 80, 100)
"""Percent of a budget, spent or reserved, at which an alert is sent."""


@dataclass(frozen=True)
class Budgets:
    """The deployment's budgets for each month, micro-USD; None or empty: none."""

    monthly: int | None = None
    labels: Mapping[str, int] = field(default_factory=dict[str, int])
    """By label, `team=a`."""
    end_at_cap: bool = False
    """Running instances are ended when a budget is really used up; else they go on and only new ones are refused."""

    @property
    def any(self) -> bool:
        return self.monthly is not None or bool(self.labels)

    def of(self, scope: str) -> int | None:
        label = label_of(scope)
        return self.labels.get(label) if label else self.monthly


@dataclass(frozen=True, kw_only=True)
class BudgetAlert:
    month: str
    scope: str
    threshold: int
    """Percent."""
    budget: int
    """Micro-USD."""
    used: int
    """Spent or reserved, micro-USD."""
    refused: int = 0
    """What a refused launch would have needed, micro-USD; 0 if the threshold itself was reached."""

    @property
    def message(self) -> str:
        if self.refused:
            return (
                f"A launch of {dollars(self.refused)} USD exceeds the budget for {named(self.month, self.scope)}: "
                f"{dollars(self.used)} of {dollars(self.budget)} USD are spent or reserved."
            )
        return (
            f"{self.threshold} % of the budget for {named(self.month, self.scope)} are spent or reserved: "
            f"{dollars(self.used)} of {dollars(self.budget)} USD."
        )


@dataclass(frozen=True, kw_only=True)
class Running:
    """A live instance and its cost, for the hard cap."""

    instance_id: str
    held: Reservation
    accrued: int
    """Cost so far, micro-USD."""
    ending: bool = False
    """Whether it is terminating already."""


def dollars(micro: int) -> str:
    return f"{micro / MICRO:.2f}"


def named(month: str, scope: str) -> str:
    label = label_of(scope)
    return f"{month} ({label})" if label else month


def budget_refusal(ledger: Ledger, held: Reservation, budgets: Budgets) -> Refusal | None:
    """Return why an instance's worst case exceeds a budget, or None. What costs nothing always fits."""
    for scope in held.scopes:
        budget = budgets.of(scope)
        account = ledger.accounts.get(account_key(held.month, scope), Account())
        used = account.spent + account.reserved
        if budget is None or held.micro_usd == 0 or used + held.micro_usd <= budget:
            continue
        label = label_of(scope)
        setting = f"GPULAUNCH_LABEL_BUDGETS[{label}]" if label else "GPULAUNCH_MONTHLY_BUDGET_USD"
        left = max(0, budget - used)
        cheaper = f"Set budget_usd to {left // 10_000 / 100:.2f} or less or a shorter max_lifetime_minutes, "
        advice = f"{cheaper}terminate" if left >= 10_000 else "Terminate"
        detail = (
            f"The launch may cost {dollars(held.micro_usd)} USD, but only {dollars(left)} of the {dollars(budget)} USD "
            f"for {named(held.month, scope)} are left: {dollars(account.spent)} are spent and "
            f"{dollars(account.reserved)} are reserved by live instances. {advice} an instance, or ask "
            f"the operator to raise {setting.partition('[')[0]}."
        )
        return Refusal(
            code="budget_exceeded",
            limit=setting,
            value=budget / MICRO,
            used=used / MICRO,
            asked=held.micro_usd / MICRO,
            detail=detail,
        )
    return None


def apply_thresholds(
    ledger: Ledger, held: Reservation, budgets: Budgets, *, refused: bool
) -> tuple[Ledger, list[BudgetAlert]]:
    """Return the ledger with newly reached thresholds marked, and the alerts to send.

    `refused`: the launch did not fit one of the accounts, which counts as 100 %. Each threshold is reported once a
    month; of several reached at once, the highest.
    """
    alerts: list[BudgetAlert] = []
    accounts = dict(ledger.accounts)
    for scope in held.scopes:
        budget, key = budgets.of(scope), account_key(held.month, scope)
        account = accounts.get(key, Account())
        if budget is None:
            continue
        used = account.spent + account.reserved
        full = refused and used + held.micro_usd > budget
        passed = [percent for percent in THRESHOLDS if full or used * 100 >= budget * percent]
        if passed and passed[-1] > account.alerted:
            accounts[key] = account.model_copy(update={"alerted": passed[-1]})
            alerts.append(
                BudgetAlert(
                    month=held.month,
                    scope=scope,
                    threshold=passed[-1],
                    budget=budget,
                    used=used,
                    refused=held.micro_usd if full else 0,
                )
            )
    return ledger.model_copy(update={"accounts": accounts}), alerts


def over_budget(ledger: Ledger, running: Sequence[Running], budgets: Budgets) -> dict[str, Failure]:
    """Return the instances to terminate because actual spending has reached their budget.

    Instances on machines that cost nothing are left alone.
    """
    if not budgets.end_at_cap:
        return {}
    actual: dict[tuple[str, str], int] = {}
    for one in running:
        for scope in one.held.scopes:
            account = ledger.accounts.get(account_key(one.held.month, scope), Account())
            actual[one.held.month, scope] = actual.get((one.held.month, scope), account.spent) + one.accrued
    ending: dict[str, Failure] = {}
    for one in running:
        if one.ending or one.held.micro_usd == 0:
            continue
        for scope in one.held.scopes:
            budget, used = budgets.of(scope), actual[one.held.month, scope]
            if budget is not None and used >= budget:
                message = (
                    f"The budget for {named(one.held.month, scope)} is spent: {dollars(used)} of {dollars(budget)} USD."
                )
                ending.setdefault(one.instance_id, Failure(reason=Reason.BUDGET, message=message))
    return ending
