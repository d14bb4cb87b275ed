"""What a node may report."""

import pytest
from pydantic import ValidationError

from shared.domain.node import NodePhase, NodeStatus

LARGEST = 9_007_199_254_740_991
"""One more and two more are the same float, which is what many a reader of JSON makes of a number."""


def test_a_node_should_report_no_more_bytes_than_every_reader_of_json_takes() -> None:
    assert float(LARGEST) != float(LARGEST + 1) == float(LARGEST + 2)
    assert NodeStatus(phase=NodePhase.LOADING_MODEL, fetched_bytes=LARGEST).fetched_bytes == LARGEST
    with pytest.raises(ValidationError):
        NodeStatus(phase=NodePhase.LOADING_MODEL, fetched_bytes=LARGEST + 1)
