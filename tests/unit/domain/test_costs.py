"""What an instance has cost."""

from datetime import timedelta

import pytest

from shared.domain.costs import attempt_cost, cost_so_far
from tests.twins.clock import START
from tests.twins.factories import make_attempt, make_offer, make_record

HOUR = timedelta(hours=1)
CHEAP, DEAR = make_offer(price_per_hour=0.5), make_offer(price_per_hour=4.0)


def test_an_attempt_that_never_had_a_machine_should_cost_nothing() -> None:
    assert attempt_cost(make_attempt(started_at=START, billed_from=None), START + HOUR) == 0.0


def test_an_attempt_should_cost_from_its_submission_while_nothing_is_known_of_its_machine() -> None:
    assert attempt_cost(make_attempt(offer=DEAR, started_at=START), START + HOUR) == pytest.approx(4.0)
    seen = make_attempt(offer=DEAR, started_at=START, node_up_at=START + HOUR / 2)
    assert attempt_cost(seen, START + HOUR) == pytest.approx(4.0)


def test_an_attempt_should_cost_from_its_machines_creation_where_that_is_known() -> None:
    attempt = make_attempt(offer=DEAR, started_at=START, billed_from=START + HOUR / 2)
    assert attempt_cost(attempt, START + HOUR) == pytest.approx(2.0)


def test_an_attempt_that_an_earlier_version_booked_should_keep_its_cost() -> None:
    gone = make_attempt(offer=DEAR, node_up_at=START + HOUR / 2, gone_at=START + HOUR)
    assert attempt_cost(gone, START + 9 * HOUR) == pytest.approx(2.0)
    assert attempt_cost(make_attempt(offer=DEAR, gone_at=START + HOUR), START + 9 * HOUR) == 0.0


def test_a_node_that_is_gone_should_cost_no_more() -> None:
    attempt = make_attempt(offer=DEAR, node_up_at=START, gone_at=START + HOUR / 4)
    assert attempt_cost(attempt, START + 100 * HOUR) == pytest.approx(1.0)


def test_a_clock_that_went_back_should_not_give_money_back() -> None:
    assert attempt_cost(make_attempt(offer=DEAR, billed_from=START + HOUR), START) == 0.0


def test_a_machine_of_one_s_own_should_cost_nothing() -> None:
    attempt = make_attempt(offer=make_offer(price_per_hour=0), node_up_at=START)
    assert attempt_cost(attempt, START + HOUR) == 0.0


def test_an_instance_should_cost_what_all_its_attempts_cost() -> None:
    record = make_record(
        attempts=[
            make_attempt(offer=DEAR, node_up_at=START, gone_at=START + HOUR),
            make_attempt(number=2, offer=DEAR, gone_at=START + HOUR),
            make_attempt(number=3, offer=CHEAP, billed_from=START + HOUR),
        ]
    )
    assert cost_so_far(record, START + 3 * HOUR) == pytest.approx(5.0)


def test_an_instance_without_attempts_should_cost_nothing() -> None:
    assert cost_so_far(make_record(), START + HOUR) == 0.0
