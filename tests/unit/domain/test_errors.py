"""Errors say what is wrong to whoever prints them, without an attribute being read."""

from collections.abc import Callable

import pytest

from gpulaunch.models.instances import Reason
from shared.domain.catalog import NotCataloguedError
from shared.domain.errors import (
    AdmissionRefusedError,
    AmbiguousNameError,
    AttemptOverError,
    BackendUnavailableError,
    EndpointDeletingError,
    EndpointExistsError,
    FieldError,
    InvalidFieldsError,
    KeyExistsError,
    NodeTokenError,
    RecordFullError,
    Refusal,
)
from shared.domain.instance import Failure
from shared.domain.provider import LaunchRefusedError

NO_PRICES = "There are no prices of azure."
FULL = Refusal(code="limit_reached", limit="x", value=1.0, used=1.0, asked=1.0, detail="The limit is reached.")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: NotCataloguedError(NO_PRICES, ["aws"]), NO_PRICES),
        (
            lambda: LaunchRefusedError(Failure(reason=Reason.NO_CAPACITY, message="No A10 is left in eastus.")),
            "No A10 is left in eastus.",
        ),
        (lambda: AdmissionRefusedError(FULL), "The limit is reached."),
        (
            lambda: BackendUnavailableError("starting", "SkyPilot is starting; try again."),
            "SkyPilot is starting; try again.",
        ),
        (
            lambda: EndpointExistsError("chat"),
            "An endpoint chat exists already, and differs; change it with PUT or PATCH.",
        ),
        (
            lambda: EndpointDeletingError("chat"),
            "The endpoint chat is being deleted; wait until it no longer exists, or use another name.",
        ),
        (
            lambda: KeyExistsError("app"),
            "The endpoint has a key named app already; revoke it first, or use another name.",
        ),
        (NodeTokenError, "The token does not belong to a node of this instance."),
        (
            RecordFullError,
            "The instance's record has no room for further reports; a failure, a notice or a result has.",
        ),
        (
            lambda: AmbiguousNameError("chat", list("abcde")),
            "5 live instances are called 'chat'; use an id: a, b, c, d, e.",
        ),
        (
            lambda: AmbiguousNameError("chat", list("abcdef")),
            "6 live instances are called 'chat'; use an id: a, b, c, d, e and 1 more.",
        ),
        (AttemptOverError, "This attempt is over; the node shuts itself down."),
        (
            lambda: InvalidFieldsError([FieldError(field=name, message="is wrong") for name in "abcdef"]),
            "a: is wrong; b: is wrong; c: is wrong; d: is wrong; e: is wrong",
        ),
    ],
)
def test_an_error_should_say_what_is_wrong(make: Callable[[], Exception], said: str) -> None:
    assert str(make()) == said
