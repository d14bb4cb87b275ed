"""What the benchmarks found: rows of a table, each with its spread and, where one is promised, its target."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    section: str
    what: str
    value: float
    """A median where several were measured."""
    unit: str
    low: float
    """The smallest measured value."""
    high: float
    measured: int
    """How many values the median is of."""
    target: float | None = None
    better: Literal["lower", "higher"] = "lower"
    """Which side of the target is good."""
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        if self.target is None:
            return None
        return self.value <= self.target if self.better == "lower" else self.value >= self.target


def figure(
    section: str,
    what: str,
    values: Sequence[float],
    unit: str,
    *,
    target: float | None = None,
    better: Literal["lower", "higher"] = "lower",
    note: str = "",
) -> Figure:
    """The median of some values with their spread. Raises ValueError when there are none."""
    if not values:
        raise ValueError(f"{section}: nothing was measured for {what}")
    middle = statistics.median(values)
    return Figure(section, what, middle, unit, min(values), max(values), len(values), target, better, note)


def ratios(mine: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ratios of values measured in alternation, each with its neighbour. Raises ValueError for unequal lengths."""
    return [one / other for one, other in zip(mine, theirs, strict=True)]


def table(figures: Sequence[Figure]) -> str:
    """The figures as text, one line each, missed targets marked."""
    head = ("section", "what", "median", "spread", "n", "target", "")
    lines: list[tuple[str, ...]] = [head]
    for one in figures:
        spread = "" if one.measured == 1 else f"{_short(one.low)} … {_short(one.high)}"
        target = "" if one.target is None else f"{'≤' if one.better == 'lower' else '≥'} {_short(one.target)}"
        verdict = {True: "met", False: "MISSED", None: ""}[one.met]
        lines.append(
            (
                one.section,
                one.what,
                f"{_short(one.value)} {one.unit}",
                spread,
                str(one.measured),
                target,
                verdict,
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _short(value: float) -> str:
    """Three significant digits, no exponents."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def machine() -> dict[str, Any]:
    """What the figures were measured on, and what else it was doing."""
    info = _text(Path("/proc/cpuinfo"))
    models = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    memory = [line.split()[1] for line in _text(Path("/proc/meminfo")).splitlines() if line.startswith("MemTotal")]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607 - git of the PATH
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory[0]) / 2**20, 1) if memory else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
        "load_average": [round(one, 2) for one in os.getloadavg()],
    }


def write(path: Path, section: str, figures: Sequence[Figure], before: dict[str, Any]) -> None:
    """Put a section's figures, with the machine as it was before and after, into the file of all results."""
    kept: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    kept[section] = {
        "machine": before | {"load_average_after": [round(one, 2) for one in os.getloadavg()]},
        "figures": [asdict(one) | {"met": one.met} for one in figures],
    }
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _text(path: Path) -> str:
    return path.read_text("utf-8") if path.exists() else ""
