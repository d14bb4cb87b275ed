"""The pictures of docs/scaling.md."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping

from bench.scaler.comparison import PEERS, PRESETS, Results, names
from bench.scaler.simulation import TAIL_SECONDS, Outcome
from bench.scaler.svg import Picture
from bench.scaler.traces import HOUR, Trace

LETTERS = dict(zip(PEERS, ("K", "N", "n", "A", "S", "s", "d"), strict=True))
"""Of each peer in the picture of all."""
COLUMNS, PANEL_WIDTH, PANEL_HEIGHT = 4, 220, 200
LEFT, TOP, BOTTOM, RIGHT = 34, 26, 30, 12
"""Around the drawing in its panel."""
SECONDS = (0, 1, 10, 100, 1000)
"""Lines of the grid; the scale is that of log(1 + s)."""
LONGEST = 3600.0
STEP_SECONDS = 120.0


def points(results: Results) -> str:
    """Node-hours and the 95th percentile of waiting, of each scaler on each trace."""
    shown = names(results)
    rows = math.ceil((len(shown) + 1) / COLUMNS)
    width, height = COLUMNS * PANEL_WIDTH, rows * PANEL_HEIGHT
    picture = Picture(width, height, "Node-hours and seconds of waiting of ten scalers on each trace")
    for place, trace in enumerate(shown):
        _panel(picture, place % COLUMNS * PANEL_WIDTH, place // COLUMNS * PANEL_HEIGHT, trace, results)
    last = len(shown)
    _legend(picture, last % COLUMNS * PANEL_WIDTH + LEFT, last // COLUMNS * PANEL_HEIGHT + TOP)
    return str(picture)


def nodes(trace: Trace, outcomes: Mapping[str, Outcome]) -> str:
    """Requests per second, and below the nodes that the first two scalers pay for, over the time of a trace."""
    width, height, upper = 880, 330, 80
    ends = trace.at[-1] + TAIL_SECONDS
    picture = Picture(width, height, f"Requests and nodes over the trace {trace.name}")
    times = [step * STEP_SECONDS for step in range(int(ends / STEP_SECONDS))]
    rates = [_count(trace.at, at, at + STEP_SECONDS) / STEP_SECONDS for at in times]
    across = (width - LEFT - RIGHT) / ends

    def curve(kind: str, values: list[float], top: float, tall: float, most: float) -> None:
        steps = zip(times, values, strict=True)
        corners = [
            (LEFT + x * across, top + tall * (1 - value / most)) for at, value in steps for x in (at, at + STEP_SECONDS)
        ]
        picture.line(kind, corners)

    picture.text(LEFT, TOP - 8, f"requests per second (highest {max(rates):.1f})")
    curve("load", rates, TOP, upper, max(rates))
    counts = {name: [float(_nodes(found, at)) for at in times] for name, found in outcomes.items()}
    most = max(max(values) for values in counts.values())
    top, tall = TOP + upper + 40, height - TOP - upper - 40 - BOTTOM
    for count in range(0, int(most) + 1, 10):
        y = top + tall * (1 - count / most)
        picture.line("grid", [(LEFT, y), (width - RIGHT, y)])
        picture.text(LEFT - 5, y + 4, str(count), soft=True, anchor="end")
    for kind, (name, values) in zip(("peer", "ours"), counts.items(), strict=False):
        curve(kind, values, top, tall, most)
        x = LEFT + 130 if kind == "peer" else LEFT + 250
        picture.line(kind, [(x, top - 16), (x + 22, top - 16)])
        picture.text(x + 28, top - 12, name)
    picture.text(LEFT, top - 12, "nodes paid for")
    for hour in range(int(ends / HOUR) + 1):
        picture.text(LEFT + hour * HOUR * across, height - 10, f"{hour} h", soft=True, anchor="middle")
    return str(picture)


def _panel(picture: Picture, left: float, top: float, trace: str, results: Results) -> None:
    wide, tall = PANEL_WIDTH - LEFT - RIGHT, PANEL_HEIGHT - TOP - BOTTOM
    most = 1.08 * max(results[trace, name].point[0] for name in (*PEERS, *PRESETS))

    def place(point: tuple[float, float]) -> tuple[float, float]:
        hours, seconds = point
        return left + LEFT + wide * hours / most, top + TOP + tall * (1 - math.log1p(seconds) / math.log1p(LONGEST))

    picture.text(left + LEFT, top + TOP - 8, trace)
    for seconds in SECONDS:
        _, y = place((0.0, seconds))
        picture.line("grid", [(left + LEFT, y), (left + LEFT + wide, y)])
        picture.text(left + LEFT - 4, y + 4, str(seconds), soft=True, anchor="end")
    picture.frame(left + LEFT, top + TOP, wide, tall)
    picture.text(left + LEFT + wide, top + TOP + tall + 14, f"{most / 1.08:.0f}", soft=True, anchor="end")
    picture.text(left + LEFT, top + TOP + tall + 14, "0", soft=True)
    for name, letter in LETTERS.items():
        x, y = place(results[trace, name].point)
        picture.text(x, y + 4, letter, anchor="middle")
    ours = [place(results[trace, preset].point) for preset in PRESETS]
    picture.line("ours", ours)
    for x, y in ours:
        picture.dot(x, y)


def _legend(picture: Picture, left: float, top: float) -> None:
    picture.dot(left + 4, top - 4)
    picture.text(left + 14, top, "thrifty, balanced, quick")
    for row, (name, letter) in enumerate(LETTERS.items(), start=1):
        picture.text(left + 4, top + 17 * row, letter, anchor="middle")
        picture.text(left + 14, top + 17 * row, name)
    picture.text(left - 2, top + 17 * (len(LETTERS) + 1) + 4, "across: node-hours, to the most", soft=True)
    picture.text(left - 2, top + 17 * (len(LETTERS) + 2), "up: seconds, 95th percentile", soft=True)


def _count(at: list[float], begins: float, ends: float) -> int:
    return bisect_left(at, ends) - bisect_left(at, begins)


def _nodes(found: Outcome, at: float) -> int:
    place = bisect_right(found.nodes, at, key=lambda one: one[0])
    return found.nodes[place - 1][1] if place else 0
