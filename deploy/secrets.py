"""Make and roll the deployment's secrets, in the vault and nowhere else: `python -m deploy secrets --help`.

Secrets are written through the resource manager, so the vault needs no network access from outside; only the app reads
them. Names and places come from the environment that `azd env get-values` prints and that azd passes to its hooks.
"""

import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from pydantic import SecretStr

from deploy.arm import Arm, signed_in
from shared.auth import Deriver

_VAULT_API = "2023-07-01"
_SITE_API = "2022-03-01"
_APP_API = "2025-07-01"

MASTER_KEY = "master-key"
GATEWAY_KEY = "gateway-key"
"""Derived from the master key, so it is made with it: a key that is in a vault cannot be read back from here."""
DEPLOY_TOKENS = "deploy-tokens"
"""What a deployment checks itself with."""
MADE: Mapping[str, Callable[[], str]] = {
    MASTER_KEY: lambda: secrets.token_hex(32),
    "admin-tokens": lambda: secrets.token_urlsafe(32),
    "read-tokens": lambda: secrets.token_urlsafe(32),
    DEPLOY_TOKENS: lambda: secrets.token_urlsafe(32),
}
"""Random secrets, and how to make each."""
TOKEN = "skypilot-token"  # noqa: S105 - a name, not a token
GIVEN = (
    "hub-token",
    "r2-access-key-id",
    "r2-secret-access-key",
    "s3-access-key-id",
    "s3-secret-access-key",
    "webhook-urls",
    "webhook-secret",
    TOKEN,
    GATEWAY_KEY,
)
"""Secrets that come from elsewhere: other services issued them, or the app's master key is elsewhere."""
MASTER_KEY_LENGTH = 32
"""Shortest master key that the app takes."""
_TOKEN_LIMIT = 600.0
"""Seconds until an API server must have put its token into the vault: it pulls 2 GB, signs in, makes its tables."""


_REFERENCES_LIMIT = 120.0
"""Seconds in which the app has read the vaults after it was asked to, or cannot."""
_PASSING = {"Initialized", "FetchTimedOut", "AccessToKeyVaultDenied", "OtherReasons"}
"""States of a reference that may still become `Resolved`: it is being read, or a new role has not spread yet."""


class SetupError(Exception):
    """Something is missing; the message is one line for the person at the terminal."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """The names of a deployment's resources."""

    subscription: str
    group: str
    app: str
    vault: str
    token_vault: str
    gateway_vault: str
    url: str
    """Address of the app."""
    gateway: str = ""
    """Empty: none is deployed."""
    gateway_url: str = ""

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Place":
        """Read azd's environment.

        Raises:
            SetupError: A name is missing.
        """
        names = {
            "subscription": "AZURE_SUBSCRIPTION_ID",
            "group": "AZURE_RESOURCE_GROUP",
            "app": "GPULAUNCH_APP_NAME",
            "vault": "GPULAUNCH_VAULT_NAME",
            "token_vault": "GPULAUNCH_TOKEN_VAULT_NAME",
            "gateway_vault": "GPULAUNCH_GATEWAY_VAULT_NAME",
            "url": "GPULAUNCH_URL",
        }
        missing = [name for name in names.values() if not environ.get(name)]
        if missing:
            raise SetupError(f'{", ".join(missing)} not set; run: set -a; eval "$(azd env get-values)"; set +a')
        given = {field: environ[name] for field, name in names.items()}
        gateway = environ.get("GPULAUNCH_GATEWAY_NAME", "")
        return cls(**given, gateway=gateway, gateway_url=environ.get("GPULAUNCH_GATEWAY_URL", "") if gateway else "")

    @property
    def references(self) -> str:
        """Path of the app's references into the vaults."""
        return self._path(f"Microsoft.Web/sites/{self.app}/config/configreferences/appsettings")

    def secret(self, name: str) -> str:
        """Path of a secret."""
        vault = {TOKEN: self.token_vault, GATEWAY_KEY: self.gateway_vault}.get(name, self.vault)
        return self._path(f"Microsoft.KeyVault/vaults/{vault}/secrets/{name}")

    @property
    def revisions(self) -> str:
        """Path of the gateway's revisions."""
        return self._path(f"Microsoft.App/containerApps/{self.gateway}/revisions")

    def _path(self, resource: str) -> str:
        return f"/subscriptions/{self.subscription}/resourceGroups/{self.group}/providers/{resource}"


def make_missing(arm: Arm, place: Place) -> list[str]:
    """Make the secrets that do not exist yet; return their names."""
    made = [name for name in MADE if arm.get(place.secret(name), _VAULT_API) is None]
    for name in made:
        write(arm, place, name, MADE[name]())
    return made


def has_gateway_key(arm: Arm, place: Place) -> bool:
    """Whether the vault holds the gateway's key; a deployment of an earlier version has none."""
    return arm.get(place.secret(GATEWAY_KEY), _VAULT_API) is not None


def write(arm: Arm, place: Place, name: str, value: str) -> None:
    """Write a secret, a master key with the gateway's; the vault keeps the previous value as an older version."""
    if name == MASTER_KEY:  # first, so that the one is never there without the other
        write(arm, place, GATEWAY_KEY, Deriver(SecretStr(value)).gateway_key())
    arm.put(place.secret(name), _VAULT_API, {"properties": {"value": value, "contentType": "gpulaunch"}})


def wait_for_token(arm: Arm, place: Place, sleep: Callable[[float], None], patience: float = _TOKEN_LIMIT) -> None:
    """Wait until the API server has put its token into the vault.

    Raises:
        SetupError: It has not after `patience` seconds.
    """
    waited = 0.0
    while arm.get(place.secret(TOKEN), _VAULT_API) is None:
        if waited >= patience:
            raise SetupError(f"no {TOKEN} after {patience:.0f} s; see the server's log: `az containerapp logs show`")
        sleep(10.0)
        waited += 10.0


def ask_for_refresh(arm: Arm, place: Place) -> None:
    """Make the app read the vaults again, at some time in the next two minutes."""
    arm.post(f"{place.references}/refresh", _SITE_API)


def refresh_references(arm: Arm, place: Place, sleep: Callable[[float], None] = time.sleep) -> dict[str, str]:
    """Make the app read the vaults again; return the state of each setting that comes from them, once it is final."""
    ask_for_refresh(arm, place)
    waited = 0.0
    while True:
        items: Any = arm.every(place.references, _SITE_API)
        states = {str(item["name"]).rpartition("/")[2]: str(item["properties"]["status"]) for item in items}
        if waited >= _REFERENCES_LIMIT or not _PASSING & {*states.values()}:
            return states
        sleep(5.0)
        waited += 5.0


def restart_gateway(arm: Arm, place: Place) -> None:
    """Make the gateway, if there is one, read its key again; it finishes its requests first."""
    revisions = arm.every(place.revisions, _APP_API) if place.gateway else ()
    for name in [one["name"] for one in revisions if one["properties"]["active"]]:
        arm.post(f"{place.revisions}/{name}/restart", _APP_API)


app = typer.Typer(help="Make and roll the secrets of a deployment.", no_args_is_help=True)


def _connected() -> tuple[Arm, Place]:
    return Arm(signed_in()), Place.of(os.environ)


@app.command()
def make() -> None:
    """Make the secrets that are missing, without showing any."""
    arm, place = _connected()
    made = make_missing(arm, place)
    if not has_gateway_key(arm, place):
        typer.echo(
            f"{GATEWAY_KEY} is missing. Roll {MASTER_KEY}, or, where you have the master key, `put {GATEWAY_KEY}`"
            " with what `gateway-key` derives from it.",
            err=True,
        )
    typer.echo(f"made: {', '.join(made)}" if made else "nothing was made")


@app.command()
def roll(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(MADE)}.")],
    keep: Annotated[bool, typer.Option(help="Keep the old tokens valid; they are read from standard input.")] = False,
    nodes_are_gone: Annotated[bool, typer.Option(help="For master-key: confirm that no node is left.")] = False,
) -> None:
    """Replace a secret; a new token is shown this once."""
    if name not in MADE:
        raise typer.BadParameter(f"{name} is not one of {', '.join(MADE)}; use `put` for secrets of other services")
    if name == MASTER_KEY and not nodes_are_gone:
        raise typer.BadParameter(
            "terminate all instances, then add --nodes-are-gone: node tokens are derived from this key"
        )
    arm, place = _connected()
    new = MADE[name]()
    old = sys.stdin.readline().strip() if keep else ""
    write(arm, place, name, f"{new},{old}" if old else new)
    _show(refresh_references(arm, place))
    if name == MASTER_KEY:
        restart_gateway(arm, place)
    else:
        typer.echo(new)


@app.command()
def put(name: Annotated[str, typer.Argument(help=f"One of {', '.join(GIVEN)}.")]) -> None:
    """Write a secret that comes from elsewhere, read from standard input."""
    if name not in GIVEN:
        raise typer.BadParameter(f"{name} is not one of {', '.join(GIVEN)}")
    value = sys.stdin.read().strip()
    if not value:
        raise typer.BadParameter("standard input is empty")
    arm, place = _connected()
    write(arm, place, name, value)
    if name == GATEWAY_KEY:
        restart_gateway(arm, place)
    else:
        _show(refresh_references(arm, place))


@app.command()
def gateway_key() -> None:
    """Print the gateway's key, derived from the master key in GPULAUNCH_MASTER_KEY."""
    master = os.environ.get("GPULAUNCH_MASTER_KEY", "")
    if len(master) < MASTER_KEY_LENGTH:
        raise typer.BadParameter(
            f"set GPULAUNCH_MASTER_KEY, of {MASTER_KEY_LENGTH} characters or more, as the app has it"
        )
    typer.echo(Deriver(SecretStr(master)).gateway_key())


@app.command()
def refresh() -> None:
    """Wait for the API server's token, then make the app read the vaults again."""
    arm, place = _connected()
    if os.environ.get("GPULAUNCH_OWN_SKYPILOT", "true").lower() == "true":
        wait_for_token(arm, place, time.sleep)
    if _show(refresh_references(arm, place)):
        raise typer.Exit(1)


def _show(states: Mapping[str, str]) -> list[str]:
    """Print the settings that the app cannot read; return their names."""
    wrong = [name for name, state in sorted(states.items()) if state != "Resolved"]
    for name in wrong:
        typer.echo(f"{name}: {states[name]}", err=True)
    return wrong
