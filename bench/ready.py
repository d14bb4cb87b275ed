"""Time to ready, as the end-to-end test measured it last against a bare `sky launch`: that needs root."""

import json
from pathlib import Path
from typing import Any

from bench.processes import BenchError
from bench.results import ROOT, Figure, figure

SECTION = "ready"
FIGURES = ROOT / ".cache" / "bench" / "ready.json"


def measure(path: Path = FIGURES) -> list[Figure]:
    """Quote. Raises BenchError when there is nothing to quote."""
    if not path.exists():
        raise BenchError("run `make e2e` as root first: it measures this")
    said: dict[str, Any] = json.loads(path.read_text("utf-8"))
    ours, bare = float(said["ours"]), float(said["bare"])
    machine = said["machine"]
    note = f"one launch each; measured {machine['measured_at']} at load average {machine['load_average'][0]}"
    return [
        figure(SECTION, "launch until ready", [ours], "s", note=note),
        figure(SECTION, "bare sky launch until healthy", [bare], "s", note=note),
        figure(SECTION, "ours / bare", [ours / bare], "x", target=1.05, note=note),
    ]
