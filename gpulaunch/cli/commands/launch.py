"""`gpulaunch launch` and `gpulaunch watch`."""

import shlex
from math import ceil
from pathlib import Path
from typing import Annotated, Any

import typer

from gpulaunch.cli.commands.instances import Id
from gpulaunch.cli.exits import Exit
from gpulaunch.cli.format import offer
from gpulaunch.cli.session import Json, Session, session_of
from gpulaunch.cli.watch import Watch
from gpulaunch.client.errors import EndedError
from gpulaunch.format import duration, usd
from gpulaunch.models.requests import ProviderName
from gpulaunch.models.responses import InstanceView, LaunchAnswer

Timeout = Annotated[
    float | None,
    typer.Option(min=0, help="Seconds to watch; the instance goes on. Default: until it is ready or has ended."),
]


_SHOWN = 5
"""Planned offers to print; a launch in any region has dozens, and --json has them all."""


def launch(
    context: typer.Context,
    model_name: Annotated[str, typer.Argument(metavar="MODEL", help="The model: its id on the Hub, or any name.")],
    *,
    provider: Annotated[ProviderName | None, typer.Option(help="Where to launch. Default: azure.")] = None,
    region: Annotated[list[str] | None, typer.Option(help="A region to choose from; repeatable. Default: any.")] = None,
    instance_type: Annotated[str | None, typer.Option(help="A machine type: Standard_NV36ads_A10_v5.")] = None,
    gpu: Annotated[str | None, typer.Option(help="Or a GPU, with its count: A10, A100-80GB:2.")] = None,
    use_spot: Annotated[bool | None, typer.Option(help="Try spot machines first (the default), or none.")] = None,
    spot_fallback: Annotated[
        bool | None, typer.Option(help="On-demand machines if no spot offer has capacity (the default), or never.")
    ] = None,
    model_source: Annotated[
        str | None,
        typer.Option(help="hf://org/model@revision, r2://bucket/prefix, s3://bucket/prefix or an https:// blob."),
    ] = None,
    max_hourly_cost: Annotated[float | None, typer.Option(help="Highest price of an offer, USD per hour.")] = None,
    max_lifetime_minutes: Annotated[int | None, typer.Option(help="Terminate then in any case.")] = None,
    idle_minutes: Annotated[int | None, typer.Option(help="Terminate after that long without a request.")] = None,
    budget_usd: Annotated[float | None, typer.Option(help="Terminate before it costs more, USD.")] = None,
    vllm_arg: Annotated[
        list[str] | None,
        typer.Option(help="Argument for `vllm serve`; repeatable: --vllm-arg=--max-model-len=8192."),
    ] = None,
    chat_template: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, readable=True, help="A file with a chat template (Jinja)."),
    ] = None,
    disk_size: Annotated[
        int | None, typer.Option(help="Disk of the node, GiB. Default: 256, or more if the model needs it.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Launch although the model does not fit or cannot be inspected.")
    ] = False,
    label: Annotated[list[str] | None, typer.Option(help="KEY=VALUE; repeatable.")] = None,
    name: Annotated[str | None, typer.Option(help="A name for the instance.")] = None,
    job: Annotated[
        str | None, typer.Option(help="A command that the node runs against its endpoint; the instance ends with it.")
    ] = None,
    job_timeout_minutes: Annotated[int | None, typer.Option(help="Stop the job then.")] = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Watch until it is ready; Ctrl-C stops watching.")
    ] = False,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Launch a model on a GPU node."""
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
        "chat_template": None if chat_template is None else chat_template.read_text("utf-8"),
        "disk_size": disk_size,
        "force": force or None,
        "labels": _labels(label or []),
        "name": name,
        "job": _job(job, job_timeout_minutes),
    }
    session = session_of(context, as_json=as_json)
    try:
        answer = session.gpu.launch({field: value for field, value in given.items() if value not in (None, {}, [])})
    except KeyboardInterrupt:
        session.note("\nInterrupted before the app answered. `gpulaunch ls` shows whether it was launched.", "yellow")
        raise typer.Exit(Exit.INTERRUPTED) from None
    if not session.as_json:
        _show(session, answer)
    if watch:
        if session.as_json:
            session.line(answer, "")
        _watch(session, answer.instance_id, timeout)
    else:
        session.answer(answer, lambda: session.say(f"Watch it: gpulaunch watch {answer.instance_id}"))


def watch(
    context: typer.Context,
    instance_id: Id,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Watch an instance until it is ready or has ended."""
    _watch(session_of(context, as_json=as_json), instance_id, timeout)


def _watch(session: Session, instance_id: str, timeout: float | None) -> None:
    try:
        ready = Watch(session, instance_id).run(timeout)
    except KeyboardInterrupt:
        session.note(
            f"\nStopped watching; {instance_id} goes on.\n"
            f"Resume: gpulaunch watch {instance_id}\nTerminate: gpulaunch terminate {instance_id}",
            "yellow",
        )
        raise typer.Exit(Exit.INTERRUPTED) from None
    except EndedError as error:
        session.note(_failures(error.instance))
        raise
    if not session.as_json:
        took = (ready.attempts[-1].ready_at or ready.phase_since) - ready.created_at
        session.say(f"ready after {duration(took.total_seconds())}: {ready.endpoint}", "green")
        session.say(f"Key and curl: gpulaunch credentials {instance_id}\nTerminate: gpulaunch terminate {instance_id}")


def _show(session: Session, answer: LaunchAnswer) -> None:
    session.say(answer.message, "bold")
    session.say(f"{answer.instance_id}  {answer.mode}: {answer.mode_reason}")
    for number, one in enumerate(answer.offers[:_SHOWN], 1):
        session.say(f"  {number}. {offer(one)}")
    if len(answer.offers) > _SHOWN:
        session.say(f"  and {len(answer.offers) - _SHOWN} more, if these have no capacity")
    costs = answer.estimate
    session.say(
        f"{usd(costs.hourly_usd)} per hour, at most {usd(costs.worst_case_usd)} in "
        f"{duration(costs.lifetime_minutes * 60)} ({costs.prices_as_of})"
    )
    memory = answer.gpu_memory
    if memory is not None and memory.fits:
        session.say(
            f"GPU memory: needs about {ceil(memory.needed_gib)} GiB, the {memory.gpu} has {memory.has_gib:g} GiB"
        )
    for warning in answer.warnings:
        session.say(f"warning: {warning}", "yellow")


def _failures(view: InstanceView) -> str:
    lines = [
        f"attempt {attempt.number}, {offer(attempt.offer)}: {attempt.failure.message} ({attempt.failure.reason.value})"
        for attempt in view.attempts
        if attempt.failure is not None
    ]
    return "\n".join(lines) or "No attempt was made."


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
