"""`python -m deploy`: the commands that set up a deployment on Azure."""

import sys

import typer
from azure.core.exceptions import AzureError

from deploy import secrets
from deploy.check import check
from deploy.preflight import preflight
from deploy.secrets import SetupError

app = typer.Typer(
    help="Check an Azure account; make a deployment's secrets; check a deployment.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(preflight)
app.command()(check)
app.add_typer(secrets.app, name="secrets")


def main() -> None:
    """Run a command; errors of Azure and of the set-up are one line."""
    try:
        app(prog_name="python -m deploy")
    except (AzureError, SetupError) as error:
        sys.exit(f"{type(error).__name__}: {str(error).splitlines()[0]}")


if __name__ == "__main__":
    main()
