"""`python -m deploy.sbom FILE`: the software bill of materials of what is deployed, as CycloneDX 1.6.

It is read from the locks alone, so that the same locks make the same file.
"""

import base64
import json
import re
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from gpulaunch.version import VERSION

ROOT = Path(__file__).resolve().parent.parent
LOCKS = {"app": "requirements.txt", "skypilot-server": "infra/skypilot/requirements.txt"}
"""What is deployed: the app, and SkyPilot's server beside it."""
VENDORED = {"htmx.org", "@picocss/pico"}
"""Copied from node_modules into shared/web/static. Redoc is there as well, by its own version."""
_ENTRY = re.compile(r"^([a-z0-9][a-z0-9._-]*)(?:\[[^\]]*\])?==(\S+)[^\n]*((?:\n +--hash=\S+[^\n]*)+)", re.MULTILINE)


def bill(root: Path = ROOT) -> dict[str, Any]:
    """Return the whole bill as a CycloneDX document."""
    components = list[dict[str, Any]]()
    for name, path in LOCKS.items():
        components += _python((root / path).read_text("utf-8"), name)
    components += _vendored(root)
    merged = dict[str, dict[str, Any]]()
    for component in components:
        known = merged.setdefault(component["purl"], component)
        if known is not component:
            known["properties"] = known["properties"] + component["properties"]
    found = [merged[purl] for purl in sorted(merged)]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(found))}",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "gpulaunch", "version": VERSION}},
        "components": found,
    }


def _python(lock: str, part: str) -> Iterator[dict[str, Any]]:
    for name, version, hashes in _ENTRY.findall(lock):
        digests = re.findall(r"--hash=sha256:([0-9a-f]{64})", hashes)
        # One for each file of the release: which of them is installed depends on the machine.
        yield _component(
            name, version, f"pkg:pypi/{name}@{quote(version)}", [("SHA-256", one) for one in digests], part
        )


def _vendored(root: Path) -> Iterator[dict[str, Any]]:
    packages = cast(
        "dict[str, dict[str, Any]]", json.loads((root / "package-lock.json").read_text("utf-8"))["packages"]
    )
    for name in sorted(VENDORED):
        package = packages[f"node_modules/{name}"]
        digest = base64.b64decode(package["integrity"].removeprefix("sha512-")).hex()
        purl = f"pkg:npm/{quote(name, safe='/')}@{package['version']}"
        yield _component(name, package["version"], purl, [("SHA-512", digest)], "pages")
    (redoc,) = re.findall(r"^REDOC := redoc@(\S+)$", (root / "Makefile").read_text("utf-8"), re.MULTILINE)
    yield _component("redoc", redoc, f"pkg:npm/redoc@{redoc}", [], "pages")


def _component(name: str, version: str, purl: str, hashes: list[tuple[str, str]], part: str) -> dict[str, Any]:
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "hashes": [{"alg": algorithm, "content": content} for algorithm, content in hashes],
        "properties": [{"name": "gpulaunch:part", "value": part}],
    }


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(bill(), indent=1) + "\n", "utf-8")
    print(f"{target}: {len(bill()['components'])} components")
