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

MADE: Mapping[str, Callable[[], str]] = {
    "master-key": lambda: secrets.token_hex(32),
    "admin-tokens": lambda: secrets.token_urlsafe(32),
    "read-tokens": lambda: secrets.token_urlsafe(32),
}
"""Random secrets, and how to make each."""
TOKEN = "skypilot-token"  # noqa: S105 - a name, not a token
GIVEN = ("hub-token", "r2-access-key-id", "r2-secret-access-key", "s3-access-key-id", "s3-secret-access-key", TOKEN)
"""Secrets that other services issued."""
MASTER_KEY_LENGTH = 32
"""Shortest master key that the app takes."""
_TOKEN_LIMIT = 600.0
"""Seconds until an API server must have put its token into the vault: it pulls 2 GB, signs in, makes its tables."""


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
        }
        missing = [name for name in names.values() if not environ.get(name)]
        if missing:
            raise SetupError(f'{", ".join(missing)} not set; run: set -a; eval "$(azd env get-values)"; set +a')
        return cls(**{field: environ[name] for field, name in names.items()})

    @property
    def references(self) -> str:
        """Path of the app's references into the vaults."""
        return self._path(f"Microsoft.Web/sites/{self.app}/config/configreferences/appsettings")

    def secret(self, name: str) -> str:
        """Path of a secret."""
        vault = self.token_vault if name == TOKEN else self.vault
        return self._path(f"Microsoft.KeyVault/vaults/{vault}/secrets/{name}")

    def _path(self, resource: str) -> str:
        return f"/subscriptions/{self.subscription}/resourceGroups/{self.group}/providers/{resource}"


def make_missing(arm: Arm, place: Place) -> list[str]:
    """Make the secrets that do not exist yet; return their names."""
    made = [name for name in MADE if arm.get(place.secret(name), _VAULT_API) is None]
    for name in made:
        write(arm, place, name, MADE[name]())
    return made


def write(arm: Arm, place: Place, name: str, value: str) -> None:
    """Write a secret; the vault keeps the previous value as an older version."""
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


def refresh_references(arm: Arm, place: Place) -> dict[str, str]:
    """Make the app read the vaults again; return the state of each setting that comes from them."""
    arm.post(f"{place.references}/refresh", _SITE_API)
    items: Any = arm.every(place.references, _SITE_API)
    return {str(item["name"]).rpartition("/")[2]: str(item["properties"]["status"]) for item in items}


app = typer.Typer(help="Make and roll the secrets of a deployment.", no_args_is_help=True)


def _connected() -> tuple[Arm, Place]:
    return Arm(signed_in()), Place.of(os.environ)


@app.command()
def make() -> None:
    """Make the secrets that are missing, without showing any."""
    made = make_missing(*_connected())
    typer.echo(f"made: {', '.join(made)}" if made else "nothing is missing")


@app.command()
def roll(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(MADE)}.")],
    keep: Annotated[bool, typer.Option(help="Keep the old tokens valid; they are read from standard input.")] = False,
    nodes_are_gone: Annotated[bool, typer.Option(help="For master-key: confirm that no node is left.")] = False,
) -> None:
    """Replace a secret; a new token is shown this once."""
    if name not in MADE:
        raise typer.BadParameter(f"{name} is not one of {', '.join(MADE)}; use `put` for secrets of other services")
    if name == "master-key" and not nodes_are_gone:
        raise typer.BadParameter(
            "terminate all instances, then add --nodes-are-gone: node tokens are derived from this key"
        )
    arm, place = _connected()
    new = MADE[name]()
    old = sys.stdin.readline().strip() if keep else ""
    write(arm, place, name, f"{new},{old}" if old else new)
    _show(refresh_references(arm, place))
    if name != "master-key":
        typer.echo(new)


@app.command()
def put(name: Annotated[str, typer.Argument(help=f"One of {', '.join(GIVEN)}.")]) -> None:
    """Write a secret that another service issued, read from standard input."""
    if name not in GIVEN:
        raise typer.BadParameter(f"{name} is not one of {', '.join(GIVEN)}")
    value = sys.stdin.read().strip()
    if not value:
        raise typer.BadParameter("standard input is empty")
    arm, place = _connected()
    write(arm, place, name, value)
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
