"""Budgets: what fits, what is told at 50, 80 and 100 %, and what ends at the hard cap."""

import pytest

from gpulaunch.models.instances import Reason
from shared.billing.budget import Budgets, Running, apply_thresholds, budget_refusal, over_budget
from shared.billing.ledger import reserve
from shared.domain.money import MICRO, Account, Ledger, Reservation
from tests.twins.clock import START

MONTH = "2026-01"


def held(usd: float, *scopes: str, month: str = MONTH) -> Reservation:
    return Reservation(month=month, scopes=("real", *scopes), micro_usd=round(usd * MICRO), gpus=1)


def ledger(spent: float = 0, reserved: float = 0, scope: str = "real", **given: int) -> Ledger:
    account = Account(spent=round(spent * MICRO), reserved=round(reserved * MICRO), **given)
    return Ledger(accounts={f"{MONTH}/{scope}": account})


def monthly(usd: float, *, end: bool = False) -> Budgets:
    return Budgets(monthly=round(usd * MICRO), end_at_cap=end)


def team(usd: float, *, end: bool = False) -> Budgets:
    return Budgets(labels={"team=a": round(usd * MICRO)}, end_at_cap=end)


def test_a_budget_that_the_refused_launch_would_fill_to_the_cent_should_not_count_as_full() -> None:
    """It was refused for another one of its budgets."""
    both = Budgets(monthly=round(10 * MICRO), labels={"team=a": round(5 * MICRO)})
    changed, alerts = apply_thresholds(Ledger(), held(10, "real/team=a"), both, refused=True)
    assert [(alert.scope, alert.threshold) for alert in alerts] == [("real/team=a", 100)]
    assert f"{MONTH}/real" not in changed.accounts


class TestRefusal:
    @pytest.mark.parametrize(("spent", "reserved"), [(60, 30), (0, 90), (90, 0)])
    def test_what_fits_to_the_last_cent_should_be_admitted_and_a_cent_more_refused(
        self, spent: float, reserved: float
    ) -> None:
        assert budget_refusal(ledger(spent, reserved), held(10), monthly(100)) is None
        refusal = budget_refusal(ledger(spent, reserved), held(10.01), monthly(100))
        assert refusal is not None
        assert (refusal.code, refusal.limit) == ("budget_exceeded", "GPULAUNCH_MONTHLY_BUDGET_USD")
        assert (refusal.value, refusal.used, refusal.asked) == (100, 90, 10.01)

    def test_it_should_say_what_is_used_and_what_to_do(self) -> None:
        refusal = budget_refusal(ledger(60, 30.005), held(38.4), monthly(100))
        assert refusal is not None
        assert refusal.detail == (
            "The launch may cost 38.40 USD, but only 9.99 of the 100.00 USD for 2026-01 are left: 60.00 are spent and "
            "30.00 are reserved by live instances. Set budget_usd to 9.99 or less or a shorter max_lifetime_minutes, "
            "terminate an instance, or ask the operator to raise GPULAUNCH_MONTHLY_BUDGET_USD."
        )

    @pytest.mark.parametrize(("left", "proposed"), [(9_999, False), (10_000, True), (10_001, True)])
    def test_a_cent_should_be_the_least_that_is_proposed(self, left: int, *, proposed: bool) -> None:
        full = Ledger(accounts={f"{MONTH}/real": Account(spent=100 * MICRO - left)})
        refusal = budget_refusal(full, held(1), monthly(100))
        assert refusal is not None
        assert ("Set budget_usd to" in refusal.detail) is proposed

    def test_nothing_cheaper_should_be_proposed_where_nothing_is_left(self) -> None:
        refusal = budget_refusal(ledger(101), held(1), monthly(100))
        assert refusal is not None
        assert refusal.detail.endswith(
            "instances. Terminate an instance, or ask the operator to raise GPULAUNCH_MONTHLY_BUDGET_USD."
        )
        assert "only 0.00 of the 100.00 USD" in refusal.detail

    def test_a_label_s_budget_should_bind_its_label_alone(self) -> None:
        full = ledger(10, scope="real/team=a")
        assert budget_refusal(full, held(1), team(10)) is None
        refusal = budget_refusal(full, held(1, "real/team=a"), team(10))
        assert refusal is not None
        assert refusal.limit == "GPULAUNCH_LABEL_BUDGETS[team=a]"

    def test_another_month_should_begin_at_nothing(self) -> None:
        assert budget_refusal(ledger(100), held(100, month="2026-02"), monthly(100)) is None

    def test_what_costs_nothing_should_always_fit(self) -> None:
        assert budget_refusal(ledger(500), held(0), monthly(100)) is None

    def test_without_a_budget_everything_should_fit(self) -> None:
        assert budget_refusal(ledger(1e6), held(1e6), Budgets()) is None
        assert not Budgets().any


class TestAlerts:
    @pytest.mark.parametrize(
        ("used", "alerted", "told"),
        [
            (49.99, 0, None),
            (50, 0, 50),
            (79.99, 50, None),
            (80, 50, 80),
            (81, 0, 80),
            (100, 80, 100),
            (100, 100, None),
            (10, 80, None),
        ],
    )
    def test_each_threshold_should_be_told_once_and_the_highest_of_several(
        self, used: float, alerted: int, told: int | None
    ) -> None:
        before = ledger(used / 2, used / 2, alerted=alerted)
        after, alerts = apply_thresholds(before, held(1), monthly(100), refused=False)
        assert [alert.threshold for alert in alerts] == ([] if told is None else [told])
        assert after.accounts[f"{MONTH}/real"].alerted == (told or alerted)
        assert apply_thresholds(after, held(1), monthly(100), refused=False) == (after, [])

    def test_a_refused_launch_should_tell_that_the_budget_is_used_up_once(self) -> None:
        after, alerts = apply_thresholds(ledger(70, 25), held(6), monthly(100), refused=True)
        assert [alert.message for alert in alerts] == [
            "A launch of 6.00 USD exceeds the budget for 2026-01: 95.00 of 100.00 USD are spent or reserved."
        ]
        assert apply_thresholds(after, held(6), monthly(100), refused=True)[1] == []

    def test_a_refusal_by_a_label_s_budget_should_not_be_told_of_the_month_s(self) -> None:
        both = Budgets(monthly=100 * MICRO, labels={"team=a": 10 * MICRO})
        _, alerts = apply_thresholds(ledger(9, scope="real/team=a"), held(2, "real/team=a"), both, refused=True)
        assert [alert.scope for alert in alerts] == ["real/team=a"]

    def test_an_admission_should_tell_what_it_reached(self) -> None:
        reserved = reserve(ledger(30), held(25), START, rated=False)
        _, alerts = apply_thresholds(reserved, held(25), monthly(100), refused=False)
        assert [alert.message for alert in alerts] == [
            "50 % of the budget for 2026-01 are spent or reserved: 55.00 of 100.00 USD."
        ]

    def test_without_a_budget_there_should_be_nothing_to_tell(self) -> None:
        assert apply_thresholds(ledger(1e6), held(1), Budgets(), refused=False) == (ledger(1e6), [])


class TestHardCap:
    def running(self, name: str, accrued: float, *scopes: str, worst: float = 20) -> Running:
        return Running(instance_id=name, held=held(worst, *scopes), accrued=round(accrued * MICRO))

    def test_what_was_really_spent_should_end_what_runs_and_not_before(self) -> None:
        one, two = self.running("one", 3), self.running("two", 2)
        assert over_budget(ledger(4.99), [one, two], monthly(10, end=True)) == {}
        ending = over_budget(ledger(5), [one, two], monthly(10, end=True))
        assert set(ending) == {"one", "two"}
        assert ending["one"].reason is Reason.BUDGET
        assert ending["one"].message == "The budget for 2026-01 is spent: 10.00 of 10.00 USD."

    def test_what_runs_should_be_kept_where_that_is_configured(self) -> None:
        assert over_budget(ledger(500), [self.running("one", 3)], monthly(10, end=False)) == {}

    def test_reservations_alone_should_end_nothing(self) -> None:
        assert over_budget(ledger(1, reserved=9), [self.running("one", 1)], monthly(10, end=True)) == {}

    def test_a_label_s_budget_should_end_its_label_alone(self) -> None:
        ours, other = self.running("ours", 1, "real/team=a"), self.running("other", 50)
        assert set(over_budget(ledger(9, scope="real/team=a"), [ours, other], team(10, end=True))) == {"ours"}

    def test_an_instance_of_last_month_should_be_judged_by_last_month_s_budget(self) -> None:
        late = Running(instance_id="late", held=held(20, month="2025-12"), accrued=2 * MICRO)
        assert set(over_budget(ledger(10), [late, self.running("new", 0)], monthly(10, end=True))) == {"new"}

    def test_free_machines_and_those_that_end_already_should_be_left_alone(self) -> None:
        free = self.running("free", 0, worst=0)
        ending = Running(instance_id="ending", held=held(20), accrued=5 * MICRO, ending=True)
        assert over_budget(ledger(10), [free, ending], monthly(10, end=True)) == {}

    def test_what_an_ending_one_still_costs_should_count(self) -> None:
        ending = Running(instance_id="ending", held=held(20), accrued=5 * MICRO, ending=True)
        assert set(over_budget(ledger(5), [ending, self.running("one", 0)], monthly(10, end=True))) == {"one"}
