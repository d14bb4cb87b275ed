"""What is shown in the place of what cannot be read."""

from datetime import UTC, datetime

import pytest

from shared.storage import rows
from shared.storage.records import read_event
from tests.twins.clock import START
from tests.twins.factories import make_event, make_instance_id


@pytest.mark.parametrize(("written", "at"), [(START, START), (None, datetime(1970, 1, 1, tzinfo=UTC))])
def test_an_event_that_cannot_be_read_should_have_the_time_of_its_row(written: datetime | None, at: datetime) -> None:
    row = rows.row_of("", rows.event_key(make_instance_id(), 7), make_event(7)) | {"doc": "{"}
    found = read_event(row, written)
    assert (found.sequence, found.at, found.type) == (7, at, "unreadable")
