"""`python -m devhost.needs_skypilot`: exits with 0 where the app would start a SkyPilot server on this machine."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from devhost.config import HostError, load_local_settings
from gpulaunch.models.requests import ProviderName
from shared.backends.skypilot.local import LocalServer
from shared.errors import SettingsError
from shared.settings import Settings, read_settings


def needs_skypilot(settings: Settings, environ: Mapping[str, str], home: Path) -> bool:
    """Return whether launches can be real and no API server elsewhere makes them."""
    if settings.skypilot_endpoint is not None or settings.orchestrator == "simulation":
        return False
    server = LocalServer(environ, settings.skypilot_user_id, home)
    return settings.orchestrator == "skypilot" or any(map(server.has_credentials, get_args(ProviderName)))


if __name__ == "__main__":
    try:
        load_local_settings(Path.cwd(), os.environ)
        os.environ["AZURE_FUNCTIONS_ENVIRONMENT"] = "Development"
        sys.exit(not needs_skypilot(read_settings(), os.environ, Path.home()))
    except (HostError, SettingsError):
        # `make run` says what is wrong in a moment.
        sys.exit(1)
