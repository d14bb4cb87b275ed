"""Keep the images that run: azd notes what it has built on the machine that built it, and nowhere else.

Another machine, such as one of CI, would provision without them, and put placeholders in their place.
"""

import os
import subprocess
from collections.abc import Callable, Mapping
from typing import Any, Final

import typer

from deploy.arm import Arm, signed_in

_API: Final = "2025-07-01"
_PLACEHOLDERS: Final = "mcr.microsoft.com/"
"""Where infra/ takes images from until azd has built its own."""


def unknown_images(arm: Arm, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the images that run in this environment and that azd does not know here, by azd's names for them."""
    subscription, environment = environ.get("AZURE_SUBSCRIPTION_ID"), environ.get("AZURE_ENV_NAME")
    if not subscription or not environment:
        return {}  # azd asks for them later, and nothing is deployed yet
    found: dict[str, str] = {}
    path = f"/subscriptions/{subscription}/resourceGroups/rg-{environment}/providers/Microsoft.App/containerApps"
    for app in arm.every(path, _API):
        tags: Any = app.get("tags") or {}
        image = str(app["properties"]["template"]["containers"][0]["image"])
        name = f"SERVICE_{str(tags.get('azd-service-name', '')).upper()}_IMAGE_NAME"
        if "azd-service-name" in tags and not image.startswith(_PLACEHOLDERS) and not environ.get(name):
            found[name] = image
    return found


def images() -> None:
    """Tell azd the images that run, where this machine does not know them."""
    for name, image in unknown_images(Arm(signed_in()), os.environ).items():
        keep(name, image)
        typer.echo(f"{name}: {image}")


def keep(name: str, image: str, run: Callable[..., object] = subprocess.run) -> None:
    """Store an image in azd's environment, from which the template gets it."""
    run(["azd", "env", "set", name, image], check=True)
