"""Which events of an instance one answer holds."""

from typing import cast

import pytest

from shared.control.queries import FIRST_EVENTS, MOST_EVENTS, InstanceQueries
from shared.domain.instance import Event
from shared.storage.base import InstanceStore
from tests.twins.factories import make_event, make_record

LATEST = MOST_EVENTS - FIRST_EVENTS


class Story:
    """Stands for the store: an instance with so many events."""

    def __init__(self, count: int) -> None:
        self.count = count

    def events(self, instance_id: str, after: int = -1, limit: int = MOST_EVENTS) -> list[Event]:
        return [make_event(number) for number in range(after + 1, min(self.count, after + 1 + limit))]


def shown(count: int, after: int = -1) -> list[int]:
    found = InstanceQueries(cast("InstanceStore", Story(count))).events(make_record(event_count=count), after)
    return [event.sequence for event in found]


@pytest.mark.parametrize("count", [1, FIRST_EVENTS, MOST_EVENTS])
def test_what_fits_should_be_shown_from_the_first_to_the_latest(count: int) -> None:
    assert shown(count) == list(range(count))


@pytest.mark.parametrize("count", [MOST_EVENTS + 1, MOST_EVENTS + 2, 2 * MOST_EVENTS])
def test_of_more_the_first_and_the_latest_should_be_shown(count: int) -> None:
    assert shown(count) == [*range(FIRST_EVENTS), *range(count - LATEST, count)]


@pytest.mark.parametrize("after", [0, 1, FIRST_EVENTS])
def test_whoever_reads_on_should_get_what_follows_without_a_gap(after: int) -> None:
    assert shown(2 * MOST_EVENTS, after) == list(range(after + 1, after + 1 + MOST_EVENTS))
