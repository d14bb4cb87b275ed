"""`python -m deploy`: the commands that set up a deployment on Azure."""

import sys

import typer
from azure.core.exceptions import AzureError

from deploy import backup, secrets
from deploy.check import check
from deploy.images import images
from deploy.preflight import preflight
from deploy.secrets import SetupError
from shared.errors import StoreError
from shared.storage.backup import BackupError

app = typer.Typer(
    help="Check an Azure account and a deployment; make its secrets; copy and restore its table.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(preflight)
app.command()(check)
app.command()(images)
app.add_typer(secrets.app, name="secrets")
app.add_typer(backup.app, name="backup")


def main() -> None:
    """Run a command; errors of Azure and of the set-up are one line."""
    try:
        app(prog_name="python -m deploy")
    except (AzureError, SetupError, BackupError, StoreError) as error:
        sys.exit(f"{type(error).__name__}: {str(error).splitlines()[0]}")


if __name__ == "__main__":
    main()
