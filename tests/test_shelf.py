"""Rows and gaps of small shelves made by hand: boxes in, expected rows and gaps out."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

import numpy as np
import pytest

from function.detections import Detections, Thresholds
from function.result import gaps_json, rows_json
from function.shelf import audit_shelf
from model.render import rotation

Boxes = list[list[float]]
Box = TypeVar("Box")
WIDE = 10_000  # a picture so wide that no row reaches its border


def detections(xyxy: Boxes, faint: Sequence[list[float]] = ()) -> Detections:
    boxes = np.array(xyxy, np.float32).reshape(-1, 4)
    return Detections(
        xyxy=boxes,
        confidence=np.ones(len(boxes), np.float32),
        class_id=np.zeros(len(boxes), np.int64),
        faint=np.array(faint, np.float32).reshape(-1, 4),
    )


def facings(lefts: list[float], top: float = 0, width: float = 10, height: float = 20) -> Boxes:
    return [[left, top, left + width, top + height] for left in lefts]


def full(count: int, top: float = 0, width: float = 10, height: float = 20, at: float = 0) -> Boxes:
    return facings([at + (width + 1) * i for i in range(count)], top, width, height)


def without(boxes: list[Box], *missing: int) -> list[Box]:
    return [box for i, box in enumerate(boxes) if i not in missing]


TEN = full(10)
BELOW = full(10, top=30)

SHELVES = [
    pytest.param([], [], [], id="empty"),
    pytest.param(facings([5]), [1], [], id="one-product"),
    pytest.param(facings([5, 60]), [2], [(0, 4.5)], id="two-products-far-apart"),
    pytest.param(TEN, [10], [], id="one-full-row"),
    pytest.param(without(TEN, 4), [9], [(0, 1.2)], id="one-missing"),
    pytest.param(without(TEN, 4, 5, 6), [7], [(0, 3.4)], id="three-missing-side-by-side"),
    pytest.param(facings([0, 16, 32, 48, 64]), [5], [], id="loose-but-full"),
    pytest.param(full(3) + full(3, at=150), [6], [], id="too-wide-for-a-gap"),
    pytest.param(TEN + BELOW, [10, 10], [], id="two-rows"),
    pytest.param(BELOW + TEN, [10, 10], [], id="rows-come-from-the-top"),
    pytest.param(
        without(TEN, 4) + without(BELOW, 7), [9, 9], [(0, 1.2), (1, 1.2)], id="a-gap-in-each"
    ),
    pytest.param(
        TEN + BELOW[:-2] + full(10, top=60), [10, 8, 10], [(1, 2.2)], id="gap-at-the-right-end"
    ),
    pytest.param(
        TEN + BELOW[2:] + full(10, top=60), [10, 8, 10], [(1, 2.2)], id="gap-at-the-left-end"
    ),
    pytest.param(TEN + BELOW[:3] + full(10, top=60), [10, 3, 10], [], id="the-shelf-may-end-there"),
    pytest.param(
        full(5, top=-42, height=40) + full(5, top=-18, height=16, at=55),
        [10],
        [],
        id="tall-beside-small",
    ),
    pytest.param(
        TEN + full(10, top=-20.5) + BELOW + full(10, top=60), [20, 10, 10], [], id="double-stack"
    ),
    pytest.param(
        without(TEN, 4) + without(full(10, top=-20.5), 4) + BELOW,
        [18, 10],
        [(0, 1.2)],
        id="a-whole-stack-is-missing",
    ),
    pytest.param(
        TEN + without(full(10, top=-20.5), 4, 5) + BELOW, [18, 10], [], id="a-low-stack-is-no-gap"
    ),
    pytest.param(
        full(5) + full(5, top=35) + full(5, top=14, at=75) + full(5, top=49, at=75),
        [5, 5, 5, 5],
        [],
        id="two-bays-of-different-height",
    ),
    pytest.param(
        [[0, 0, 40, 20], [5, 0, 15, 20], [42, 0, 52, 20], [53, 0, 63, 20]],
        [4],
        [],
        id="one-stands-behind-a-wide-one",
    ),
    pytest.param(
        without(TEN, 4, 5, 6) + facings([55], top=2, height=10),
        [8],
        [(0, 1.2), (0, 1.2)],
        id="an-odd-one-in-the-band-of-a-row",
    ),
    pytest.param(TEN + full(10, top=7.5), [10, 10], [], id="above-each-other-at-nearly-one-floor"),
    pytest.param(
        TEN + full(2, top=30, at=66) + full(10, top=60),
        [10, 2, 10],
        [],
        id="two-products-say-nothing-of-the-ends",
    ),
    pytest.param([[5, 5, 5, 5], [5, 5, 5, 5]], [2], [], id="no-area"),
]


@pytest.mark.parametrize(("xyxy", "counts", "gaps"), SHELVES)
def test_rows_are_counted_and_gaps_measured_in_facings(
    xyxy: Boxes, counts: list[int], gaps: list[tuple[int, float]]
) -> None:
    moved = (np.array(xyxy, np.float32).reshape(-1, 4) + 1000).tolist()
    audit = audit_shelf(detections(moved), WIDE, WIDE)
    assert [row.count for row in audit.rows] == counts
    assert np.bincount(audit.row, minlength=len(counts)).tolist() == counts
    assert [(gap["row"], gap["facings"]) for gap in gaps_json(audit)] == gaps


def test_a_shelf_that_leaves_the_picture_has_gaps_at_its_border() -> None:
    audit = audit_shelf(detections(TEN + BELOW[:-2] + full(10, top=60)), 109, 90)
    assert [(gap.row, gap.xyxy) for gap in audit.gaps] == [(1, (87.0, 30.0, 109.0, 50.0))]
    assert audit.rows[1].fill_rate == pytest.approx(1 - 22 / 109)


def test_what_may_be_a_product_is_no_gap() -> None:
    row = without(TEN, 4)
    assert len(audit_shelf(detections(row), WIDE, WIDE).gaps) == 1
    assert audit_shelf(detections(row, faint=[TEN[4]]), WIDE, WIDE).gaps == ()


@pytest.mark.parametrize("most", [10, 9, 5])
def test_what_is_beyond_the_cap_is_no_gap(most: int) -> None:
    sure = np.linspace(0.9, 0.5, 10, dtype=np.float32)
    scattered = replace(detections([TEN[i * 3 % 10] for i in range(10)]), confidence=sure)
    some = scattered.asked(Thresholds(max_detections=most))
    assert (len(some), some.truncated) == (most, most < 10)
    assert audit_shelf(some, WIDE, WIDE).gaps == ()


@pytest.mark.parametrize("degrees", [-12, -5, 5, 12])
def test_a_tilted_shelf_has_the_rows_and_gaps_of_a_straight_one(degrees: float) -> None:
    rows = [without(full(20, top=26 * index), 3 + index, 12) for index in range(6)]
    boxes = np.array([box for row in rows for box in row])
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2) @ rotation(degrees) + 500
    tilted = np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1)
    audit = audit_shelf(detections(tilted.tolist()), WIDE, WIDE)
    assert [row.count for row in audit.rows] == [18] * 6
    assert sorted(gap.row for gap in audit.gaps) == sorted([*range(6), *range(6)])


def test_fill_rate_is_what_the_gaps_leave() -> None:
    assert audit_shelf(detections([]), 100, 100).fill_rate is None
    audit = audit_shelf(detections(without(TEN, 4) + BELOW), WIDE, WIDE)
    empty = 12 / 109
    assert [row.fill_rate for row in audit.rows] == pytest.approx([1 - empty, 1])
    assert audit.fill_rate == pytest.approx(1 - empty / 2)


def test_json_is_rounded_and_numbered_from_the_top() -> None:
    audit = audit_shelf(detections(facings([0.04, 11, 33])), WIDE, WIDE)
    assert rows_json(audit) == [
        {"index": 0, "xyxy": [0.0, 0.0, 43.0, 20.0], "count": 3, "fill_rate": 0.721}
    ]
    assert gaps_json(audit) == [
        {
            "row": 0,
            "xyxy": [21.0, 0.0, 33.0, 20.0],
            "facings": 1.2,
            "confidence": 0.5,
            "origin": "inferred",
        }
    ]


@pytest.mark.parametrize("spread", [0, 80, 2000])
def test_a_thousand_boxes_in_any_disorder_give_finite_numbers(spread: float) -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 2000, (1000, 2))
    xyxy = np.concatenate([corner, corner + rng.uniform(0, spread, (1000, 2))], axis=1)
    audit = audit_shelf(detections(xyxy.tolist()), 2000, 2000)
    assert sum(row.count for row in audit.rows) == 1000
    numbers = [edge for row in audit.rows for edge in (*row.xyxy, row.fill_rate)]
    numbers += [edge for gap in audit.gaps for edge in (*gap.xyxy, gap.facings)]
    assert np.isfinite(numbers).all()
    assert all(0 <= row.fill_rate <= 1 for row in audit.rows)
    assert all(gap.xyxy[0] < gap.xyxy[2] and gap.xyxy[1] < gap.xyxy[3] for gap in audit.gaps)


def seen(xyxy: Boxes, gaps: Boxes, confidence: float | list[float] = 0.8) -> Detections:
    boxes = np.array(gaps, np.float32).reshape(-1, 4)
    return replace(
        detections(xyxy),
        sees_gaps=True,
        gap_xyxy=boxes,
        gap_confidence=np.broadcast_to(np.asarray(confidence, np.float32), len(boxes)),
    )


@pytest.mark.parametrize(
    ("xyxy", "gaps", "confidence", "expected"),
    [
        pytest.param([], [], 0.8, [], id="empty"),
        pytest.param(TEN, [], 0.8, [], id="a-full-row"),
        pytest.param(without(TEN, 4), [], 0.8, [], id="a-space-that-nobody-saw"),
        pytest.param(without(TEN, 4), [[44, 0, 54, 20]], 0.8, [(0, "both")], id="seen-and-a-space"),
        pytest.param(
            without(TEN, 4), [[44, 0, 54, 20]], 0.25, [(0, "inferred")], id="a-faint-one-in-a-space"
        ),
        pytest.param(full(2), [[44, 0, 54, 20]], 0.25, [], id="a-faint-one-alone"),
        pytest.param(full(2), [[300, 0, 310, 20]], 0.8, [(0, "seen")], id="far-from-its-row"),
        pytest.param(
            full(2),
            [[44, 0, 54, 20], [50, 0, 60, 20]],
            0.35,
            [(0, "seen")],
            id="two-faint-ones-of-one-stretch",
        ),
        pytest.param(TEN, [[44, 0, 54, 20]], 0.9, [], id="over-a-product"),
        pytest.param(
            TEN, [[0, 30, 40, 50], [60, 30, 99, 50]], 0.8, [(1, "seen")] * 2, id="an-empty-board"
        ),
        pytest.param([], [[0, 30, 40, 50]], 0.8, [(0, "seen")], id="an-empty-shelf"),
        pytest.param(
            without(TEN, 4), [[44, 12, 54, 32]], 0.8, [(0, "seen")], id="hangs-out-of-its-row"
        ),
        pytest.param(
            without(TEN, 4), [[44, 14, 54, 34]], 0.8, [(1, "seen")], id="reaches-into-a-row"
        ),
        pytest.param(without(TEN, 4), [[44, 8, 54, 14]], 0.8, [(0, "seen")], id="low-in-its-row"),
    ],
)
def test_gaps_that_are_seen_are_set_into_rows(
    xyxy: Boxes, gaps: Boxes, confidence: float, expected: list[tuple[int, str]]
) -> None:
    audit = audit_shelf(seen(xyxy, gaps, confidence), WIDE, WIDE)
    assert [(gap.row, gap.origin) for gap in audit.gaps] == expected
    assert len(audit.rows) == max([gap.row + 1 for gap in audit.gaps] + [1 if xyxy else 0])


def test_a_row_of_gaps_has_their_box() -> None:
    audit = audit_shelf(
        seen(without(TEN, 4), [[44, 0, 54, 20], [0, 30, 40, 50], [60, 32, 99, 51]]), WIDE, WIDE
    )
    boxes = [row.xyxy for row in audit.rows]
    assert [row.count for row in audit.rows] == [9, 0]
    assert boxes[0] == (0, 0, 109, 20)
    assert boxes[1] == pytest.approx((0, 30, 99, 51))


@pytest.mark.parametrize(("wide", "count", "width"), [(0.5, 1, 36), (0.15, 3, 30)])
def test_a_box_over_several_stretches_joins_them_if_it_is_sure(
    wide: float, count: int, width: float
) -> None:
    three: Boxes = [[44, 0, 54, 20], [57, 0, 67, 20], [70, 0, 80, 20]]
    boxes: Boxes = [*three, [44, 0, 80, 20]]
    audit = audit_shelf(seen([], boxes, [0.7, 0.7, 0.7, wide]), WIDE, WIDE)
    assert len(audit.gaps) == count
    assert sum(gap.xyxy[2] - gap.xyxy[0] for gap in audit.gaps) == pytest.approx(width)


@pytest.mark.parametrize(("apart", "count"), [(0, 1), (1.9, 1), (2.1, 2)])
def test_a_hole_that_is_seen_in_parts_is_one(apart: float, count: int) -> None:
    boxes: Boxes = [[44, 0, 54, 20], [54 + apart, 0, 70, 20]]
    assert len(audit_shelf(seen([], boxes, 0.7), WIDE, WIDE).gaps) == count


@pytest.mark.parametrize(
    ("other", "count"),
    [
        pytest.param([44, 30, 54, 50], 2, id="the-next-board"),
        pytest.param([44, 10, 54, 30], 1, id="half-as-high-in-common"),
        pytest.param([44, 11, 54, 31], 2, id="less"),
        pytest.param([44, 15, 54, 25], 1, id="half-of-the-lower-one"),
        pytest.param([44, 16, 54, 26], 2, id="less-than-half-of-the-lower-one"),
    ],
)
def test_gaps_of_two_boards_are_two(other: list[float], count: int) -> None:
    one: list[float] = [44, 0, 54, 20]
    for boxes in ([one, other], [other, one]):
        assert len(audit_shelf(seen([], boxes, 0.7), WIDE, WIDE).gaps) == count


@pytest.mark.parametrize("seed", range(10))
def test_no_gap_lies_over_another_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    left, width, sure = rng.uniform(0, 900, 40), rng.uniform(10, 100, 40), rng.uniform(0.3, 1, 40)
    boxes = [[x, 0, x + w, 50] for x, w in zip(left.tolist(), width.tolist(), strict=True)]
    audit = audit_shelf(seen([], boxes, sorted(sure.tolist(), reverse=True)), 1000, 100)
    spans = sorted(gap.xyxy[::2] for gap in audit.gaps)
    for (begin, end), (after, last) in pairwise(spans):
        assert end - after < 0.21 * min(end - begin, last - after)


@pytest.mark.parametrize("missing", [1, 4, 8])
def test_a_gap_ends_where_the_products_beside_it_begin(missing: int) -> None:
    left = TEN[missing][0]
    wide: Boxes = [[left - 3, 0, left + 13, 20]]
    (gap,) = audit_shelf(seen(without(TEN, missing), wide), WIDE, WIDE).gaps
    assert gap.xyxy == pytest.approx((left - 1, 0, left + 11, 20), abs=0.1)
    assert gap.facings == pytest.approx(1.2)


def test_seen_emptiness_counts_in_the_fill_rate() -> None:
    audit = audit_shelf(seen(full(2), [[22, 0, 110, 20]]), WIDE, WIDE)
    assert audit.fill_rate == pytest.approx(0.2, abs=0.02)
    assert audit_shelf(seen([], [[22, 0, 110, 20]]), WIDE, WIDE).fill_rate == 0


@pytest.mark.parametrize(("end", "widths"), [(306.5, []), (305.5, [4.5])])
def test_a_gap_of_which_little_is_left_is_none(end: float, widths: list[float]) -> None:
    low = [end - 10, 10, end, 20]  # before half of its height, and so a third of it at most
    audit = audit_shelf(seen([low], [[300, 0, 310, 20]]), WIDE, WIDE)
    assert [gap.xyxy[2] - gap.xyxy[0] for gap in audit.gaps] == pytest.approx(widths, abs=0.1)


@pytest.mark.parametrize(
    ("xyxy", "facings"),
    [
        pytest.param([], 1, id="no-product"),
        pytest.param(TEN, 10, id="one-row"),
        pytest.param(TEN + full(5, top=45, width=20), 5, id="the-nearer-floor"),
        pytest.param(full(5, width=20) + full(10, top=45), 10, id="the-nearer-floor-is-below"),
    ],
)
def test_an_empty_board_is_measured_in_facings_of_the_nearest_row(
    xyxy: Boxes, facings: float
) -> None:
    (gap,) = audit_shelf(seen(xyxy, [[0, 30, 100, 50]]), WIDE, WIDE).gaps
    assert gap.facings == pytest.approx(facings)


@pytest.mark.parametrize(
    ("left", "facings"),
    [
        pytest.param(70, 2, id="beside-the-narrow-ones"),
        pytest.param(157, 1.33, id="between"),
        pytest.param(285, 1, id="beside-the-wide-ones"),
    ],
)
def test_a_gap_is_measured_by_the_products_nearest_to_it(left: float, facings: float) -> None:
    row = full(5, at=100) + full(5, width=20, at=180)
    (gap,) = audit_shelf(seen(row, [[left, 0, left + 20, 20]]), WIDE, WIDE).gaps
    assert gap.facings == pytest.approx(facings, abs=0.01)


def test_without_a_class_for_gaps_the_spaces_decide() -> None:
    (gap,) = audit_shelf(detections(without(TEN, 4)), WIDE, WIDE).gaps
    assert (gap.origin, gap.confidence) == ("inferred", 0.5)
