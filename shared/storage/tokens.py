"""Continuation tokens of listings."""

import base64
import re
from typing import Final

from shared.errors import ForeignTokenError
from shared.storage import rows

_TOKEN: Final = re.compile(r"older:(inst-.*)")


def make_token(instance_id: str) -> str:
    """The opaque mark of a listing that has come down to an instance."""
    return base64.urlsafe_b64encode(f"older:{instance_id}".encode()).decode().rstrip("=")


def read_token(token: str) -> str:
    """The instance at which a listing stopped.

    Raises:
        ForeignTokenError: `make_token` did not make it.
    """
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode("ascii")
    except ValueError as error:
        raise ForeignTokenError("not a continuation token of this listing") from error
    match = _TOKEN.fullmatch(text)
    if match is None or not rows.is_instance_id(match[1]) or make_token(match[1]) != token:
        raise ForeignTokenError("not a continuation token of this listing")
    return match[1]
