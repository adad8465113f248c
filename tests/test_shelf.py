"""Rows and gaps of small shelves made by hand: boxes in, expected rows and gaps out."""

import numpy as np
import pytest

from function.detections import Detections
from function.shelf import audit_shelf, gaps_json, rows_json


def detections(xyxy: list[list[float]]) -> Detections:
    boxes = np.array(xyxy, np.float32).reshape(-1, 4)
    return Detections(boxes, np.ones(len(boxes), np.float32), np.zeros(len(boxes), np.int64))


def facings(lefts: list[float], top: float = 0, width: float = 10, height: float = 20) -> list:
    return [[left, top, left + width, top + height] for left in lefts]


FULL = facings([0, 11, 22, 33])


@pytest.mark.parametrize(
    ("xyxy", "counts", "gaps"),
    [
        pytest.param([], [], [], id="empty"),
        pytest.param(facings([5]), [1], [], id="one-product"),
        pytest.param(FULL, [4], [], id="full-row"),
        pytest.param(facings([0, 11, 33]), [3], [(0, 1.2)], id="one-missing"),
        pytest.param(facings([0, 44]), [2], [(0, 3.4)], id="three-missing"),
        pytest.param(facings([0, 17, 34]), [3], [], id="loose-but-full"),
        pytest.param(facings([0, 18]), [2], [(0, 0.8)], id="just-a-gap"),
        pytest.param(FULL + facings([0, 11], top=30), [4, 2], [], id="two-rows"),
        pytest.param(facings([0, 11], top=30) + FULL, [4, 2], [], id="rows-from-the-top"),
        pytest.param(
            facings([0, 33]) + facings([0, 33], top=30), [2, 2], [(0, 2.3), (1, 2.3)], id="both"
        ),
        pytest.param(
            [*facings([0, 22], height=40), *facings([11], top=24, height=16)],
            [3],
            [],
            id="small-between-tall",
        ),
        pytest.param(
            [[0, 0, 40, 20], [5, 0, 15, 20], [44, 0, 54, 20]], [3], [], id="behind-a-wide-one"
        ),
        pytest.param([[5, 5, 5, 5], [5, 5, 5, 5]], [1, 1], [], id="no-area"),
    ],
)
def test_rows_are_counted_and_gaps_measured_in_facings(
    xyxy: list[list[float]], counts: list[int], gaps: list[tuple[int, float]]
) -> None:
    audit = audit_shelf(detections(xyxy))
    assert [row.count for row in audit.rows] == counts
    assert [(gap["row"], gap["facings"]) for gap in gaps_json(audit)] == gaps


def test_fill_rate_is_what_the_gaps_leave() -> None:
    assert audit_shelf(detections([])).fill_rate is None
    audit = audit_shelf(detections(facings([0, 11, 33]) + facings([0, 11, 22, 33], top=30)))
    empty = 12 / 43
    assert [row.fill_rate for row in audit.rows] == pytest.approx([1 - empty, 1])
    assert audit.fill_rate == pytest.approx(1 - empty / 2)


def test_json_is_rounded_and_numbered_from_the_top() -> None:
    audit = audit_shelf(detections(facings([0.04, 33]) + FULL[:0]))
    assert rows_json(audit) == [
        {"index": 0, "xyxy": [0.0, 0.0, 43.0, 20.0], "count": 2, "fill_rate": 0.466}
    ]
    assert gaps_json(audit) == [{"row": 0, "xyxy": [10.0, 0.0, 33.0, 20.0], "facings": 2.3}]


def test_a_thousand_products_give_finite_numbers() -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 2000, (1000, 2))
    xyxy = np.concatenate([corner, corner + rng.uniform(0, 80, (1000, 2))], axis=1)
    audit = audit_shelf(detections(xyxy.tolist()))
    assert sum(row.count for row in audit.rows) == 1000
    numbers = [edge for row in audit.rows for edge in (*row.xyxy, row.fill_rate)]
    numbers += [edge for gap in audit.gaps for edge in (*gap.xyxy, gap.facings)]
    assert np.isfinite(numbers).all()
    assert all(0 <= row.fill_rate <= 1 for row in audit.rows)
