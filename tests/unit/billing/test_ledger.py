"""What an instance takes from the ledger and gives back, to the micro-USD."""

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from gpulaunch.models.offers import Offer
from shared.billing.ledger import (
    AttemptCosts,
    account_key,
    cost_entry,
    machine,
    newly_gone,
    recent_launches,
    reservation_for,
    reserve,
    settle,
)
from shared.catalog.snapshot import snapshot
from shared.domain.catalog import NotCataloguedError
from shared.domain.costs import cost_so_far, micro_so_far, micro_usd
from shared.domain.instance import AttemptState
from shared.domain.money import Account, Ledger, Reservation, Usage
from tests.twins.clock import START
from tests.twins.factories import make_attempt, make_offer, make_record, make_request

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


def held(amount: int = 10, *scopes: str, month: str = "2026-01", gpus: int = 2) -> Reservation:
    return Reservation(month=month, scopes=("real", *scopes), micro_usd=amount, gpus=gpus)


class TestMicroUsd:
    @pytest.mark.parametrize(
        ("price", "seconds", "expected"),
        [
            (3.6, 1, 1_000),
            (0.8, 3600, 800_000),
            (3.2, 90, 80_000),
            (0.0, 3600, 0),
            (0.0018, 1, 1),  # half a micro-USD goes up
            (0.0017, 1, 0),
        ],
    )
    def test_a_price_should_come_to_whole_micro_usd(self, price: float, seconds: int, expected: int) -> None:
        assert micro_usd(price, START, START + timedelta(seconds=seconds)) == expected

    def test_a_clock_that_went_back_should_not_give_money_back(self) -> None:
        assert micro_usd(3.6, START + HOUR, START) == 0

    def test_what_storage_cuts_off_should_not_count(self) -> None:
        begin, end = START + timedelta(microseconds=999), START + SECOND + timedelta(microseconds=1)
        assert micro_usd(3600, begin, end) == micro_usd(3600, START, START + SECOND)

    def test_whole_micro_usd_should_agree_with_the_sum_in_floats(self) -> None:
        random = Random(4)
        for _ in range(200):
            attempts = [
                make_attempt(
                    number=number,
                    offer=make_offer(price_per_hour=round(random.uniform(0, 99), 4)),
                    billed_from=START if number % 3 else None,
                    gone_at=START + timedelta(seconds=random.randrange(1_000_000)),
                )
                for number in range(1, 6)
            ]
            record = make_record(attempts=attempts)
            assert micro_so_far(record, START) == pytest.approx(cost_so_far(record, START) * 1e6, abs=5)


class TestReservation:
    def test_it_should_hold_the_worst_case_and_the_gpus_in_the_month_of_acceptance(self) -> None:
        record = make_record(
            worst_case_usd=38.4,
            offers=[make_offer(gpu_count=1), make_offer(gpu_count=4)],
            created_at=datetime(2026, 1, 31, 23, 59, tzinfo=UTC),
        )
        expected = Reservation(month="2026-01", scopes=("simulation",), micro_usd=38_400_000, gpus=4)
        assert reservation_for(record, ()) == expected

    @pytest.mark.parametrize(("budget", "expected"), [(5, 5_000_000), (100, 38_400_000)])
    def test_a_budget_of_its_own_should_bound_it_from_above(self, budget: float, expected: int) -> None:
        record = make_record(worst_case_usd=38.4, request=make_request(budget_usd=budget))
        assert reservation_for(record, ()).micro_usd == expected

    def test_only_labels_that_are_counted_should_be_scopes(self) -> None:
        record = make_record(request=make_request(labels={"team": "a", "run": "17"}), mode="real")
        assert reservation_for(record, {"team=a", "team=b", "run=18"}).scopes == ("real", "real/team=a")


class TestReserveAndSettle:
    def test_an_admission_should_count_in_every_scope(self) -> None:
        ledger = reserve(Ledger(), held(10, "real/team=a"), START, rated=False)
        assert ledger.accounts == {
            "2026-01/real": Account(reserved=10),
            "2026-01/real/team=a": Account(reserved=10),
        }
        assert ledger.usage == {"real": Usage(instances=1, gpus=2), "real/team=a": Usage(instances=1, gpus=2)}
        assert ledger.launched == ()

    def test_an_end_should_turn_the_reservation_into_what_was_spent(self) -> None:
        ledger = reserve(Ledger(), held(10), START, rated=False)
        ledger = settle(reserve(ledger, held(5), START, rated=False), held(10), 3)
        assert ledger.accounts == {"2026-01/real": Account(reserved=5, spent=3)}
        assert ledger.usage == {"real": Usage(instances=1, gpus=2)}

    def test_an_end_in_a_later_month_should_be_booked_to_the_month_of_acceptance(self) -> None:
        ledger = reserve(reserve(Ledger(), held(10), START, rated=False), held(7, month="2026-02"), START, rated=False)
        ledger = settle(ledger, held(10), 4)
        assert ledger.accounts == {"2026-01/real": Account(spent=4), "2026-02/real": Account(reserved=7)}

    def test_simulated_and_real_money_should_not_mix(self) -> None:
        other = Reservation(month="2026-01", scopes=("simulation",), micro_usd=99, gpus=1)
        ledger = reserve(reserve(Ledger(), held(10), START, rated=False), other, START, rated=False)
        assert ledger.accounts["2026-01/real"].reserved == 10
        assert ledger.usage["real"].instances == 1

    def test_whatever_the_order_nothing_should_be_left_at_the_end(self) -> None:
        random = Random(7)
        live: list[Reservation] = []
        ledger, total = Ledger(), 0
        for _ in range(500):
            if live and random.random() < 0.5:
                actual = random.randrange(1000)
                total += actual
                ledger = settle(ledger, live.pop(random.randrange(len(live))), actual)
            else:
                live.append(held(random.randrange(1000), gpus=random.randrange(9)))
                ledger = reserve(ledger, live[-1], START, rated=False)
            assert ledger.accounts["2026-01/real"] == Account(reserved=sum(one.micro_usd for one in live), spent=total)
            assert ledger.usage["real"] == Usage(instances=len(live), gpus=sum(one.gpus for one in live))

    def test_a_ledger_that_an_operator_deleted_should_not_go_below_nothing(self) -> None:
        ledger = settle(Ledger(), held(10), 3)
        assert ledger.accounts == {"2026-01/real": Account(spent=3)}
        assert ledger.usage == {"real": Usage()}

    def test_settled_accounts_should_be_dropped_after_a_year_and_held_ones_kept(self) -> None:
        accounts = {
            "2025-01/real": Account(spent=1),
            "2025-02/real": Account(spent=2),
            "2024-12/real": Account(reserved=3),
        }
        ledger = reserve(Ledger(accounts=accounts), held(month="2026-02"), START, rated=False)
        assert set(ledger.accounts) == {"2025-02/real", "2024-12/real", "2026-02/real"}

    def test_launches_should_be_remembered_for_a_minute_and_only_where_they_are_rated(self) -> None:
        ledger = reserve(Ledger(), held(), START, rated=True)
        ledger = reserve(ledger, held(), START + 59 * SECOND, rated=True)
        assert recent_launches(ledger, START + 59 * SECOND) == (START, START + 59 * SECOND)
        assert reserve(ledger, held(), START + 60 * SECOND, rated=True).launched == (
            START + 59 * SECOND,
            START + 60 * SECOND,
        )
        assert reserve(ledger, held(), START + 60 * SECOND, rated=False).launched == ()


class TestEntries:
    def test_an_attempt_should_be_booked_when_it_becomes_gone_and_not_again(self) -> None:
        releasing = make_attempt(state=AttemptState.RELEASING, node_up_at=START)
        gone = make_attempt(state=AttemptState.GONE, node_up_at=START, gone_at=START + HOUR)
        before, after = make_record(attempts=[releasing]), make_record(attempts=[gone])
        assert newly_gone(before, before) == []
        assert newly_gone(before, after) == [gone]
        assert newly_gone(after, after) == []

    def test_an_attempt_that_never_had_a_machine_should_not_be_booked(self) -> None:
        gone = make_attempt(state=AttemptState.GONE, gone_at=START + HOUR, billed_from=None)
        assert newly_gone(make_record(attempts=[make_attempt()]), make_record(attempts=[gone])) == []
        with pytest.raises(ValueError, match="without a machine"):
            cost_entry(make_record(), gone, START, {})

    def test_an_entry_should_say_what_was_paid_planned_and_saved(self) -> None:
        attempt = make_attempt(
            offer=make_offer(price_per_hour=0.96), node_up_at=START, gone_at=START + HOUR, state=AttemptState.GONE
        )
        record = make_record(attempts=[attempt], request=make_request(labels={"team": "a"}))
        entry = cost_entry(record, attempt, START + 9 * HOUR, {machine(attempt.offer): 3.84})
        assert (entry.price_per_hour, entry.planned_per_hour, entry.on_demand_per_hour) == (0.96, 0.64, 3.84)
        assert (entry.up_at, entry.gone_at, entry.day) == (START, START + HOUR, START.date())
        assert (entry.labels, entry.mode, entry.use_spot) == ({"team": "a"}, "simulation", True)

    def test_a_running_attempt_should_count_until_now_and_claim_no_unknown_price(self) -> None:
        attempt = make_attempt(node_up_at=START)
        entry = cost_entry(make_record(attempts=[attempt]), attempt, START + HOUR, {})
        assert (entry.gone_at, entry.on_demand_per_hour) == (START + HOUR, None)

    def test_spot_and_on_demand_of_one_machine_should_be_the_same_machine(self) -> None:
        assert machine(make_offer()) == machine(make_offer(use_spot=False, price_per_hour=3.2))
        assert machine(make_offer()) != machine(make_offer(region="westus"))
        assert account_key("2026-01", "real") == "2026-01/real"


class Listed:
    """A catalog that lists these offers; None: it does not know the provider."""

    def __init__(self, offers: list[Offer] | None) -> None:
        self.offers = offers

    def listing(self, provider: str) -> "Listed":
        if self.offers is None:
            raise NotCataloguedError("azure", f"{provider} has no catalog")
        return self


class TestPrices:
    """What a machine would have cost on demand: as it was planned with, else as the catalog has it today."""

    def priced(self, offers: list[Offer], attempt: Offer, catalog: Any = None) -> float | None:
        made = make_attempt(offer=attempt, node_up_at=START, billed_from=START)
        costs = AttemptCosts(catalog or snapshot())
        (entry,) = costs.so_far(make_record(offers=offers, attempts=[made]), START + HOUR)
        return entry.on_demand_per_hour

    def test_a_price_of_the_plan_should_count(self) -> None:
        spot, on_demand = make_offer(), make_offer(use_spot=False, price_per_hour=9.0)
        assert self.priced([spot, on_demand], spot) == 9.0

    def test_without_one_the_catalog_s_should(self) -> None:
        listed = [
            one
            for one in snapshot().listing("azure").offers
            if (one.region, one.instance_type) == ("eastus", "Standard_NV36ads_A10_v5")
        ]
        (spot,) = (one for one in listed if one.use_spot)
        (on_demand,) = (one for one in listed if not one.use_spot)
        assert spot.price_per_hour < on_demand.price_per_hour
        assert self.priced([spot], spot) == on_demand.price_per_hour

    def test_the_catalog_s_spot_price_should_not_be_taken_for_the_other(self) -> None:
        listed = [make_offer(price_per_hour=0.5), make_offer(use_spot=False, price_per_hour=9.0)]
        assert self.priced([make_offer()], make_offer(), Listed(listed)) == 9.0

    def test_a_provider_that_has_no_catalog_any_more_should_claim_no_saving(self) -> None:
        assert self.priced([make_offer()], make_offer(), Listed(None)) is None

    def test_a_machine_that_neither_knows_should_claim_no_saving(self) -> None:
        spot = make_offer(instance_type="Standard_Unheard_Of")
        assert self.priced([spot], spot) is None
