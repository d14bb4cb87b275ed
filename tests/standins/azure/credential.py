"""A credential that hands out one token, as a login would."""

import time
from typing import Any

from azure.core.credentials import AccessToken

TOKEN = "token-of-the-stand-in"


class StaticCredential:
    """A TokenCredential for the stand-in; counts how often it is asked."""

    def __init__(self, token: str = TOKEN) -> None:
        self.token = token
        self.asked = 0

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        """A token that is good for an hour."""
        self.asked += 1
        return AccessToken(self.token, int(time.time()) + 3600)
