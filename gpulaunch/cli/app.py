"""The command `gpulaunch`."""

from typing import Annotated

import typer

from gpulaunch.cli.commands import instances, operators
from gpulaunch.cli.commands.configuration import config
from gpulaunch.cli.commands.doctor import doctor
from gpulaunch.cli.commands.launch import launch, watch
from gpulaunch.cli.session import Guarded, Session
from gpulaunch.version import VERSION

_EPILOG = (
    "Exit codes: 0 done · 1 error · 2 wrong usage or request · 3 not found · 4 refused · 5 the "
    "instance failed or ended · 6 conflict · 7 the app is unavailable · 8 timeout · 130 interrupted. "
    "Address and token: `gpulaunch config`, or GPULAUNCH_URL and GPULAUNCH_TOKEN."
)

app = typer.Typer(
    name="gpulaunch",
    cls=Guarded,
    no_args_is_help=True,
    epilog=_EPILOG,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"gpulaunch {VERSION}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback prints it
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Launch models on GPU nodes, watch them, and terminate them."""
    if context.obj is None:
        context.obj = Session()


for command in (
    launch,
    watch,
    instances.ls,
    instances.show,
    instances.logs,
    instances.events,
    instances.terminate,
    instances.credentials,
    operators.catalog,
    operators.quota,
    operators.costs,
    operators.gc,
    operators.adopt,
    doctor,
):
    app.command()(command)
app.command("down", hidden=True)(instances.terminate)
app.add_typer(config, name="config")
