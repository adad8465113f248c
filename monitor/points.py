"""What the board draws and adds up, packed: one point a photo, those of six hours together. Pure.

A store's page is of 200 views and a day, a week or four: 19 000 photos a day at four an hour. As
rows of their own they are as many places of a disk.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DAY = 86_400_000  # milliseconds
# A photo is written with those of its span: at four an hour that is 0.4 kB.
SPAN = DAY // 4

PACKED = np.dtype(
    [
        ("captured", "<u4"),  # milliseconds since the span began
        ("count", "<u4"),  # products
        ("empty", "<f4"),  # facings
        ("fill_rate", "<f4"),  # NaN where there is none
        ("doubtful", "?"),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Points:
    """What photos say of their shelf, in the order of capture; all arrays have the shape (n,)."""

    captured: npt.NDArray[np.int64]  # milliseconds since 1970
    count: npt.NDArray[np.int64]  # products
    empty: npt.NDArray[np.float64]  # facings
    fill_rate: npt.NDArray[np.float64]  # NaN where there is none
    doubtful: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.captured)

    def __getitem__(self, chosen: slice | npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Points:
        return Points(
            captured=self.captured[chosen],
            count=self.count[chosen],
            empty=self.empty[chosen],
            fill_rate=self.fill_rate[chosen],
            doubtful=self.doubtful[chosen],
        )


def span_of(captured: int) -> int:
    """Give the beginning of the span that a time lies in, in milliseconds since 1970."""
    return captured - captured % SPAN


def pack_points(start: int, rows: Iterable[tuple[int, int, float, float | None, bool]]) -> bytes:
    """Write the photos of a span: (captured, count, empty, fill rate, doubtful)."""
    points = [
        (captured - start, count, empty, np.nan if rate is None else rate, doubtful)
        for captured, count, empty, rate, doubtful in rows
    ]
    return np.array(points, PACKED).tobytes()


def read_points(spans: Iterable[tuple[int, bytes]]) -> Points:
    """Read spans, (beginning, what `pack_points` wrote), in their order."""
    found = list(spans)
    points = np.frombuffer(b"".join(packed for _, packed in found), PACKED)
    lengths = [len(packed) // PACKED.itemsize for _, packed in found]
    starts = np.repeat(np.array([start for start, _ in found], np.int64), lengths)
    return Points(
        captured=starts + points["captured"],
        count=points["count"].astype(np.int64),
        empty=points["empty"].astype(np.float64).round(3),
        fill_rate=points["fill_rate"].astype(np.float64).round(4),
        doubtful=points["doubtful"],
    )


NO_POINTS = read_points([])
