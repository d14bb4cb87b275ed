"""Reads: how much of a long story is shown, and which names are suggested."""

import pytest

from shared.control.queries import FIRST_EVENTS, MOST_EVENTS, MOST_OF_A_NAME, InstanceQueries
from shared.domain.errors import AmbiguousNameError, InstanceNotFoundError
from shared.domain.instance import InstanceRecord
from tests.twins.factories import make_event, make_instance_id, make_record, make_request
from tests.twins.store import MemoryInstanceStore


class Stored:
    def __init__(self) -> None:
        self.store = MemoryInstanceStore()
        self.queries = InstanceQueries(self.store)

    def eventful(self, count: int) -> InstanceRecord:
        """A record with so many events."""
        self.store.create(make_record(event_count=1), [make_event()], None)
        for first in range(1, count, 90):
            found = self.store.load(make_instance_id())
            assert found is not None
            events = [make_event(number) for number in range(first, min(first + 90, count))]
            self.store.commit(found, found.record.model_copy(update={"event_count": first + len(events)}), events)
        return self.queries.find(make_instance_id()).record

    def shown(self, record: InstanceRecord, after: int = -1) -> list[int]:
        return [event.sequence for event in self.queries.events(record, after)]

    def name(self, *names: str) -> None:
        for number, name in enumerate(names, 1):
            record = make_record(instance_id=make_instance_id(number), request=make_request(name=name))
            self.store.create(record, [], None)

    def refusal(self, given: str) -> str:
        with pytest.raises(InstanceNotFoundError) as caught:
            self.queries.resolve(given)
        return str(caught.value)


@pytest.fixture
def stored() -> Stored:
    return Stored()


@pytest.mark.parametrize("more", [1, 50])
def test_of_a_longer_story_its_beginning_and_its_end_should_be_shown(stored: Stored, more: int) -> None:
    record = stored.eventful(MOST_EVENTS + more)
    assert stored.shown(record) == [*range(FIRST_EVENTS), *range(FIRST_EVENTS + more, MOST_EVENTS + more)]
    assert stored.shown(record, after=20) == list(range(21, MOST_EVENTS + min(more, 21)))


def test_a_story_that_fits_should_be_shown_as_a_whole(stored: Stored) -> None:
    assert stored.shown(stored.eventful(MOST_EVENTS)) == list(range(MOST_EVENTS))


def test_events_that_come_after_the_record_was_read_should_make_no_answer_longer(stored: Stored) -> None:
    newest = stored.eventful(MOST_EVENTS + 150)
    earlier = newest.model_copy(update={"event_count": MOST_EVENTS + 50})
    assert stored.shown(earlier) == [*range(FIRST_EVENTS), *range(FIRST_EVENTS + 50, MOST_EVENTS + 50)]


def test_an_unknown_name_should_suggest_the_two_that_are_most_like_it(stored: Stored) -> None:
    stored.name("chat-eastern", "chat-east", "chat-eas", "something-else")
    assert stored.refusal("chat-easy") == ("There is no instance 'chat-easy'. Did you mean chat-eas or chat-east?")


def test_one_that_is_like_none_should_suggest_none_and_be_shortened(stored: Stored) -> None:
    stored.name("chat-east")
    assert stored.refusal("z" * 100) == f"There is no instance '{'z' * MOST_OF_A_NAME}'."


def test_a_name_should_mean_its_instance_and_one_of_two_none(stored: Stored) -> None:
    stored.name("chat", "code", "code")
    assert stored.queries.resolve("chat") == make_instance_id(1)
    with pytest.raises(AmbiguousNameError):
        stored.queries.resolve("code")
