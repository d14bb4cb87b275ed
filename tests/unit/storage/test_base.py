"""What storage says of a row that cannot be read."""

from shared.storage.base import UnreadableRecordError
from tests.twins.factories import make_unreadable


def test_an_unreadable_record_should_be_named_with_the_reason() -> None:
    row = make_unreadable(instance_id="inst-1", why="a later version wrote it")
    assert str(UnreadableRecordError(row)) == "inst-1 cannot be read: a later version wrote it"
