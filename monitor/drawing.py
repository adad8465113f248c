"""Lines and bars of the board, as numbers for SVG. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from monitor.points import Points
from monitor.queries import EpisodeLine

# The drawing's own units; the page scales it.
SPARK_WIDTH, SPARK_HEIGHT = 120, 24
WIDTH, HEIGHT = 900, 180
BAR = 14  # a gap's bar with the room below it
APART = 2  # between two bars of a line


# A page has two hundred sparklines of 48 points: numbers become text once.
_HEIGHTS = [f",{(1 - percent / 100) * SPARK_HEIGHT:.3g}" for percent in range(101)]


@cache
def _steps(many: int) -> list[str]:
    return [f"{SPARK_WIDTH * i / (many - 1):.5g}" for i in range(many)]


def spark(rates: Sequence[float]) -> str:
    """Give the points of a sparkline of fill rates, 0 at the bottom and 1 at the top."""
    if not rates:
        return ""
    if len(rates) == 1:
        rates = [rates[0], rates[0]]
    ends = [_HEIGHTS[min(max(round(rate * 100), 0), 100)] for rate in rates]
    return " ".join(map("".join, zip(_steps(len(rates)), ends, strict=True)))


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A gap as a bar in time."""

    x: float
    y: float
    width: float
    episode: EpisodeLine


@dataclass(frozen=True, kw_only=True)
class History:
    """A view's days as a drawing: a line of fill rates, and a bar for each gap."""

    line: str
    dots: Sequence[tuple[float, float, bool]]  # x, y, doubtful
    bars: Sequence[Bar]
    height: float
    ticks: Sequence[tuple[float, int]]  # x, milliseconds since 1970


def history(points: Points, gaps: Sequence[EpisodeLine], start: int, end: int) -> History:
    """Draw a view from `start` to `end`, in milliseconds since 1970.

    A bar stands in the first line that has room: weeks of short gaps are no longer than they are
    many at once.
    """
    span = max(end - start, 1)

    def x(time: int) -> float:
        return round((min(max(time, start), end) - start) / span * WIDTH, 1)

    rated = points[~np.isnan(points.fill_rate)]
    dots = [
        (x(captured), round((1 - rate) * HEIGHT, 1), doubtful)
        for captured, rate, doubtful in zip(
            rated.captured.tolist(), rated.fill_rate.tolist(), rated.doubtful.tolist(), strict=True
        )
    ]
    shown = sorted(
        (gap for gap in gaps if gap.closed is None or gap.closed > start),
        key=lambda gap: (gap.opened, gap.id),
    )
    bars: list[Bar] = []
    ends: list[float] = []  # of the last bar of each line
    for gap in shown:
        left, right = x(gap.opened), x(end if gap.closed is None else gap.closed)
        width = max(right - left, 1.0)
        line = next((i for i, last in enumerate(ends) if last + APART <= left), len(ends))
        ends[line : line + 1] = [left + width]
        bars.append(Bar(x=left, y=HEIGHT + 20 + BAR * line, width=width, episode=gap))
    ticks = [start + round(span * part / 6) for part in range(7)]
    return History(
        line=_points([(a, b) for a, b, doubtful in dots if not doubtful]),
        dots=dots,
        bars=bars,
        height=HEIGHT + 20 + BAR * len(ends),
        ticks=[(x(tick), tick) for tick in ticks],
    )


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.5g},{y:.3g}" for x, y in points)
