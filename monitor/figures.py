"""Figures of a shelf over time: on-shelf availability and times to refill. Pure.

On-shelf availability is the share of facing-time that is not empty, within opening hours. A photo
speaks for the time to the next one, and for twice the cadence at most. Doubtful photos say nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

MINUTE = 60_000  # milliseconds

Span = tuple[int, int]  # milliseconds since 1970


@dataclass(frozen=True, kw_only=True)
class Point:
    """What one photo says of its shelf."""

    captured: int  # milliseconds since 1970
    count: int  # products
    empty: float  # facings
    doubtful: bool = False


@dataclass(frozen=True)
class FacingTime:
    """Facing-minutes, and how many of them were not empty."""

    full: float = 0.0
    all: float = 0.0

    @property
    def availability(self) -> float | None:
        """On-shelf availability; None where no photo speaks."""
        return round(self.full / self.all, 4) if self.all else None

    def __add__(self, other: FacingTime) -> FacingTime:
        return FacingTime(self.full + other.full, self.all + other.all)


def facing_time(points: Iterable[Point], cadence: int, hours: Sequence[Span]) -> FacingTime:
    """Add up the facing-time of one view's photos, in the order of capture, within `hours`.

    `cadence` is in minutes; the end of the last span is the latest time that a photo speaks for.
    """
    said = [point for point in points if not point.doubtful]
    longest = 2 * cadence * MINUTE
    full = everything = 0.0
    for index, point in enumerate(said):
        start, end = point.captured, point.captured + longest
        if index + 1 < len(said):
            end = min(end, said[index + 1].captured)
        spoken = sum(max(0, min(end, closes) - max(start, opens)) for opens, closes in hours)
        full += spoken * point.count
        everything += spoken * (point.count + point.empty)
    return FacingTime(full / MINUTE, everything / MINUTE)


def refill_minutes(episodes: Iterable[tuple[int, int | None, str]]) -> float | None:
    """Give the median time that gaps stood, (opened, closed, ended); None where none was filled."""
    stood = [
        (closed - opened) / MINUTE
        for opened, closed, ended in episodes
        if closed is not None and ended == "filled"
    ]
    return round(median(stood), 1) if stood else None
