"""The command `gpulaunch`."""

from collections.abc import Callable
from typing import Annotated

import typer

from gpulaunch.cli.commands import endpoints, instances, operators
from gpulaunch.cli.commands.apply import apply
from gpulaunch.cli.commands.configuration import config
from gpulaunch.cli.commands.doctor import doctor
from gpulaunch.cli.commands.launch import launch, plan, watch
from gpulaunch.cli.session import Guarded, Json, Session, session_of
from gpulaunch.version import VERSION

_EPILOG = (
    "Exit codes: 0 done · 1 error · 2 wrong usage or request · 3 not found · 4 refused · 5 the "
    "instance failed or ended · 6 conflict · 7 the app is unavailable · 8 timeout · 9 TLS or proxy · "
    "130 interrupted. Address and token: `gpulaunch config`, or GPULAUNCH_URL and GPULAUNCH_TOKEN."
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
        bool, typer.Option("--version", metavar="", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
    as_json: Json = False,
) -> None:
    """Launch models on GPU nodes, watch them, and terminate them."""
    if context.obj is None:
        context.obj = Session()
    session_of(context, as_json=as_json)


_GROUPS: dict[str, dict[Callable[..., None], tuple[str, ...]]] = {
    "Launch": {
        launch: (
            "gpulaunch launch meta-llama/Llama-3.1-8B-Instruct --gpu A10 --watch",
            "gpulaunch launch Qwen/Qwen3-8B --gpu A100-80GB --idle-minutes 30 --budget-usd 20 --name chat",
            "gpulaunch launch org/model --gpu A10 --region eastus --region westus3 --no-use-spot --yes",
        ),
        plan: ("gpulaunch plan meta-llama/Llama-3.3-70B-Instruct --gpu A100-80GB:4",),
        watch: ("gpulaunch watch chat --timeout 1800",),
        operators.catalog: ("gpulaunch catalog --gpu A10 --spot",),
    },
    "Instances": {
        instances.ls: ("gpulaunch ls --label team=search", "gpulaunch ls --all --json | jq -r '.[].instance_id'"),
        instances.show: ("gpulaunch show chat",),
        instances.logs: ("gpulaunch logs chat -f",),
        instances.events: ("gpulaunch events chat",),
        instances.credentials: ('eval "$(gpulaunch credentials chat --export)"',),
        instances.terminate: ("gpulaunch terminate chat --wait", "gpulaunch terminate 9G5FAV HX0T9G --yes"),
    },
    "Endpoints": {
        endpoints.deploy: (
            "gpulaunch deploy chat-prod meta-llama/Llama-3.1-8B-Instruct --gpu A10 --replicas 2",
            "gpulaunch deploy chat-prod Qwen/Qwen3-8B --gpu A10 --region eastus --region westus2",
        ),
        apply: (
            "gpulaunch apply -f endpoints.yaml --dry-run",
            "gpulaunch endpoints --yaml > endpoints.yaml",
            "gpulaunch apply -f endpoints.yaml --prune team=search",
        ),
        endpoints.endpoints: ("gpulaunch endpoints", "gpulaunch endpoints chat-prod"),
        endpoints.keys: ("gpulaunch keys chat-prod --add search", "gpulaunch keys chat-prod"),
        endpoints.scale: ("gpulaunch scale chat-prod 3", "gpulaunch scale chat-prod 0..3"),
        endpoints.decisions: ("gpulaunch decisions chat-prod",),
        endpoints.pause: ("gpulaunch pause chat-prod",),
        endpoints.resume: ("gpulaunch resume chat-prod",),
        endpoints.rollout: ("gpulaunch rollout chat-prod",),
        endpoints.undeploy: ("gpulaunch undeploy chat-prod --wait",),
    },
    "Operation": {
        operators.costs: ("gpulaunch costs --by model", "gpulaunch costs --from 2026-01-01 --by label --label team"),
        operators.quota: ("gpulaunch quota --region eastus",),
        operators.gc: ("gpulaunch gc", "gpulaunch gc --confirm"),
        operators.adopt: ("gpulaunch adopt --confirm",),
        doctor: ("gpulaunch doctor",),
    },
}
"""Commands in the order and the groups of the help, each with examples of its use."""

for group, commands in _GROUPS.items():
    for command, examples in commands.items():
        app.command(rich_help_panel=group, epilog="\n\n".join(["Examples:", *examples]))(command)
app.command("down", hidden=True)(instances.terminate)
app.add_typer(config, name="config", rich_help_panel="Operation")
