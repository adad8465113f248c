"""The pieces that rows are made of, against NumPy's own slow ones and plain loops."""

import numpy as np
import pytest

from function.rows import Segments, group_rows, medians, quantile


@pytest.mark.parametrize("count", [1, 2, 3, 10, 11, 150])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_quantile_is_numpys(count: int, share: float) -> None:
    values = np.random.default_rng(count).normal(size=count)
    assert quantile(values, share) == pytest.approx(np.quantile(values, share), abs=1e-12)


def test_each_group_has_its_own_median() -> None:
    rng = np.random.default_rng(0)
    of = rng.permutation(np.repeat(np.arange(5), [1, 2, 3, 10, 11]))
    values = rng.normal(size=len(of))
    assert medians(values, of).tolist() == [np.median(values[of == group]) for group in range(5)]


@pytest.mark.parametrize("count", [1, 2, 9, 100, 1000])
def test_a_long_row_linked_in_disorder_is_one_segment(count: int) -> None:
    order = np.random.default_rng(count).permutation(2 * count)
    first, second = order[:count], order[count:]  # two rows
    links = np.concatenate([(row[:-1], row[1:]) for row in (first, second)], axis=1)
    segments = Segments.from_links(np.zeros((2 * count, 4)), links)
    assert segments.count.tolist() == [count, count]
    assert len({*segments.of[first]}) == len({*segments.of[second]}) == 1


def test_the_order_of_the_boxes_changes_no_row() -> None:
    rng = np.random.default_rng(0)
    corner = np.stack(np.meshgrid(np.arange(12) * 33.0, np.arange(5) * 90.0), axis=-1)
    corner = corner.reshape(-1, 2) + rng.normal(0, 2, (60, 2))
    xyxy = np.concatenate((corner, corner + np.array((30, 60))), axis=1).astype(np.float32)
    order = rng.permutation(60)
    assert group_rows(xyxy)[0].tolist() == np.repeat(np.arange(5), 12).tolist()
    assert group_rows(xyxy[order])[0].tolist() == np.repeat(np.arange(5), 12)[order].tolist()


@pytest.mark.parametrize(("tilt", "convergence"), [(0, 0), (0.05, 0.3), (-0.1, -0.2)])
def test_boards_that_converge_are_found(tilt: float, convergence: float) -> None:
    heights = -0.4, -0.3, -0.2, -0.1, 0.0, 0.4
    t, x = (axis.ravel() for axis in np.meshgrid(heights, np.linspace(-0.5, 0.5)))
    floor = t + (tilt + convergence * t) * x
    boxes = np.array((x - 0.009, floor - 0.08, x + 0.009, floor)).T
    row, level, _ = group_rows((1000 + 1000 * boxes).astype(np.float32))
    assert row.tolist() == np.tile(np.arange(6), 50).tolist()
    assert (level.tilt, level.convergence) == pytest.approx((tilt, convergence), abs=0.02)
