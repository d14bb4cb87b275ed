"""Errors say what is wrong to whoever prints them, without an attribute being read."""

from collections.abc import Callable

import pytest

from shared.domain.catalog import NotCataloguedError
from shared.domain.errors import AttemptOverError, FieldError, InvalidFieldsError

NO_PRICES = "There are no prices of azure."


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: NotCataloguedError("azure", NO_PRICES), NO_PRICES),
        (AttemptOverError, "This attempt is over; the node shuts itself down."),
        (
            lambda: InvalidFieldsError([FieldError(field=name, message="is wrong") for name in "abcdef"]),
            "a: is wrong; b: is wrong; c: is wrong; d: is wrong; e: is wrong",
        ),
    ],
)
def test_an_error_should_say_what_is_wrong(make: Callable[[], Exception], said: str) -> None:
    assert str(make()) == said
