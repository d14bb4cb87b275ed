"""The record that a running node gets back: enough to serve, to be paid for and to be ended."""

from datetime import timedelta

from shared.domain.instance import AttemptState, cluster_name
from shared.lifecycle.adoption import adopted
from shared.lifecycle.timeouts import Timeouts
from tests.twins.clock import START
from tests.twins.factories import make_instance_id, make_offer

ID = make_instance_id()
NOW = START + timedelta(hours=3)


def test_the_record_should_say_what_the_cloud_says_and_why_it_is_there() -> None:
    offer = make_offer(provider="aws", region="us-east-1", instance_type="g5.xlarge")
    record, (event,) = adopted(
        ID,
        2,
        offer,
        model_name="org/model",
        created_at=START,
        now=NOW,
        lifetime_minutes=300,
        heard=True,
        calls_us=True,
        port=8000,
        timeouts=Timeouts(),
    )
    assert (record.mode, record.mode_reason) == ("real", "Its record was lost; it was adopted from the cloud.")
    assert (record.request.provider, record.request.instance_type) == ("aws", "g5.xlarge")
    assert record.deadline_at == START + timedelta(minutes=300)
    earlier, latest = record.attempts
    assert (earlier.state, earlier.billed_from) == (AttemptState.GONE, None)
    assert (latest.cluster_name, latest.listed, latest.billed_from) == (cluster_name(ID, 2), True, START)
    assert event.message == f"Adopted {cluster_name(ID, 2)}, which was running without a record."
