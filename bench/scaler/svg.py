"""Just enough SVG for the pictures of docs/scaling.md: text that can be diffed, legible on light and dark pages."""

from collections.abc import Iterable
from html import escape

_STYLE = """
.page{fill:#fff}.frame{fill:none;stroke:#c4c9d0}.text{fill:#24292f}.soft{fill:#59636e}.grid{stroke:#e3e6ea}
.ours{stroke:#0a66c2;fill:none;stroke-width:1.6}.dot{fill:#0a66c2}.peer{stroke:#b3541e;fill:none;stroke-width:1.2}
.load{stroke:#59636e;fill:none}text{font:11px system-ui,sans-serif}.soft{font-size:10px}
@media(prefers-color-scheme:dark){.page{fill:#0d1117}.frame{stroke:#3d444d}.text{fill:#e6edf3}.soft{fill:#9198a1}
.grid{stroke:#21262d}.ours{stroke:#58a6ff}.dot{fill:#58a6ff}.peer{stroke:#f0883e}.load{stroke:#9198a1}}
"""


class Picture:
    """Sizes and places in pixels, from the upper left corner."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
            f' role="img" aria-label="{escape(title)}">',
            f"<style>{_STYLE}</style>",
            f'<rect class="page" width="{width}" height="{height}"/>',
        ]

    def text(self, x: float, y: float, words: str, *, soft: bool = False, anchor: str = "start") -> None:
        kind = "soft" if soft else "text"
        self._parts.append(
            f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
        )

    def frame(self, x: float, y: float, width: float, height: float) -> None:
        self._parts.append(f'<rect class="frame" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>')

    def line(self, kind: str, points: Iterable[tuple[float, float]]) -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(f'<polyline class="{kind}" points="{path}"/>')

    def dot(self, x: float, y: float) -> None:
        self._parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>')

    def __str__(self) -> str:
        return "\n".join([*self._parts, "</svg>", ""])
