"""`gpulaunch doctor`: what works, what does not, and how to fix it."""

from collections.abc import Iterator

import typer

from gpulaunch.cli.check import CheckResult, report
from gpulaunch.cli.session import Json, Session, session_of
from gpulaunch.client.errors import AccessError, ClientError
from gpulaunch.client.synchronous import GpuLaunch
from gpulaunch.version import VERSION

_LAUNCHES = {
    "simulation": "simulation only: no machine is rented",
    "auto": "SkyPilot if a provider is enabled, otherwise simulation",
    "skypilot": "SkyPilot: real machines",
}


def doctor(context: typer.Context, as_json: Json = False) -> None:
    """Check the app's address, its health, your token, and the settings that matter to launches."""
    session = session_of(context, as_json=as_json)
    raise typer.Exit(report(session, _checks(session)))


def _checks(session: Session) -> Iterator[CheckResult]:
    """The first failure is the last check: all others would fail because of it."""
    try:
        found, gpu = session.connection, session.gpu
        yield CheckResult(name="address", state="ok", detail=f"{found.url} ({found.url_from})")
        yield from _health(gpu)
        yield _token(gpu, found.token_from, has_token=found.token is not None)
        yield from _settings(gpu)
    except AccessError as error:
        advice = "Set one of the app's GPULAUNCH_ADMIN_TOKENS with `gpulaunch config set-token`."
        yield CheckResult(name="token", state="failed", detail=str(error), advice=advice)
    except ClientError as error:
        advice = "Start an app on this machine with `make run`, or set the address with `gpulaunch config set-url`."
        yield CheckResult(name="app", state="failed", detail=str(error), advice=advice)


def _health(gpu: GpuLaunch) -> Iterator[CheckResult]:
    health = gpu.health()
    if health.status == "ok":
        yield CheckResult(name="app", state="ok", detail=f"version {health.version}, storage {health.storage}")
    else:
        advice = "Check AzureWebJobsStorage, and the storage account's firewall and roles."
        detail = f"{health.status}: storage {health.storage}"
        yield CheckResult(name="app", state="failed", detail=detail, advice=advice)
    if health.version != VERSION:
        detail = f"this client is {VERSION}, the app is {health.version}"
        yield CheckResult(
            name="version", state="warning", detail=detail, advice="Install the app's version of the client."
        )


def _token(gpu: GpuLaunch, token_from: str, *, has_token: bool) -> CheckResult:
    role = gpu.role()
    if not has_token:
        advice = "Acceptable on your own machine; anywhere else, set GPULAUNCH_ADMIN_TOKENS."
        return CheckResult(name="token", state="warning", detail="the app does not ask for one", advice=advice)
    may = "may launch and terminate instances" if role == "admin" else "read-only"
    return CheckResult(name="token", state="ok", detail=f"{role}: {may} ({token_from})")


def _settings(gpu: GpuLaunch) -> Iterator[CheckResult]:
    config = gpu.config()
    launches = _LAUNCHES.get(config.orchestrator, config.orchestrator)
    where = f"workspace {config.workspace}, deployment {config.deployment or 'without an identity'}"
    yield CheckResult(name="launches", state="ok", detail=f"{launches}; {where}")
    if config.simulation_speed != 1:
        yield CheckResult(
            name="simulation", state="note", detail=f"{config.simulation_speed:g} times as fast as real time"
        )
    if config.public_url is None:
        detail = "GPULAUNCH_PUBLIC_URL is not set: nodes do not call the app, so the app must be able to reach them"
        yield CheckResult(name="nodes", state="note", detail=detail)
