"""On-shelf availability and times to refill, by hand."""

import numpy as np
import pytest

from monitor.figures import FacingTime, OpeningTime, facing_times, refill_minutes
from monitor.points import pack_points, read_points

M = 60_000
ALL_DAY = [(0, 1440 * M)]


Point = tuple[int, int, float, float | None, bool]


def point(captured: int, count: int, empty: float, doubtful: bool = False) -> Point:
    return captured, count, empty, None, doubtful


@pytest.mark.parametrize(
    ("points", "hours", "expected"),
    [
        ([], ALL_DAY, None),
        ([point(0, 10, 0)], [], None),
        ([point(0, 10, 0)], ALL_DAY, 1.0),
        ([point(0, 9, 1)], ALL_DAY, 0.9),
        ([point(0, 0, 10)], ALL_DAY, 0.0),
        ([point(0, 0, 0)], ALL_DAY, None),
        # A photo speaks up to the next one …
        ([point(0, 10, 0), point(15 * M, 5, 5)], [(0, 30 * M)], 0.75),
        # … and for twice the cadence (30 minutes) at most: the night between says nothing.
        ([point(0, 10, 0), point(600 * M, 5, 5)], ALL_DAY, 0.75),
        # Doubtful photos say nothing; the one before speaks on.
        ([point(0, 10, 0), point(15 * M, 0, 10, True)], ALL_DAY, 1.0),
        # Outside of opening hours nothing counts.
        ([point(0, 10, 0), point(15 * M, 5, 5)], [(15 * M, 45 * M)], 0.5),
        ([point(0, 10, 0), point(15 * M, 5, 5)], [(0, 15 * M), (40 * M, 60 * M)], 0.875),
    ],
)
def test_availability(
    points: list[Point], hours: list[tuple[int, int]], expected: float | None
) -> None:
    found = read_points([(0, pack_points(0, points))])
    owner = np.zeros(len(points), np.int64)
    (time,) = facing_times(found, owner, [15], OpeningTime(hours))
    assert time.availability == expected


def test_a_photo_speaks_for_its_own_view_alone() -> None:
    first = [point(0, 10, 0), point(15 * M, 5, 5)]
    second = [point(5 * M, 0, 10)]
    found = read_points([(0, pack_points(0, first + second))])
    owner = np.array([0, 0, 2])
    times = facing_times(found, owner, [15, 15, 10], OpeningTime([(0, 30 * M)]))
    assert [time.availability for time in times] == [0.75, None, 0.0]
    assert times[2].all == 200  # ten facings for twice the cadence


def test_a_store_weighs_its_views_by_their_facings() -> None:
    assert (FacingTime(90, 100) + FacingTime(0, 10)).availability == pytest.approx(0.8182)


def test_only_what_was_filled_has_a_time_to_refill() -> None:
    assert refill_minutes([]) is None
    assert refill_minutes([(0, None, ""), (0, 9 * M, "moved")]) is None
    assert refill_minutes([(0, 10 * M, "filled"), (0, 20 * M, "filled"), (0, 1, "moved")]) == 15
