"""A credential that hands out one token, as a login would."""

import time
from typing import Any

from azure.core.credentials import AccessToken

TOKEN = "token-of-the-stand-in"


class StaticCredential:
    def __init__(self) -> None:
        self.scopes: set[str] = set()

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        self.scopes |= {*scopes}
        return AccessToken(TOKEN, int(time.time()) + 3600)
