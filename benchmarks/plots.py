"""Two plots as SVG, drawn by hand: bars beside each other, and lines over an axis. They need no library to be made and
none to be seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, LEFT, RIGHT, BAR, GAP = 720, 240, 100, 18, 8
COLOURS = ("#155e86", "#d35f00", "#3c6e57", "#74858e", "#c3161c")
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#17242b}.t{font-weight:600;font-size:15px}.m{fill:#55666f;font-size:12px}"
    ".g{stroke:#d3dbe0}.w{stroke:#c3161c;stroke-dasharray:4 3}"
)


def bars(title: str, rows: Sequence[tuple[str, float, int]], *, unit: str, wanted: float | None = None) -> str:
    """A row is its label, its value and the number of its colour; `wanted` is drawn as a line across."""
    top = max([value for _, value, _ in rows] + [wanted or 0.0]) or 1.0
    scale = (WIDTH - LEFT - RIGHT) / top
    parts, y = [], 44
    for label, value, colour in rows:
        parts += [
            f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="{LEFT}" y="{y}" width="{value * scale:.1f}" height="{BAR}" fill="{_colour(colour)}"/>',
            f'<text x="{LEFT + value * scale + 6:.1f}" y="{y + 14}">{_shown(value)} {escape(unit)}</text>',
        ]
        y += BAR + GAP
    if wanted is not None:
        x = LEFT + wanted * scale
        parts += [
            f'<line class="w" x1="{x:.1f}" y1="38" x2="{x:.1f}" y2="{y}"/>',
            f'<text class="m" x="{x:.1f}" y="{y + 14}" text-anchor="middle">wanted {_shown(wanted)}</text>',
        ]
    return _page(title, y + 24, parts)


def lines(
    title: str, series: Mapping[str, Sequence[tuple[float, float]]], *, x_label: str, y_label: str,
    log: bool = False, wanted: float | None = None,
) -> str:  # fmt: skip
    """Points (x, y) of each named line, from y = 0; `log`: both axes are powers of ten."""
    points = [point for line in series.values() for point in line]
    xs, ys = [x for x, _ in points], [y for _, y in points] + ([wanted] if wanted is not None else [])
    left, right, top, bottom = 70, 30, 50, 300
    x_axis = _Axis(min(xs), max(xs), left, WIDTH - right, log=log)
    y_axis = _Axis(min(ys) if log else 0.0, max(ys) or 1.0, bottom, top, log=log)
    parts = []
    for value in y_axis.ticks():
        y = y_axis.place(value)
        parts += [
            f'<line class="g" x1="{left}" y1="{y:.1f}" x2="{WIDTH - right}" y2="{y:.1f}"/>',
            f'<text class="m" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{_shown(value)}</text>',
        ]
    for value in x_axis.ticks():
        x = x_axis.place(value)
        parts.append(f'<text class="m" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{_shown(value)}</text>')
    for number, (name, line) in enumerate(series.items()):
        path = " ".join(f"{x_axis.place(x):.1f},{y_axis.place(y):.1f}" for x, y in line)
        colour = _colour(number)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [
            f'<circle cx="{x_axis.place(x):.1f}" cy="{y_axis.place(y):.1f}" r="3" fill="{colour}"/>'
            for x, y in (line if len(line) < 20 else ())
        ]
        parts.append(
            f'<rect x="{left}" y="{bottom + 48 + 20 * number}" width="12" height="12" fill="{colour}"/>'
            f'<text x="{left + 18}" y="{bottom + 59 + 20 * number}">{escape(name)}</text>'
        )
    if wanted is not None:
        y = y_axis.place(wanted)
        parts.append(f'<line class="w" x1="{left}" y1="{y:.1f}" x2="{WIDTH - right}" y2="{y:.1f}"/>')
        below = f"wanted: below {_shown(wanted)}"
        parts.append(f'<text class="m" x="{WIDTH - right}" y="{y - 5:.1f}" text-anchor="end">{below}</text>')
    parts.append(f'<text class="m" x="{left}" y="42">{escape(y_label)}</text>')
    parts.append(f'<text class="m" x="{WIDTH - right}" y="{bottom + 36}" text-anchor="end">{escape(x_label)}</text>')
    return _page(title, bottom + 56 + 20 * len(series), parts)


class _Axis:
    """From `low`, at `begin`, to `high`, at `end`, both in points of the picture."""

    def __init__(self, low: float, high: float, begin: float, end: float, *, log: bool) -> None:
        self._log = log and low > 0
        self._begin, self._end = begin, end
        if self._log:
            self._low: float = math.floor(math.log10(low))
            self._high: float = max(math.ceil(math.log10(high)), self._low + 1)
        else:
            self._low, self._high = low, high if high > low else low + 1

    def place(self, value: float) -> float:
        at = math.log10(value) if self._log else value
        return self._begin + (at - self._low) / (self._high - self._low) * (self._end - self._begin)

    def ticks(self) -> list[float]:
        if self._log:
            return [10.0**n for n in range(int(self._low), int(self._high) + 1)]
        span = self._high - self._low
        size = 10 ** math.floor(math.log10(span))
        step = next(s * size for s in (0.1, 0.2, 0.5, 1, 2) if span / (s * size) <= 8)
        return [n * step for n in range(math.ceil(self._low / step), math.floor(self._high / step) + 1)]


def _page(title: str, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" role="img">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
        f'<rect width="100%" height="100%" fill="#fff"/><text class="t" x="16" y="24">{escape(title)}</text>'
        + "".join(f"\n{part}" for part in parts)
        + "\n</svg>\n"
    )


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _shown(value: float) -> str:
    if value >= 1e6 and value % 1e5 == 0:
        return f"{value / 1e6:g} M"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
