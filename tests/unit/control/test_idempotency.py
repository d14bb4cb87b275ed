"""Which Idempotency-Keys a launch may have."""

import pytest

from shared.control.idempotency import LaunchKey
from shared.domain.errors import InvalidFieldsError
from tests.twins.factories import make_request


@pytest.mark.parametrize("key", ["k", "k" * 255, "a key with spaces", "é"])
def test_a_printable_key_should_be_taken_in_any_length_that_the_header_allows(key: str) -> None:
    assert LaunchKey.of(key, make_request()) == LaunchKey.of(key, make_request())


@pytest.mark.parametrize("key", ["", "k" * 256, "a\nb", "\x00"])
def test_any_other_key_should_be_refused_with_what_it_may_be(key: str) -> None:
    with pytest.raises(InvalidFieldsError) as caught:
        LaunchKey.of(key, make_request())
    assert str(caught.value) == "Idempotency-Key: 1 to 255 printable characters, such as a UUID."
