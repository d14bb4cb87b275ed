"""Microsoft's Bicep compiler, where there is one: `python -m tests.unit.infra.compiler` writes the snapshots anew."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from tests.unit.infra.snapshots import CASES, NAMES

NONE = "no Bicep compiler on the PATH or in ~/.azure/bin; `az bicep install` gets one"
_PLACE = (
    *("--subscription-id", "11111111-1111-1111-1111-111111111111"),
    *("--tenant-id", "22222222-2222-2222-2222-222222222222"),
    *("--location", "eastus", "--deployment-name", "gpulaunch"),
)


def compiler() -> str | None:
    """Return its path: the one on the PATH, else the one of `az bicep install`."""
    return shutil.which("bicep") or shutil.which("bicep", path=str(Path.home() / ".azure" / "bin"))


def bicep(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it; nothing is fetched, since the types of all resources are inside the program."""
    found = compiler()
    assert found is not None, NONE
    return subprocess.run([found, *arguments], check=False, capture_output=True, text=True, timeout=120)


def snapshot(case: Path, mode: str) -> subprocess.CompletedProcess[str]:
    """Write (`overwrite`) or compare (`validate`) what a file of parameters would deploy."""
    return bicep("snapshot", str(case), "--mode", mode, *_PLACE)


def main() -> int:
    if compiler() is None:
        sys.stderr.write(f"{NONE}\n")
        return 1
    for name in NAMES:
        done = snapshot(CASES / f"{name}.bicepparam", "overwrite")
        if done.returncode != 0:
            sys.stderr.write(done.stderr)
            return done.returncode
        path = CASES / f"{name}.snapshot.json"
        document = json.loads(path.read_text("utf-8"))
        # The compiler writes the outputs in another order each time.
        document["outputs"] = dict(sorted(document.get("outputs", {}).items()))
        path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
