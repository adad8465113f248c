"""What the board adds up is packed without loss, and knows when each photo was taken."""

import numpy as np

from monitor.points import NO_POINTS, PACKED, SPAN, pack_points, read_points, span_of

DAY = 1_764_288_000_000


def test_nothing_is_nothing() -> None:
    assert pack_points(0, []) == b""
    assert len(read_points([])) == len(NO_POINTS) == 0


def test_a_span_begins_four_times_a_day() -> None:
    assert span_of(DAY) == span_of(DAY + SPAN - 1) == DAY
    assert span_of(DAY + SPAN) == DAY + SPAN


def test_points_are_read_as_they_were_packed() -> None:
    first = [(DAY, 132, 0.0, 1.0, False), (DAY + SPAN - 1, 3000, 12.3, 0.9015, True)]
    second = [(DAY + SPAN, 0, 1.4, None, False)]
    spans = [(DAY, pack_points(DAY, first)), (DAY + SPAN, pack_points(DAY + SPAN, second))]
    assert len(spans[0][1]) == 2 * PACKED.itemsize
    points = read_points(spans)
    assert points.captured.tolist() == [row[0] for row in first + second]
    assert points.count.tolist() == [132, 3000, 0]
    assert points.empty.tolist() == [0.0, 12.3, 1.4]
    assert points.fill_rate[:2].tolist() == [1.0, 0.9015]
    assert np.isnan(points.fill_rate[2])
    assert points.doubtful.tolist() == [False, True, False]
    assert points[points.doubtful].count.tolist() == [3000]
