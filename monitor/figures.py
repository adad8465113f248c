"""Figures of a shelf over time: on-shelf availability and times to refill. Pure.

On-shelf availability is the share of facing-time that is not empty, within opening hours. A photo
speaks for the time to the next one, and for twice the cadence at most. Doubtful photos say nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import numpy.typing as npt

from monitor.points import Points

MINUTE = 60_000  # milliseconds

Span = tuple[int, int]  # milliseconds since 1970


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


class OpeningTime:
    """The opening hours of a store: spans in order and apart."""

    def __init__(self, hours: Sequence[Span]) -> None:
        edges = np.array(hours or [(0, 0)], np.float64)
        opened = np.concatenate([[0.0], np.cumsum(edges[:, 1] - edges[:, 0])])
        self._edges = edges.ravel()
        self._opened = np.stack([opened[:-1], opened[1:]], axis=1).ravel()

    def until(self, times: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Count the minutes of opening time before each time."""
        return np.asarray(np.interp(times, self._edges, self._opened) / MINUTE)


def facing_times(
    points: Points, owner: npt.NDArray[np.int64], cadences: Sequence[int], hours: OpeningTime
) -> list[FacingTime]:
    """Add up the facing-time of each view's photos within `hours`.

    `owner` has the index of each photo's view, ascending, and of a view's photos the order is that
    of capture. `cadences` are of the views, in minutes. The end of the last opening is the latest
    time that a photo speaks for.
    """
    said, owner = points[~points.doubtful], owner[~points.doubtful]
    ends = said.captured + 2 * np.array(cadences, np.int64)[owner] * MINUTE
    same = owner[:-1] == owner[1:]
    ends[:-1] = np.where(same, np.minimum(ends[:-1], said.captured[1:]), ends[:-1])
    spoken = hours.until(ends) - hours.until(said.captured)
    full = np.bincount(owner, spoken * said.count, len(cadences))
    empty = np.bincount(owner, spoken * said.empty, len(cadences))
    return [FacingTime(a, a + b) for a, b in zip(full.tolist(), empty.tolist(), strict=True)]


def refill_minutes(episodes: Iterable[tuple[int, int | None, str]]) -> float | None:
    """Give the median time that gaps stood, (opened, closed, ended); None where none was filled."""
    stood = [
        (closed - opened) / MINUTE
        for opened, closed, ended in episodes
        if closed is not None and ended == "filled"
    ]
    return round(median(stood), 1) if stood else None
