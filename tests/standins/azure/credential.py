"""A credential that hands out one token, as a login would."""

import time
from typing import Any

from azure.core.credentials import AccessToken

TOKEN = "token-of-the-stand-in"


class StaticCredential:
    """A TokenCredential for the stand-in."""

    def __init__(self) -> None:
        self.scopes: set[str] = set()

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        """A token that is good for an hour."""
        self.scopes |= {*scopes}
        return AccessToken(TOKEN, int(time.time()) + 3600)
