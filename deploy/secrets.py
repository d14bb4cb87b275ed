"""Makes and rolls the deployment's secrets, in the vault and nowhere else: `python -m deploy.secrets --help`.

Written through the resource manager, so the vault needs no way in from outside; read back by nobody but the app. Names
and places come from the environment that `azd env get-values` shows and that azd gives to its hooks.
"""

import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from deploy.arm import Arm, signed_in

_VAULT_API = "2023-07-01"
_SITE_API = "2022-03-01"

MADE: Mapping[str, Callable[[], str]] = {
    "master-key": lambda: secrets.token_hex(32),
    "admin-tokens": lambda: secrets.token_urlsafe(32),
    "read-tokens": lambda: secrets.token_urlsafe(32),
}
"""What can be made at random, and how."""
GIVEN = ("hub-token", "r2-access-key-id", "r2-secret-access-key", "s3-access-key-id", "s3-secret-access-key")
"""What other services made."""
TOKEN = "skypilot-token"  # noqa: S105 - its name
_TOKEN_LIMIT = 600.0
"""Seconds that an API server may take until its token is in the vault: pulling 2 GB, signing in, making its tables."""


class SetupError(Exception):
    """Something is missing; one line for the person at the terminal."""


@dataclass(frozen=True)
class Place:
    """Where the deployment is."""

    subscription: str
    group: str
    app: str
    vault: str
    token_vault: str

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> "Place":
        """From azd's environment. Raises SetupError when a name is missing."""
        names = (
            "AZURE_SUBSCRIPTION_ID",
            "AZURE_RESOURCE_GROUP",
            "GPULAUNCH_APP_NAME",
            "GPULAUNCH_VAULT_NAME",
            "GPULAUNCH_TOKEN_VAULT_NAME",
        )
        missing = [name for name in names if not environ.get(name)]
        if missing:
            raise SetupError(f'{", ".join(missing)} not set; first: set -a; eval "$(azd env get-values)"; set +a')
        return cls(*(environ[name] for name in names))

    def secret(self, name: str) -> str:
        """Path of a secret."""
        vault = self.token_vault if name == TOKEN else self.vault
        return f"{self._group()}/providers/Microsoft.KeyVault/vaults/{vault}/secrets/{name}"

    def references(self) -> str:
        """Path of the app's references into the vaults."""
        return f"{self._group()}/providers/Microsoft.Web/sites/{self.app}/config/configreferences/appsettings"

    def _group(self) -> str:
        return f"/subscriptions/{self.subscription}/resourceGroups/{self.group}"


def make_missing(arm: Arm, place: Place) -> list[str]:
    """Make the secrets that are not there yet; their names."""
    made = [name for name in MADE if arm.get(place.secret(name), _VAULT_API) is None]
    for name in made:
        write(arm, place, name, MADE[name]())
    return made


def write(arm: Arm, place: Place, name: str, value: str) -> None:
    """Write a secret; what it was before stays in the vault as an older version."""
    arm.put(place.secret(name), _VAULT_API, {"properties": {"value": value, "contentType": "gpulaunch"}})


def wait_for_token(arm: Arm, place: Place, sleep: Callable[[float], None], patience: float = _TOKEN_LIMIT) -> None:
    """Wait until the API server has put its token into the vault. Raises SetupError after `patience` seconds."""
    waited = 0.0
    while arm.get(place.secret(TOKEN), _VAULT_API) is None:
        if waited >= patience:
            raise SetupError(
                f"no {TOKEN} after {patience:.0f} s; `az containerapp logs show` says what the server does"
            )
        sleep(10.0)
        waited += 10.0


def refresh_references(arm: Arm, place: Place) -> dict[str, str]:
    """Have the app read the vaults anew; the state of each setting that comes from them."""
    arm.post(f"{place.references()}/refresh", _SITE_API)
    found: dict[str, Any] = arm.get(place.references(), _SITE_API) or {}
    items: list[dict[str, Any]] = found.get("value", [])
    return {str(item["name"]).rpartition("/")[2]: str(item["properties"]["status"]) for item in items}


app = typer.Typer(help="Secrets of a deployment on Azure.", no_args_is_help=True, pretty_exceptions_enable=False)


def _connected() -> tuple[Arm, Place]:
    return Arm(signed_in()), Place.of(os.environ)


@app.command()
def make() -> None:
    """Make the secrets that are missing. Shows none of them."""
    made = make_missing(*_connected())
    typer.echo(f"made: {', '.join(made)}" if made else "nothing to make")


@app.command()
def roll(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(MADE)}.")],
    keep: Annotated[bool, typer.Option(help="Keep the old tokens valid beside the new one; read from stdin.")] = False,
    nodes_are_gone: Annotated[bool, typer.Option(help="For master-key: every node loses its token and key.")] = False,
) -> None:
    """Make a secret anew, and show a token this once."""
    if name not in MADE:
        raise typer.BadParameter(f"{name} is not one of {', '.join(MADE)}; `put` writes what others made")
    if name == "master-key" and not nodes_are_gone:
        raise typer.BadParameter("end all instances first, then say --nodes-are-gone: their tokens are derived from it")
    arm, place = _connected()
    new = MADE[name]()
    old = sys.stdin.readline().strip() if keep else ""
    write(arm, place, name, f"{new},{old}" if old else new)
    _show(refresh_references(arm, place))
    if name != "master-key":
        typer.echo(new)


@app.command()
def put(name: Annotated[str, typer.Argument(help=f"One of {', '.join((*GIVEN, TOKEN))}.")]) -> None:
    """Write a secret that another service made; its value is read from stdin."""
    if name not in (*GIVEN, TOKEN):
        raise typer.BadParameter(f"{name} is not one of {', '.join((*GIVEN, TOKEN))}")
    value = sys.stdin.read().strip()
    if not value:
        raise typer.BadParameter("nothing on stdin")
    arm, place = _connected()
    write(arm, place, name, value)
    _show(refresh_references(arm, place))


@app.command()
def refresh() -> None:
    """Wait for the API server's token, and have the app read the vaults anew."""
    arm, place = _connected()
    if os.environ.get("GPULAUNCH_OWN_SKYPILOT", "true").lower() == "true":
        wait_for_token(arm, place, time.sleep)
    if _show(refresh_references(arm, place)):
        raise typer.Exit(1)


def _show(states: Mapping[str, str]) -> list[str]:
    """Say which settings the app can't read; their names."""
    wrong = [name for name, state in sorted(states.items()) if state != "Resolved"]
    for name in wrong:
        typer.echo(f"{name}: {states[name]}", err=True)
    return wrong


def main() -> None:
    """Run a command; errors of Azure and of the set-up are one line."""
    from azure.core.exceptions import AzureError

    try:
        app()
    except (AzureError, SetupError) as error:
        sys.exit(f"{type(error).__name__}: {str(error).splitlines()[0]}")


if __name__ == "__main__":
    main()
