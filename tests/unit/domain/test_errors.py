"""Errors say what is wrong to whoever prints them, without an attribute being read."""

import pytest

from shared.domain.catalog import NotCataloguedError
from shared.domain.errors import AttemptOverError, FieldError, InvalidFieldsError


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NotCataloguedError("azure", "There are no prices of azure. Run it."), "There are no prices of azure. Run it."),
        (AttemptOverError(), "This attempt is over; the node shuts itself down."),
        (
            InvalidFieldsError([FieldError(field=name, message="is wrong") for name in "abcdef"]),
            "a: is wrong; b: is wrong; c: is wrong; d: is wrong; e: is wrong",
        ),
    ],
)
def test_an_error_should_say_what_is_wrong(error: Exception, said: str) -> None:
    assert str(error) == said
