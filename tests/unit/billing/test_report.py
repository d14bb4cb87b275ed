"""What was spent, by day and otherwise; every amount computed by hand."""

from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any

import pytest

from shared.billing.report import BYS, Sums, once, report
from shared.domain.costs import micro_usd
from shared.domain.money import CostEntry
from tests.twins.factories import make_cost, make_instance_id

MIDNIGHT = datetime(2026, 2, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
JANUARY_31, FEBRUARY_1 = date(2026, 1, 31), date(2026, 2, 1)
ALL = (date(2026, 1, 1), date(2026, 12, 31))


def entry(before: float, after: float, **given: Any) -> CostEntry:
    """An attempt from some hours before midnight to some hours after it."""
    return make_cost(up_at=MIDNIGHT - before * HOUR, gone_at=MIDNIGHT + after * HOUR, **given)


def test_an_attempt_over_midnight_should_cost_a_part_on_each_day() -> None:
    found = report([entry(2, 3)], *ALL, "day")
    assert {day: sums.actual for day, sums in found.groups.items()} == {
        "2026-01-31": 1_600_000,
        "2026-02-01": 2_400_000,
    }
    assert found.total.actual == 4_000_000
    assert found.total.milliseconds == 5 * 3_600_000


def test_an_attempt_that_ended_at_midnight_should_cost_nothing_on_the_next_day() -> None:
    assert list(report([entry(2, 0)], *ALL, "day").groups) == ["2026-01-31"]
    assert list(report([entry(0, 2)], *ALL, "day").groups) == ["2026-02-01"]


def test_what_is_outside_the_days_should_not_count() -> None:
    assert report([entry(30, 30)], JANUARY_31, JANUARY_31, "day").total.actual == 24 * 800_000
    assert report([entry(30, 3)], FEBRUARY_1, FEBRUARY_1, "day").total.actual == 3 * 800_000
    assert report([entry(2, 0)], FEBRUARY_1, FEBRUARY_1, "day").total == Sums()
    assert report([entry(0, 2)], JANUARY_31, JANUARY_31, "day").total == Sums()


def test_the_parts_of_an_attempt_should_add_up_to_the_micro_usd() -> None:
    random = Random(11)
    for _ in range(200):
        one = make_cost(
            up_at=MIDNIGHT + timedelta(milliseconds=random.randrange(10**9)),
            gone_at=MIDNIGHT + timedelta(milliseconds=random.randrange(10**9, 3 * 10**9)),
            price_per_hour=round(random.uniform(0, 100), 6),
        )
        whole = micro_usd(one.price_per_hour, one.up_at, one.gone_at)
        found = report([one], *ALL, "day")
        assert sum(day.actual for day in found.groups.values()) == found.total.actual == whole


def test_spot_should_save_what_on_demand_would_have_cost_more() -> None:
    total = report([entry(1, 0, price_per_hour=0.8, on_demand_per_hour=3.2)], *ALL, "day").total
    assert (total.actual, total.on_demand, total.saved) == (800_000, 3_200_000, 2_400_000)


@pytest.mark.parametrize(
    "given",
    [{"use_spot": False, "price_per_hour": 3.2}, {"on_demand_per_hour": None}],
    ids=["on-demand", "no price known"],
)
def test_no_saving_should_be_claimed_otherwise(given: dict[str, Any]) -> None:
    total = report([entry(1, 0, **given)], *ALL, "day").total
    assert total.saved == 0
    assert total.on_demand == total.actual


def test_the_estimate_should_be_the_same_time_at_the_planned_price() -> None:
    total = report([entry(1, 1, price_per_hour=3.2, planned_per_hour=0.8, use_spot=False)], *ALL, "day").total
    assert (total.actual, total.planned) == (6_400_000, 1_600_000)


def test_simulated_cost_should_be_told_apart() -> None:
    total = report([entry(1, 0), entry(2, 0, mode="simulation")], *ALL, "day").total
    assert (total.actual, total.simulated) == (2_400_000, 1_600_000)


def test_an_instance_should_be_in_the_group_of_each_label_and_once_in_the_total() -> None:
    found = report([entry(1, 0, labels={"team": "a", "run": "7"}), entry(2, 0)], *ALL, "label")
    assert {name: sums.actual for name, sums in found.groups.items()} == {
        "(none)": 1_600_000,
        "run=7": 800_000,
        "team=a": 800_000,
    }
    assert found.total.actual == 2_400_000


def test_one_label_should_give_groups_of_its_values() -> None:
    entries = [entry(1, 0, labels={"team": "a", "run": "7"}), entry(2, 0, labels={"run": "8"})]
    found = report(entries, *ALL, "label", "team")
    assert {name: sums.actual for name, sums in found.groups.items()} == {"(none)": 1_600_000, "a": 800_000}


@pytest.mark.parametrize("by", BYS)
def test_whatever_the_groups_the_total_should_be_the_same(by: Any) -> None:
    entries = [entry(1, 1), entry(2, 0, model_name="other/model", provider="aws", labels={"team": "a"})]
    found = report(entries, *ALL, by)
    assert found.total == report(entries, *ALL, "day").total
    assert sum((sums for sums in found.groups.values()), Sums()) == found.total


def test_an_attempt_found_live_and_booked_should_count_as_booked() -> None:
    live, booked, other = entry(1, 5), entry(1, 1), entry(1, 1, instance_id=make_instance_id(2))
    assert once([booked], [live]) == [booked]
    assert once([booked, other], [entry(1, 5, attempt=2)]) == [entry(1, 5, attempt=2), booked, other]
