"""An instance's clusters, and the facts of its events."""

import pytest
from pydantic import TypeAdapter

from shared.domain.instance import EventData, attempt_of, cluster_name, instance_of
from tests.twins.factories import make_instance_id


@pytest.mark.parametrize("number", [1, 9, 10, 12, 70])
def test_a_clusters_name_should_name_its_instance_and_attempt(number: int) -> None:
    name = cluster_name(make_instance_id(3), number)
    assert len(name) == 32
    assert (instance_of(name), attempt_of(name)) == (make_instance_id(3), number)


@pytest.mark.parametrize("facts", ['{"mode": "real"}', '{"from": "queued", "to": "ready"}', '{"of_later": 1}', "{}"])
def test_an_event_should_have_any_of_its_facts(facts: str) -> None:
    adapter = TypeAdapter(EventData)
    assert adapter.dump_json(adapter.validate_json(facts)).decode() == facts.replace(" ", "")
