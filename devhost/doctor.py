"""`make doctor`: what this machine lacks to run the app and to launch real nodes.

`python -m devhost.doctor needs-skypilot` exits with 0 where the app would start a SkyPilot server on this machine.
"""

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from devhost.azurite import port_is_free
from devhost.config import HostError, load_local_settings
from gpulaunch.cli.check import CheckResult, report
from gpulaunch.cli.session import Session
from gpulaunch.models.requests import ProviderName
from shared.clouds.registry import CLOUDS
from shared.errors import SettingsError
from shared.settings import Settings, read_settings


def with_credentials(home: Path) -> list[ProviderName]:
    """Return the providers for which this machine has credentials."""
    return [name for name, cloud in CLOUDS.items() if cloud.credentials.found(home, os.environ)]


def needs_skypilot(settings: Settings, home: Path) -> bool:
    """Return whether launches can be real and no API server elsewhere makes them."""
    if settings.skypilot_endpoint is not None or settings.orchestrator == "simulation":
        return False
    return settings.orchestrator == "skypilot" or bool(with_credentials(home))


def local_checks(home: Path) -> Iterator[CheckResult]:
    """Check what `make run` and real launches need beyond what make installs."""
    port = int(os.environ.get("PORT") or 7071)
    if port_is_free(port):
        yield CheckResult(name="port", state="ok", detail=f"{port} is free for `make run`")
    else:
        yield CheckResult(name="port", state="note", detail=f"{port} is in use, by `make run` or another program")
    if importlib.util.find_spec("sky") is None:
        advice = "For real launches from this machine, `make run SKYPILOT=1`."
        yield CheckResult(name="skypilot", state="note", detail="not installed", advice=advice)
    else:
        yield CheckResult(name="skypilot", state="ok", detail="installed")
    if there := with_credentials(home):
        advice = "Run `.venv/bin/sky check` to see whether they work."
        yield CheckResult(name="providers", state="ok", detail=f"credentials for {', '.join(there)}", advice=advice)
    else:
        ways = "; ".join(f"{name}: {cloud.credentials.advice}" for name, cloud in CLOUDS.items())
        detail = "no credentials on this machine, so launches are simulated"
        yield CheckResult(name="providers", state="note", detail=detail, advice=f"For real launches: {ways}.")


if __name__ == "__main__":
    if sys.argv[1:] != ["needs-skypilot"]:
        sys.exit(report(Session(), local_checks(Path.home())))
    try:
        load_local_settings(Path.cwd(), os.environ)
        os.environ["AZURE_FUNCTIONS_ENVIRONMENT"] = "Development"
        sys.exit(not needs_skypilot(read_settings(), Path.home()))
    except (HostError, SettingsError):
        # `make run` reports what is wrong in a moment.
        sys.exit(1)
