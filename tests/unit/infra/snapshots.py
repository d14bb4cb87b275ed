"""What Azure's deployment engine makes of infra/ in the cases that people have, as the compiler evaluates it.

Each `cases/X.bicepparam` has its `X.snapshot.json` beside it; `make snapshots` writes them, `make infra` finds those
that are out of date. Only what a deployment alone can know stays an expression: `[reference('…').principalId]`.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, cast

CASES = Path(__file__).parent / "cases"
NAMES = sorted(path.stem for path in CASES.glob("*.bicepparam"))

Resource = dict[str, Any]


@cache
def resources(case: str) -> list[Resource]:
    text = (CASES / f"{case}.snapshot.json").read_text("utf-8")
    return cast("list[Resource]", json.loads(text)["predictedResources"])


def of(case: str, kind: str) -> list[Resource]:
    return [one for one in resources(case) if one["type"] == kind]


def one(case: str, kind: str, name: str) -> Resource:
    """The only resource of a type whose name begins so."""
    (found,) = [one for one in of(case, kind) if one["name"].startswith(name)]
    return found


def settings(case: str) -> dict[str, str]:
    """Return the settings of the app."""
    return one(case, "Microsoft.Web/sites/config", "func-")["properties"]


def container(case: str, name: str) -> Resource:
    """Return the only container of a Container App (`skypilot`, `gateway`)."""
    (found,) = one(case, "Microsoft.App/containerApps", f"ca-{name}-")["properties"]["template"]["containers"]
    return found


def token(case: str) -> str:
    """Return the part of the resources' names that `uniqueString` makes."""
    return one(case, "Microsoft.Web/sites", "func-")["name"].removeprefix("func-")


def grants(case: str) -> dict[str, set[tuple[str, str]]]:
    """What each identity (`app`, `skypilot`, `gateway`) may: pairs of a scope and the id of a role."""
    found: dict[str, set[tuple[str, str]]] = {}
    for role in of(case, "Microsoft.Authorization/roleAssignments"):
        properties = role["properties"]
        (identity,) = re.findall(r"^\[reference\('[^']+/id-(\w+)-[^']+'.*\)\.principalId\]$", properties["principalId"])
        scope = role["id"].partition("/providers/Microsoft.Authorization/")[0]
        short = scope.rpartition("/providers/Microsoft.")[2].replace(f"-{token(case)}", "").replace(token(case), "")
        found.setdefault(identity, set()).add((short, properties["roleDefinitionId"].rpartition("/")[2]))
    return found
