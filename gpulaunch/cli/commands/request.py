"""The options of a launch's request, which `launch` and `plan` share."""

import inspect
import shlex
from collections.abc import Callable, Mapping
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from gpulaunch.models.requests import ProviderName

Request = Mapping[str, Any]
"""The fields that were given; what was not is left to the app."""

_machine = partial(typer.Option, rich_help_panel="Machine")
_price = partial(typer.Option, rich_help_panel="Price and limits")
_served = partial(typer.Option, rich_help_panel="Model and server")
_job_option = partial(typer.Option, rich_help_panel="Job")


def with_request(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command all options of a request; it gets them as `request`."""
    return _with_options(command, frozenset())


def with_replica_request(command: Callable[..., None]) -> Callable[..., None]:
    """The same with the options of an endpoint's replicas."""
    return _with_options(command, frozenset({"name", "job", "job_timeout_minutes", "idle_minutes", "budget_usd"}))


def _with_options(command: Callable[..., None], without: frozenset[str]) -> Callable[..., None]:
    options = {name: one for name, one in inspect.signature(_request).parameters.items() if name not in without}
    context, *own = inspect.signature(command).parameters.values()
    names = [one.name for one in own]
    # Arguments of the command that stand before `request` come before the model.
    first, rest = own[: names.index("request")], own[names.index("request") + 1 :]

    @wraps(command)
    def run(context: typer.Context, **given: Any) -> None:
        request = _request(**{name: given.pop(name) for name in options})
        command(context, request=request, **given)

    shown = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*first, *options.values(), *rest)]
    hints = get_type_hints(command, include_extras=True) | get_type_hints(_request, include_extras=True)
    run.__signature__ = inspect.Signature([context, *shown])  # pyright: ignore[reportAttributeAccessIssue] - typer reads it
    run.__annotations__ = {name: hints[name] for name in ("context", *(one.name for one in shown))}
    return run


def _request(
    *,
    model_name: Annotated[str, typer.Argument(metavar="MODEL", help="The model: its id on the Hub, or any name.")],
    provider: Annotated[
        ProviderName | None,
        _machine(metavar="NAME", help="azure (the default), aws, gcp, kubernetes or slurm."),
    ] = None,
    region: Annotated[
        list[str] | None,
        _machine(metavar="REGION", help="One to choose from; repeatable. Default: any."),
    ] = None,
    gpu: Annotated[str | None, _machine(metavar="GPU", help="A GPU and its count: A10, A100-80GB:2.")] = None,
    instance_type: Annotated[
        str | None,
        _machine(metavar="TYPE", help="Or a machine type: Standard_NV36ads_A10_v5."),
    ] = None,
    disk_size: Annotated[
        int | None,
        _machine(metavar="GIB", help="The node's disk. Default: 256, or what the model needs."),
    ] = None,
    use_spot: Annotated[
        bool | None,
        _price(metavar="", help="Try spot machines first (the default), or none."),
    ] = None,
    spot_fallback: Annotated[
        bool | None,
        _price(metavar="", help="On-demand when spot has no capacity (the default), or never."),
    ] = None,
    max_hourly_cost: Annotated[float | None, _price(metavar="USD", help="Highest price of an offer per hour.")] = None,
    budget_usd: Annotated[float | None, _price(metavar="USD", help="Terminate before it costs more.")] = None,
    max_lifetime_minutes: Annotated[int | None, _price(metavar="MINUTES", help="Terminate then in any case.")] = None,
    idle_minutes: Annotated[
        int | None,
        _price(metavar="MINUTES", help="Terminate after that long without a request."),
    ] = None,
    model_source: Annotated[
        str | None,
        _served(
            metavar="URL",
            help="hf://org/model@revision, r2:// or s3://bucket/prefix, or an https:// blob folder.",
        ),
    ] = None,
    vllm_arg: Annotated[
        list[str] | None,
        _served(
            metavar="ARG",
            help="For `vllm serve`; repeatable: --vllm-arg=--max-model-len=8192.",
        ),
    ] = None,
    chat_template: Annotated[
        Path | None,
        _served(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            readable=True,
            help="A chat template (Jinja).",
        ),
    ] = None,
    force: Annotated[
        bool,
        _served(
            "--force",
            metavar="",
            help="Launch although the model does not fit or cannot be inspected.",
        ),
    ] = False,
    name: Annotated[
        str | None,
        _served(metavar="NAME", help="Names the instance: `gpulaunch show NAME`."),
    ] = None,
    label: Annotated[list[str] | None, _served(metavar="KEY=VALUE", help="Repeatable.")] = None,
    job: Annotated[
        str | None,
        _job_option(
            metavar="COMMAND",
            help="Runs on the node against its endpoint; the instance ends with it.",
        ),
    ] = None,
    job_timeout_minutes: Annotated[int | None, _job_option(metavar="MINUTES", help="Stop the job then.")] = None,
) -> Request:
    given: dict[str, Any] = {
        "model_name": model_name,
        "provider": provider,
        "region": region[0] if region and len(region) == 1 else region,
        "instance_type": instance_type,
        "gpu": gpu,
        "use_spot": use_spot,
        "spot_fallback": spot_fallback,
        "model_source": model_source,
        "max_hourly_cost": max_hourly_cost,
        "max_lifetime_minutes": max_lifetime_minutes,
        "idle_minutes": idle_minutes,
        "budget_usd": budget_usd,
        "vllm_args": vllm_arg,
        "chat_template": chat_template and _text(chat_template),
        "disk_size": disk_size,
        "force": force or None,
        "labels": _labels(label or []),
        "name": name,
        "job": _job(job, job_timeout_minutes),
    }
    return {field: value for field, value in given.items() if value not in (None, {}, [])}


def _labels(given: list[str]) -> dict[str, str]:
    made: dict[str, str] = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not equals:
            raise typer.BadParameter(f"expected KEY=VALUE, got {one!r}", param_hint="--label")
        made[key] = value
    return made


def _job(command: str | None, minutes: int | None) -> dict[str, Any] | None:
    if command is None:
        if minutes is not None:
            raise typer.BadParameter("--job-timeout-minutes requires --job", param_hint="--job-timeout-minutes")
        return None
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise typer.BadParameter(f"{error}", param_hint="--job") from error
    return {"command": words} | ({} if minutes is None else {"timeout_minutes": minutes})


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{path} is not a text in UTF-8", param_hint="--chat-template") from error
