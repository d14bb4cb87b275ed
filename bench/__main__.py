"""`python -m bench [SECTION…] [--quick]`: measure, print a table, write bench/results.json."""

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from azure.core.exceptions import AzureError

from bench import results
from bench.processes import BenchError
from bench.results import ROOT, Figure
from devhost.config import HostError


def _accept(folder: Path, quick: bool) -> list[Figure]:
    from bench.accepting import measure

    return measure(folder, rounds=1 if quick else 5, seconds=2.0 if quick else 3.0)


def _sweep(folder: Path, quick: bool) -> list[Figure]:
    from bench.sweeping import measure

    if quick:
        return measure(folder, sizes=(100, 1000), rounds=2, ended=2000)
    return measure(folder, sizes=(100, 1000, 10_000), rounds=3, ended=100_000)


def _start(folder: Path, quick: bool) -> list[Figure]:
    from bench.starting import measure

    return measure(folder, rounds=2 if quick else 7)


def _react(folder: Path, quick: bool) -> list[Figure]:
    from bench.reacting import measure

    return measure(folder, deletions=3 if quick else 20, evictions=2 if quick else 15)


def _ready(_folder: Path, quick: bool) -> list[Figure]:
    from bench.ready import measure

    if quick:
        return measure(launches=1, installations=1, fetches=1)
    return measure(launches=3, installations=3, fetches=9)


def _cost(_folder: Path, _quick: bool) -> list[Figure]:
    from bench.counting import measure

    return measure()


def _backlog(folder: Path, quick: bool) -> list[Figure]:
    from bench.backlog import measure

    return measure(folder, launches=300 if quick else 4000)


def _scaler(_folder: Path, quick: bool) -> list[Figure]:
    from bench.scaler import measure

    if quick:
        return measure(seeds=(11,), rounds=3, longest=20_000)
    return measure(seeds=(11, 12, 13), rounds=9)


def _gateway(folder: Path, quick: bool) -> list[Figure]:
    from bench.gateway import measure

    return measure(folder, rounds=1 if quick else 7, seconds=1.0 if quick else 3.0)


SECTIONS: dict[str, Callable[[Path, bool], list[Figure]]] = {
    "accept": _accept,
    "sweep": _sweep,
    "start": _start,
    "react": _react,
    "ready": _ready,
    "cost": _cost,
    "backlog": _backlog,
    "scaler": _scaler,
    "gateway": _gateway,
}
"""Each imports what it needs itself: a section must not pay for another's libraries."""


def _on_end(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


def main() -> int:
    """0 when everything could be measured, whatever the figures; 1 when a section could not."""
    # So that servers under measurement end with this process, however it is ended.
    signal.signal(signal.SIGTERM, _on_end)
    parser = argparse.ArgumentParser("bench", description="Measure what docs/scale.md promises.")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; none: all")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds, to see that all works")
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results.json")
    options = parser.parse_args()
    unknown = [one for one in options.sections if one not in SECTIONS]
    if unknown:
        parser.error(f"no such section: {', '.join(unknown)}")
    figures: list[Figure] = []
    failed = False
    for name in options.sections or SECTIONS:
        before = results.machine()
        print(f"{name} … (load average {before['load_average'][0]})", flush=True)
        with tempfile.TemporaryDirectory(prefix=f"gpulaunch-bench-{name}-", ignore_cleanup_errors=True) as folder:
            try:
                found = SECTIONS[name](Path(folder), options.quick)
            except (BenchError, HostError, AzureError, OSError) as error:
                print(f"{name} could not be measured: {error}", file=sys.stderr)
                failed = True
                continue
        results.write(options.results, name, found, before)
        figures += found
    print(results.table(figures))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
