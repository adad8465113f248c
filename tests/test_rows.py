"""The pieces that rows are made of, against NumPy's own slow ones and plain loops."""

import numpy as np
import pytest
from test_shelf import without

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


@pytest.mark.parametrize(
    ("odd", "rows"),
    [
        ([], 5),
        ([(100, 85)], 5),  # nearer to its board than the boards are to each other
        ([(100, 85), (140, 85), (180, 85)], 5),
        ([(100, 100)], 6),  # in the middle between two boards: a board of its own
        ([(400, 85)], 6),  # beside the others: another bay
        ([(100 + 40 * i, 85) for i in range(8)], 6),  # as many are no odd ones
    ],
)
def test_what_is_left_of_a_stack_is_no_row_of_its_own(
    odd: list[tuple[int, int]], rows: int
) -> None:
    """Products of 40 high on boards 200 apart, and flat packs so far above the third board."""
    boards = [(33 * i, 40, 200 * board + 200) for board in range(5) for i in range(12)]
    packs = [(left, 12, 600 - above) for left, above in odd]
    boxes = [(left, floor - high, left + 30, floor) for left, high, floor in [*boards, *packs]]
    row, _, _ = group_rows(np.array(boxes, np.float32))
    assert row.max() + 1 == rows
    assert len({*row[:60].tolist()}) == 5


@pytest.mark.parametrize("back", [0, 4, 8, 12, 16])
def test_a_sparse_board_is_a_row_however_far_back_its_products_stand(back: int) -> None:
    """Boards 100 apart, each second one with two of its twelve products, so much higher up."""
    boxes = [
        (33 * i, 100 * board + 30 - higher, 33 * i + 30, 100 * board + 100 - higher)
        for board in range(8)
        for higher in (back * (board % 2),)
        for i in (range(12) if board % 2 == 0 else (4, 8))
    ]
    row, _, _ = group_rows(np.array(boxes, np.float32))
    assert row.max() + 1 == 8


@pytest.mark.parametrize(
    ("heights", "missed"),
    [
        ([[96] * 8] * 5, ()),  # equal packs, each on the one below
        ([[96] * 8] * 5, (10, 20)),
        ([[60, 96, 96, 96] * 2] * 5, ()),  # of some, a part was found
        ([[40] * 8, [160] * 8], (9,)),  # flat packs on high ones, one of which was missed
        ([[160] * 8, [40] * 8], (9,)),
    ],
)
def test_a_wall_is_one_row_whatever_its_layers(
    heights: list[list[int]], missed: tuple[int, ...]
) -> None:
    """Layers of eight products, the highest of each just below what stands on it."""
    boxes, floor = [], 0
    for layer in heights:
        floor += max(layer) + 4
        boxes += [(33 * i, floor - high, 33 * i + 30, floor) for i, high in enumerate(layer)]
    row, _, _ = group_rows(np.array(without(boxes, *missed), np.float32))
    assert row.max() == 0


def test_bags_that_reach_the_trays_above_make_no_stack() -> None:
    """Six boards of ten trays; half of the bags are high, of the others some are left.

    Boxes alone cannot tell all of them: by the touching ones alone it was 3 of 60.
    """
    told = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        full = rng.random((6, 10)) < 0.5
        height = np.where(full, rng.integers(88, 97, (6, 10)), rng.integers(40, 75, (6, 10)))
        boxes = [
            (33 * i, 100 * (board + 1) - height[board, i], 33 * i + 30, 100 * (board + 1))
            for board in range(6)
            for i in range(10)
        ]
        row, _, _ = group_rows(np.array(boxes, np.float32))
        told += row.max() + 1 == 6
    assert told >= 12


def columns(*, packs: int, deeper: tuple[int, ...], floor: int = 600) -> list[tuple[int, ...]]:
    """Columns of flat packs, 60 wide and 12 high, each so much higher up as it lies deeper."""
    return [
        (66 * i, floor - back - 13 * (k + 1), 66 * i + 60, floor - back - 13 * k - 1)
        for i, back in enumerate(deeper)
        for k in range(packs)
    ]


JARS = [(66 * i, 500, 66 * i + 60, 598) for i in range(8)]
ON_JARS = [
    (66 * i, 500 - 15 * (k + 1), 66 * i + 60, 499 - 15 * k)
    for i in range(8)
    for k in range(1 + i % 3)
]


@pytest.mark.parametrize(
    ("boxes", "rows"),
    [
        (columns(packs=1, deeper=(0, 3, 0, 3)), 1),
        (columns(packs=3, deeper=(0, 8, 0, 8)), 1),  # half a pack between neighbours
        (columns(packs=3, deeper=(0, 8, 16, 24, 32)), 1),  # a board that is seen from aside
        (columns(packs=5, deeper=(0, 20)), 1),
        (without(columns(packs=5, deeper=(0, 0, 0, 0)), 0, 6, 13), 1),  # what is around them tells
        (without([*JARS, *ON_JARS], 1, 4), 1),  # columns of one to three on jars
        ([*columns(packs=5, deeper=(0, 8), floor=400), *columns(packs=5, deeper=(0, 8))], 2),
        # On boards of their own, half a pack above those below.
        ([*columns(packs=1, deeper=(0,) * 4, floor=581), *columns(packs=1, deeper=(0,) * 4)], 2),
        # As high a space as between a column and what is above it is no touch, however high it is.
        ([*columns(packs=4, deeper=(0,) * 4, floor=540), *columns(packs=4, deeper=(0,) * 4)], 2),
        ([*columns(packs=6, deeper=(0,) * 4, floor=514), *columns(packs=6, deeper=(0,) * 4)], 2),
        # A wider pack lies in no column; its votes say whose stack it is of.
        ([*columns(packs=2, deeper=(0, 8)), (0, 550, 126, 573)], 1),
    ],
)
def test_columns_of_flat_packs_are_of_one_board(boxes: list[tuple[int, ...]], rows: int) -> None:
    row, _, _ = group_rows(np.array(boxes, np.float32))
    assert row.max() + 1 == rows
