"""Copies of a deployment's table: list them, write one now, put one back: `python -m deploy backup --help`.

The account lets in the deployment's own network only; docs/azure.md says how to open it for a restore.
"""

import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from deploy.secrets import SetupError
from shared.control.sweep.status import SweepStatusStore
from shared.settings import Settings
from shared.storage.backup import TableBackups, clear, is_empty, load
from shared.storage.connect import backup_container, table_client
from shared.storage.tables import TableInstanceStore

app = typer.Typer(help="List, write and restore copies of the table.", no_args_is_help=True)
_STOPPED = timedelta(minutes=5)
"""After this long without a sweep, the app is stopped: one comes every half minute, and is stored every minute."""


def settings_of(environ: Mapping[str, str]) -> Settings:
    """Where the table is: `AzureWebJobsStorage` if it is set, else the account of azd's environment.

    Raises:
        SetupError: Neither is known.
    """
    given = {"AZURE_FUNCTIONS_ENVIRONMENT": "Development"}  # no secret is needed to read a table
    if workspace := environ.get("GPULAUNCH_WORKSPACE"):
        given["GPULAUNCH_WORKSPACE"] = workspace
    if connection := environ.get("AzureWebJobsStorage"):
        return Settings.model_validate({**given, "AzureWebJobsStorage": connection})
    name = environ.get("GPULAUNCH_APP_NAME", "")
    if not name.startswith("func-"):
        raise SetupError('GPULAUNCH_APP_NAME not set; run: set -a; eval "$(azd env get-values)"; set +a')
    return Settings.model_validate({**given, "AzureWebJobsStorage__accountName": f"st{name.removeprefix('func-')}"})


def restore(settings: Settings, name: str, now: datetime, *, replace: bool) -> int:
    """Put a copy back; what is in the table now is copied before it is deleted. Return how many rows there are.

    Raises:
        SetupError: The app is running, the table is not empty and `replace` is not set, or the copy does not exist.
        StoreError: Storage refused it, or did not answer; to begin again does no harm.
    """
    table = table_client(settings)
    backups = TableBackups(table, backup_container(settings))
    if name not in backups.names():
        raise SetupError(f"the copy {name} does not exist; `python -m deploy backup list` shows those that do")
    status = SweepStatusStore(TableInstanceStore(table, settings.workspace)).read()
    if status is not None and now - status.ended_at < _STOPPED:
        raise SetupError(
            "the app swept less than five minutes ago; stop it (`az functionapp stop`), wait, and try again"
        )
    if not is_empty(table):
        if not replace:
            raise SetupError("the table is not empty; add --replace, which copies it before it is deleted")
        backups.write(f"before-restore/{now:%Y-%m-%dT%H%M%SZ}")
        clear(table)
    return load(table, backups.read(name))


def _backups() -> TableBackups:
    settings = settings_of(os.environ)
    return TableBackups(table_client(settings), backup_container(settings))


@app.command("list")
def show() -> None:
    """List the copies, oldest first."""
    for name in _backups().names():
        typer.echo(name)


@app.command()
def make() -> None:
    """Write a copy now; the app may run."""
    name = f"manual/{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}"
    typer.echo(f"{name}: {_backups().write(name)} rows")


@app.command("restore")
def put_back(
    name: Annotated[str, typer.Argument(help="A copy, as `list` shows it.")],
    replace: Annotated[bool, typer.Option(help="Copy what is in the table, delete it, and restore.")] = False,
) -> None:
    """Put a copy back into the table of a stopped app."""
    rows = restore(settings_of(os.environ), name, datetime.now(UTC), replace=replace)
    typer.echo(f"{rows} rows; start the app: az functionapp start")
