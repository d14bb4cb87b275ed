"""Recorded traces, read where they are: a folder with Azure's and ServeGen's files, which are not part of the project.

- `azure2023_conv.csv`, `azure2023_code.csv`: Azure LLM inference traces 2023 (github.com/Azure/AzurePublicDataset),
  Microsoft, CC-BY 4.0.
- `servegen/*-trace.csv`: ServeGen (github.com/alibaba/ServeGen), Alibaba, Apache-2.0.
"""

import csv
import random
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from pathlib import Path

from bench.scaler.nodes import READ_TOKENS
from bench.scaler.traces import HOUR, Trace, work_of

LEAD_SECONDS = 60.0
"""Before the first request."""
WINDOW_SECONDS = 600.0
"""ServeGen's clients have one law of arrivals for each."""
MEAN_RATE = 2.0
"""Requests per second to which ServeGen's are thinned, so that they need some nodes and not hundreds."""


@dataclass(frozen=True)
class _Window:
    begins: float
    rate: float
    law: str
    shape: float
    scale: float


def azure(name: str, path: Path) -> Trace:
    """Every request of the hour, with its lengths. Raises OSError if the file cannot be read."""
    with path.open(encoding="utf-8", newline="") as lines:
        rows = [(_seconds(row["TIMESTAMP"]), _work(row)) for row in csv.DictReader(lines)]
    rows.sort(key=lambda row: row[0])
    begins = rows[0][0] - LEAD_SECONDS
    return Trace(name, [at - begins for at, _ in rows], [work for _, work in rows])


def servegen(folder: Path, seed: int, *, day: int = 4, hours: float = 24.0) -> Trace:
    """Arrivals drawn by the laws of all clients over so many hours of that day; lengths as in the made traces.

    Raises OSError if the folder cannot be read.
    """
    draw = random.Random(seed)  # noqa: S311 - repeatable on purpose
    begins, seconds = day * 24 * HOUR, hours * HOUR
    windows = [one for path in sorted(folder.glob("*-trace.csv")) for one in _windows(path, begins, begins + seconds)]
    share = MEAN_RATE * seconds / sum(one.rate * WINDOW_SECONDS for one in windows)
    at = sorted(time - begins for one in windows for time in _drawn(one, share, draw))
    return Trace("servegen", at, [work_of(draw) for _ in at])


def _seconds(timestamp: str) -> float:
    """Python reads six digits after the point, the file has seven."""
    return datetime.fromisoformat(timestamp[:26] + "+00:00").timestamp()


def _work(row: dict[str, str]) -> float:
    return int(row["GeneratedTokens"]) + int(row["ContextTokens"]) / READ_TOKENS


def _windows(path: Path, begins: float, ends: float) -> list[_Window]:
    found: list[_Window] = []
    with path.open(encoding="utf-8", newline="") as lines:
        for at, rate, _, law, shape, scale, *_ in csv.reader(lines):
            if begins <= float(at) < ends and law and float(rate) > 0:
                found.append(_Window(float(at), float(rate), law, float(shape), float(scale)))
    return found


def _drawn(window: _Window, share: float, draw: random.Random) -> list[float]:
    """As many as a Poisson process would have, with gaps by the client's law, stretched to the window."""
    count = _poisson_count(window.rate * share * WINDOW_SECONDS, draw)
    if not count:
        return []
    ends = list(accumulate(_gap(window, draw) for _ in range(count + 1)))
    return [window.begins + end / ends[-1] * WINDOW_SECONDS for end in ends[:-1]]


def _gap(window: _Window, draw: random.Random) -> float:
    if window.law == "Gamma":
        return draw.gammavariate(window.shape, window.scale)
    return draw.weibullvariate(window.scale, window.shape)


def _poisson_count(mean: float, draw: random.Random) -> int:
    count, at = 0, draw.expovariate(1.0)
    while at < mean:
        count, at = count + 1, at + draw.expovariate(1.0)
    return count
