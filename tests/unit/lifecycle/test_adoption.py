"""The record that a running node gets back: enough to serve, to be paid for and to be ended."""

from datetime import timedelta
from typing import Any

import pytest

from gpulaunch.models.instances import EventType, Phase, Reason
from gpulaunch.models.offers import Offer
from shared.domain.instance import AttemptState, Event, InstanceRecord, cluster_name
from shared.lifecycle.adoption import adopted
from shared.lifecycle.timeouts import Timeouts
from tests.twins.clock import START
from tests.twins.factories import make_instance_id, make_offer

ID = make_instance_id()
NOW = START + timedelta(hours=3)


def adopt(offer: Offer, number: int = 1, **given: Any) -> tuple[InstanceRecord, Event]:
    facts: dict[str, Any] = {
        "model_name": "org/model",
        "created_at": START,
        "now": NOW,
        "lifetime_minutes": 300,
        "heard": True,
        "calls_us": True,
        "port": 8000,
        "timeouts": Timeouts(),
    }
    record, (event,) = adopted(ID, number, offer, **facts | given)
    return record, event


def test_the_record_should_say_what_the_cloud_says_and_why_it_is_there() -> None:
    offer = make_offer(provider="aws", region="us-east-1", instance_type="g5.xlarge", price_per_hour=1.5)
    record, event = adopt(offer, 2)
    assert (record.mode, record.mode_reason) == ("real", "Its record was lost; it was adopted from the cloud.")
    asked = record.request
    assert (asked.provider, asked.region, asked.instance_type, asked.gpu) == ("aws", "us-east-1", "g5.xlarge", None)
    assert (record.offers, record.tried_in_round) == ([offer], 1)
    assert record.deadline_at == START + timedelta(minutes=300)
    assert (event.sequence, event.type, event.phase, event.attempt) == (0, EventType.ACCEPTED, Phase.INSTALLING, 2)
    assert event.message == f"Adopted {cluster_name(ID, 2)}, which was running without a record."


def test_its_attempts_should_be_numbered_on_and_only_the_latest_cost_money_and_be_asked() -> None:
    record, _ = adopt(make_offer(), 3)
    *earlier, latest = record.attempts
    assert [(one.number, one.state, one.billed_from, one.gone_at) for one in earlier] == [
        (1, AttemptState.GONE, None, START),
        (2, AttemptState.GONE, None, START),
    ]
    assert {one.failure.reason for one in earlier if one.failure is not None} == {Reason.PROVIDER_UNAVAILABLE}
    assert (latest.number, latest.cluster_name, latest.state) == (3, cluster_name(ID, 3), AttemptState.SUBMITTED)
    assert (latest.billed_from, latest.node_up_at, latest.listed) == (START, NOW, True)
    assert (latest.port, latest.proves) == (8000, True)


@pytest.mark.parametrize("yes", [True, False])
def test_how_it_is_heard_should_be_as_it_was_found(*, yes: bool) -> None:
    record, _ = adopt(make_offer(), heard=yes, calls_us=yes)
    assert (record.attempts[-1].heard_at, record.attempts[-1].calls_us) == (NOW if yes else None, yes)


def test_a_loss_should_be_final_since_nothing_is_known_of_what_was_asked_for() -> None:
    record, _ = adopt(make_offer(use_spot=False))
    assert record.recoveries == Timeouts().max_recoveries
    assert (record.request.use_spot, record.request.spot_fallback) == (False, False)
    spot, _ = adopt(make_offer(use_spot=True))
    assert (spot.request.use_spot, spot.request.spot_fallback) == (True, False)


def test_its_worst_case_should_be_its_price_from_its_creation_to_its_deadline() -> None:
    record, _ = adopt(make_offer(price_per_hour=1.5))
    assert record.worst_case_usd == pytest.approx(7.5, abs=0.0001)
    assert record.estimated_hourly_usd == 1.5


def test_where_machines_have_no_type_the_gpu_should_be_what_was_asked_for() -> None:
    record, _ = adopt(make_offer(provider="slurm", region="*", instance_type=None, gpu="A10", gpu_count=2))
    assert (record.request.instance_type, record.request.gpu) == (None, "A10:2")
