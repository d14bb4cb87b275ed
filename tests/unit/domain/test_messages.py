"""Queue messages that cannot be read."""

import re

import pytest

from gpulaunch.models.instances import INSTANCE_ID
from shared.domain.errors import MessageError
from shared.domain.messages import NO_INSTANCE, AlertMessage, StepMessage, read_message
from tests.twins.factories import make_instance_id


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"instanceId": "?", "epoch": "?", "step": "?"}', "instanceId: String should match pattern"),
        (b'{"instanceId": "inst-01M5ZZZZZZZZZZZZZZZZZZZZZZ"}', "epoch: Field required"),
        (b"advance", "body: Invalid JSON"),
    ],
)
def test_a_message_that_cannot_be_read_should_be_refused_with_the_first_thing_that_is_wrong(
    body: bytes, message: str
) -> None:
    with pytest.raises(MessageError) as caught:
        read_message(StepMessage, body)
    assert str(caught.value).startswith(message)


def test_an_alert_should_name_the_field_inside_that_is_wrong() -> None:
    body = f'{{"instanceId": "{make_instance_id()}", "epoch": 1, "sequence": 0, "access": {{"at": "noon"}}}}'
    with pytest.raises(MessageError, match=r"^access\.at: "):
        read_message(AlertMessage, body.encode())


def test_what_stands_for_no_instance_should_be_a_valid_id() -> None:
    assert re.fullmatch(INSTANCE_ID, NO_INSTANCE)
