"""Keep a valid token for SkyPilot's API server in the vault; runs next to the server.

The token is created here, where the server's signing key is, and goes straight into the vault: no person or pipeline
ever sees it. Its user is SKYPILOT_USER_ID, because that id is part of every cluster's name. An old token stays
valid until it expires, so the app may read the new one late. Written for SkyPilot 0.14.1.
"""

import hashlib
import os
import sys
import time
from typing import Any, Protocol

SECRET = "skypilot-token"  # noqa: S105 - its name
NAME = "gpulaunch"
RENEW_AFTER = 30 * 86_400
"""Seconds: a month. The app reads the vault at least once a day, so there are two months for it to notice."""
EXPIRES_IN_DAYS = 90


class Vault(Protocol):
    """Storage for the token."""

    def read(self) -> "tuple[str, float] | None":
        """Return the token and its time of writing in seconds since 1970, or None."""
        ...

    def write(self, token: str) -> None:
        """Replace the token."""
        ...


def admit(vault: Vault, user_id: str, now: float) -> bool:
    """Create a token unless the vault has a recent one that this server knows; return whether it did."""
    kept = vault.read()
    if kept is not None and now - kept[1] < RENEW_AFTER and _known(kept[0]):
        return False
    vault.write(_make(user_id))
    return True


def _known(token: str) -> bool:
    from sky import global_user_state
    from sky.users.token_service import token_service

    digest = hashlib.sha256(token.encode()).hexdigest()
    return (
        token_service.verify_token(token) is not None
        and global_user_state.get_service_account_token_by_hash(digest) is not None
    )


def _make(user_id: str) -> str:
    from sky import global_user_state, models
    from sky.users import permission
    from sky.users.token_service import token_service

    global_user_state.add_or_update_user(models.User(id=user_id, name=NAME, user_type=models.UserType.SA.value))
    permission.seed_new_user_role(user_id, role="user")
    made = token_service.create_token(user_id, user_id, NAME, expires_in_days=EXPIRES_IN_DAYS)
    global_user_state.add_service_account_token(
        token_id=made["token_id"],
        token_name=NAME,
        token_hash=made["token_hash"],
        creator_user_hash=user_id,
        service_account_user_id=user_id,
        expires_at=made["expires_at"],
    )
    return str(made["token"])


class KeyVault:
    """The token in Azure Key Vault, accessed with the container's identity."""

    def __init__(self, uri: str, client_id: str) -> None:
        from azure.identity import ManagedIdentityCredential
        from azure.keyvault.secrets import SecretClient

        self._client: Any = SecretClient(uri, ManagedIdentityCredential(client_id=client_id))

    def read(self) -> "tuple[str, float] | None":
        from azure.core.exceptions import ResourceNotFoundError

        try:
            found = self._client.get_secret(SECRET)
        except ResourceNotFoundError:
            return None
        return found.value, found.properties.created_on.timestamp()

    def write(self, token: str) -> None:
        self._client.set_secret(SECRET, token, content_type="Service account of gpulaunch at SkyPilot")


if __name__ == "__main__":
    made = admit(
        KeyVault(os.environ["GPULAUNCH_TOKEN_VAULT"], os.environ["AZURE_CLIENT_ID"]),
        os.environ["SKYPILOT_USER_ID"],
        time.time(),
    )
    sys.stderr.write("gpulaunch: a new token is in the vault\n" if made else "gpulaunch: the vault's token is valid\n")
