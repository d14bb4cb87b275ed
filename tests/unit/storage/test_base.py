"""What storage says of a row that cannot be read."""

from shared.storage.base import Unreadable, UnreadableRecordError


def test_an_unreadable_record_should_be_named_with_the_reason() -> None:
    row = Unreadable(
        instance_id="inst-1",
        why="a later version wrote it",
        etag="1",
        ended=False,
        phase=None,
        mode=None,
        provider=None,
        clusters=(),
        reservation=None,
    )
    assert str(UnreadableRecordError(row)) == "inst-1 cannot be read: a later version wrote it"
