"""The app as it answers: health, version, the token's role, the settings."""

from collections.abc import Iterator

from gpulaunch.cli.checks.result import Check
from gpulaunch.cli.session import Session
from gpulaunch.client.errors import AccessError, ClientError
from gpulaunch.client.synchronous import GpuLaunch
from gpulaunch.version import VERSION


def remote_checks(session: Session) -> Iterator[Check]:
    """What can be known of the app; the first failure ends it, as all else would fail by it."""
    try:
        found, gpu = session.connection, session.gpu
        yield Check(name="address", state="ok", detail=f"{found.url} ({found.url_from})")
        yield from _health(gpu)
        yield _token(gpu, found.token_from, has_token=found.token is not None)
        yield from _settings(gpu)
    except AccessError as error:
        advice = "`gpulaunch config set-token` sets one of the app's GPULAUNCH_ADMIN_TOKENS."
        yield Check(name="token", state="failed", detail=str(error), advice=advice)
    except ClientError as error:
        advice = "`make run` starts an app on this machine; `gpulaunch config set-url` names another."
        yield Check(name="app", state="failed", detail=str(error), advice=advice)


def _health(gpu: GpuLaunch) -> Iterator[Check]:
    health = gpu.health()
    if health.status == "ok":
        yield Check(name="app", state="ok", detail=f"version {health.version}, storage {health.storage}")
    else:
        advice = "Look at AzureWebJobsStorage and at the storage account's firewall and roles."
        detail = f"{health.status}: storage {health.storage}"
        yield Check(name="app", state="failed", detail=detail, advice=advice)
    if health.version != VERSION:
        detail = f"this client is {VERSION}, the app {health.version}"
        yield Check(name="version", state="warning", detail=detail, advice="Install the app's version of the client.")


def _token(gpu: GpuLaunch, token_from: str, *, has_token: bool) -> Check:
    role = gpu.role()
    if not has_token:
        advice = "Fine on one's own machine; anywhere else set GPULAUNCH_ADMIN_TOKENS."
        return Check(name="token", state="warning", detail="the app asks for none", advice=advice)
    may = "launch and end instances" if role == "admin" else "look only"
    return Check(name="token", state="ok", detail=f"{role}: may {may} ({token_from})")


def _settings(gpu: GpuLaunch) -> Iterator[Check]:
    config = gpu.config()
    words = {
        "simulation": "simulation only: no machine is ever rented",
        "auto": "SkyPilot where a provider is enabled, else simulation",
        "skypilot": "SkyPilot: real machines",
    }
    detail = words.get(config.orchestrator, config.orchestrator)
    yield Check(name="launches", state="ok", detail=f"{detail}; workspace {config.workspace}")
    if config.simulation_speed != 1:
        yield Check(name="simulation", state="note", detail=f"{config.simulation_speed:g} times as fast as time")
    if config.public_url is None:
        detail = "GPULAUNCH_PUBLIC_URL is not set, so the app asks the nodes, and has to reach them"
        yield Check(name="nodes", state="note", detail=detail)
