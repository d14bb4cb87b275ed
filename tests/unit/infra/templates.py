"""The Bicep files, parsed by pycep: what is written there. `snapshots` has what comes of it."""

import re
from functools import cache
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).parents[3]
INFRA = ROOT / "infra"
FILES = sorted(INFRA.rglob("*.bicep"))

Tree = dict[str, Any]


@cache
def parsed(path: Path) -> Tree:
    import pycep

    parser = cast("Any", pycep).BicepParser()
    return cast("Tree", parser.parse(file_path=path))


def keys(path: Path, *names: str) -> set[str]:
    return {key for name in names for key in parsed(path)["variables"][name]["value"]}


def decorated(declaration: Tree, kind: str) -> bool:
    return any(item["type"] == kind for item in declaration["decorators"])


def code(path: Path) -> str:
    return re.sub(r"(?m)(^|\s)//.*$", "", path.read_text("utf-8"))


def settings_set() -> set[str]:
    """Every setting that infra/ gives the app, in whatever variant."""
    names = (
        "hostSettings",
        "appSettings",
        "gatewaySettings",
        "hubSettings",
        "webhookSettings",
        "r2Settings",
        "s3Settings",
    )
    return keys(INFRA / "modules" / "app.bicep", *names)
