"""The judge of bench.parity: which boxes count as the same."""

import numpy as np
import pytest

from bench.parity import Comparison, to_long_side
from function.boxes import Floats

BOXES = np.array([[0, 0, 100, 100], [2, 0, 102, 100], [200, 0, 300, 100]], np.float32)
SCORES = np.array([0.9, 0.8, 0.3], np.float32)


@pytest.mark.parametrize(
    ("boxes", "scores", "equal"),
    [
        pytest.param(BOXES, SCORES, True, id="the same"),
        pytest.param(BOXES[::-1], SCORES[::-1], True, id="another order"),
        pytest.param(BOXES + 0.2, SCORES + 0.009, True, id="within the bounds"),
        pytest.param(BOXES + 2, SCORES, False, id="moved"),
        pytest.param(BOXES, SCORES + 0.02, False, id="other scores"),
        pytest.param(BOXES[:2], SCORES[:2], False, id="one missing"),
        pytest.param(BOXES[[0, 0, 2]], SCORES[[0, 0, 2]], False, id="one twice"),
        pytest.param(BOXES[[0, 1, 2, 2]], SCORES[[0, 1, 2, 2]], False, id="one more"),
        pytest.param(BOXES[:0], SCORES[:0], False, id="none"),
    ],
)
def test_every_box_needs_a_twin_of_its_own(boxes: Floats, scores: Floats, equal: bool) -> None:
    comparison = Comparison("shelves")
    comparison.add((BOXES, SCORES), (boxes, scores))
    assert comparison.equal is equal


def test_a_box_is_no_ones_twin_twice() -> None:
    comparison = Comparison("shelves")
    doubled = np.array([[0, 0, 100, 100], [0.2, 0, 100.2, 100]], np.float32)
    comparison.add((doubled, SCORES[[0, 0]]), (BOXES[[0, 2]], SCORES[[0, 0]]))
    assert not comparison.equal


def test_nothing_compared_is_not_equal() -> None:
    comparison = Comparison("shelves")
    comparison.add((BOXES[:0], SCORES[:0]), (BOXES[:0], SCORES[:0]))
    assert not comparison.equal


def test_one_odd_picture_among_many_is_seen() -> None:
    comparison = Comparison("shelves")
    for moved in (0, 0, 3):
        comparison.add((BOXES, SCORES), (BOXES + moved, SCORES))
    assert not comparison.equal
    assert "| 3 | 9 | 9 | 3 |" in comparison.row(judged=True)
    assert "DIFFERENT" in comparison.row(judged=True)
    assert "not judged" in comparison.row(judged=False)


@pytest.mark.parametrize(
    ("shape", "resized"), [((80, 40, 3), (64, 32, 3)), ((9, 36, 3), (16, 64, 3))]
)
def test_the_long_side_is_what_is_asked_for(
    shape: tuple[int, ...], resized: tuple[int, ...]
) -> None:
    assert to_long_side(np.zeros(shape, np.uint8), 64).shape == resized
