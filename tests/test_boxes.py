"""Geometry: every table starts with nothing."""

from collections.abc import Sequence

import numpy as np
import pytest

import function.boxes
from function.boxes import (
    box_iou,
    cxcywh_to_xyxy,
    decode,
    letterbox,
    match_one_to_one,
    non_max_suppression,
    pairwise_iou,
)


def floats(rows: Sequence[Sequence[float]], columns: int = 4) -> np.ndarray:
    return np.array(rows, dtype=np.float32).reshape(-1, columns)


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Make boxes (count, 4) of up to 40 px within 140, so that many overlap."""
    corner, size = rng.uniform(0, 100, (count, 2)), rng.uniform(5, 40, (count, 2))
    return np.hstack((corner, corner + size)).astype(np.float32)


@pytest.mark.parametrize(
    ("width", "height", "step", "content", "size", "pad"),
    [
        pytest.param(640, 640, 0, (640, 640), (640, 640), (0, 0), id="square"),
        pytest.param(1280, 640, 0, (640, 320), (640, 640), (0, 160), id="landscape"),
        pytest.param(480, 640, 0, (480, 640), (640, 640), (80, 0), id="portrait"),
        pytest.param(100, 100, 0, (640, 640), (640, 640), (0, 0), id="enlarged"),
        pytest.param(641, 480, 0, (640, 479), (640, 640), (0, 80), id="odd-padding"),
        pytest.param(1, 1, 0, (640, 640), (640, 640), (0, 0), id="one-pixel"),
        pytest.param(5000, 1, 0, (640, 1), (640, 640), (0, 319), id="line"),
        pytest.param(640, 640, 32, (640, 640), (640, 640), (0, 0), id="square-in-steps"),
        pytest.param(4032, 3024, 32, (640, 480), (640, 480), (0, 0), id="landscape-in-steps"),
        pytest.param(3024, 4032, 32, (480, 640), (480, 640), (0, 0), id="portrait-in-steps"),
        pytest.param(1920, 1080, 32, (640, 360), (640, 384), (0, 12), id="wide-in-steps"),
        pytest.param(641, 480, 32, (640, 479), (640, 480), (0, 0), id="one-row-short"),
        pytest.param(5000, 1, 32, (640, 1), (640, 32), (0, 15), id="line-in-steps"),
    ],
)
def test_letterbox_keeps_the_aspect_ratio_and_centres_in_no_more_than_is_needed(
    width: int,
    height: int,
    step: int,
    content: tuple[int, int],
    size: tuple[int, int],
    pad: tuple[int, int],
) -> None:
    box = letterbox(width, height, (640, 640), step)
    assert (box.content, box.size, box.pad) == (content, size, pad)


@pytest.mark.parametrize(
    ("step", "size"),
    [pytest.param(0, (640, 640), id="whole"), pytest.param(32, (320, 256), id="steps")],
)
def test_letterbox_makes_an_image_smaller_than_it_fits(step: int, size: tuple[int, int]) -> None:
    box = letterbox(4032, 3024, (640, 640), step, times=2)
    assert (box.content, box.size) == ((320, 240), size)


@pytest.mark.parametrize("times", [1, 1.7])
@pytest.mark.parametrize("step", [0, 32])
@pytest.mark.parametrize(("width", "height"), [(640, 640), (4032, 3024), (333, 777), (5000, 1)])
def test_undo_gives_back_image_pixels(width: int, height: int, step: int, times: float) -> None:
    box = letterbox(width, height, (640, 640), step, times)
    corners = [*box.pad, box.pad[0] + box.content[0], box.pad[1] + box.content[1]]
    np.testing.assert_allclose(box.undo(floats([corners])), [[0.0, 0, width, height]], atol=0.01)
    assert box.undo(floats([])).shape == (0, 4)


def test_undo_clips_to_the_image() -> None:
    undone = letterbox(1280, 640, (640, 640)).undo(floats([[-10, 0, 700, 640]]))
    np.testing.assert_array_equal(undone, [[0, 0, 1280, 640]])


def test_centre_boxes_become_corner_boxes() -> None:
    assert cxcywh_to_xyxy(floats([])).shape == (0, 4)
    np.testing.assert_array_equal(cxcywh_to_xyxy(floats([[10, 20, 4, 6]])), [[8, 17, 12, 23]])


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([], []),
        ([[0, 0, 10, 10]], [1]),
        ([[10, 0, 20, 10]], [0]),
        ([[5, 0, 15, 10]], [1 / 3]),
        ([[3, 3, 3, 3]], [0]),
        ([[20, 20, 10, 10], [0, 5, 10, 10]], [0, 0.5]),
    ],
)
def test_box_iou(others: list[list[float]], expected: list[float]) -> None:
    iou = box_iou(floats([[0, 0, 10, 10]])[0], floats(others))
    np.testing.assert_allclose(iou, expected, atol=1e-6)


TWO_APART = [[0, 0, 10, 10], [20, 0, 30, 10]]
TWO_OVER = [[0, 0, 10, 10], [1, 0, 11, 10]]  # IoU 0.82


@pytest.mark.parametrize(
    ("xyxy", "confidence", "class_id", "limit", "kept"),
    [
        pytest.param([], [], [], 10, [], id="nothing"),
        pytest.param([[0, 0, 10, 10]], [0.5], [0], 10, [0], id="one"),
        pytest.param(TWO_APART, [0.5, 0.9], [0, 0], 10, [1, 0], id="best-first"),
        pytest.param(TWO_OVER, [0.5, 0.9], [0, 0], 10, [1], id="worse-one-goes"),
        pytest.param(TWO_OVER, [0.5, 0.5], [0, 0], 10, [0], id="equal-scores-keep-order"),
        pytest.param(TWO_OVER, [0.5, 0.9], [0, 1], 10, [1, 0], id="classes-apart"),
        pytest.param(TWO_APART, [0.5, 0.9], [0, 0], 1, [1], id="limit"),
        pytest.param([[5, 5, 5, 5], [5, 5, 5, 5]], [0.9, 0.8], [0, 0], 9, [0, 1], id="no-area"),
    ],
)
def test_non_max_suppression(
    xyxy: list[list[float]],
    confidence: list[float],
    class_id: list[int],
    limit: int,
    kept: list[int],
) -> None:
    chosen = non_max_suppression(
        floats(xyxy),
        np.array(confidence, dtype=np.float32),
        np.array(class_id, dtype=np.int64),
        0.6,
        limit,
    )
    assert chosen.tolist() == kept


def one_by_one(xyxy: np.ndarray, confidence: np.ndarray, iou_threshold: float) -> list[int]:
    """Greedy NMS as it is defined: the best box goes on, what overlaps it does not."""
    left = np.argsort(-confidence, kind="stable").tolist()
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        overlaps = box_iou(xyxy[best], xyxy[left]).tolist()
        left = [other for other, iou in zip(left, overlaps, strict=True) if iou <= iou_threshold]
    return kept


@pytest.mark.parametrize("iou_threshold", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize(
    ("count", "block", "least", "pairs"),
    [
        pytest.param(63, 64, 64, 250_000, id="less-than-a-block"),
        pytest.param(64, 64, 64, 250_000, id="a-block"),
        pytest.param(65, 64, 64, 250_000, id="more-than-a-block"),
        pytest.param(400, 64, 64, 250_000, id="blocks"),
        pytest.param(400, 2048, 64, 250_000, id="many-at-once"),
        pytest.param(400, 2048, 10, 500, id="in-smaller-blocks-where-they-are-dense"),
        pytest.param(129, 2048, 1, 0, id="one-by-one"),
    ],
)
def test_many_candidates_are_judged_as_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    block: int,
    least: int,
    pairs: int,
    iou_threshold: float,
) -> None:
    monkeypatch.setattr(function.boxes, "NMS_BLOCK", block)
    monkeypatch.setattr(function.boxes, "LEAST_NMS_BLOCK", least)
    monkeypatch.setattr(function.boxes, "MAX_PAIRS", pairs)
    rng = np.random.default_rng(count)
    xyxy = random_boxes(rng, count)
    confidence = rng.uniform(size=count).round(2).astype(np.float32)  # some are equal
    class_id = np.zeros(count, np.int64)
    expected = one_by_one(xyxy, confidence, iou_threshold)
    assert expected != sorted(expected)
    for limit in (1, len(expected) // 2, len(expected), count):
        kept = non_max_suppression(xyxy, confidence, class_id, iou_threshold, limit)
        assert kept.tolist() == expected[:limit]


def test_thousands_upon_each_other_leave_one() -> None:
    xyxy = np.tile(floats([[10, 10, 50, 50]]), (13_125, 1))
    confidence = np.linspace(0.3, 0.9, 13_125, dtype=np.float32)
    kept = non_max_suppression(xyxy, confidence, np.zeros(13_125, np.int64), 0.6, 1000)
    assert kept.tolist() == [13_124]


def test_a_thousand_boxes_are_all_kept() -> None:
    column, row = np.meshgrid(np.arange(40) * 30, np.arange(25) * 40)
    corner = np.stack([column.ravel(), row.ravel()], axis=1)
    xyxy = np.concatenate([corner, corner + np.array([25, 35])], axis=1).astype(np.float32)
    confidence = np.linspace(0.3, 0.9, 1000, dtype=np.float32)
    kept = non_max_suppression(xyxy, confidence, np.zeros(1000, np.int64), 0.6, 1000)
    assert sorted(kept) == list(range(1000))


# One box at (10, 20) of size 4 x 6 in two classes, and one below every threshold.
ANCHORS = np.zeros((1, 6, 9), np.float32)
ANCHORS[0, :, 3] = [10, 20, 4, 6, 0.2, 0.8]
END_TO_END = np.zeros((1, 5, 6), np.float32)
END_TO_END[0, 0] = [8, 17, 12, 23, 0.8, 1]


@pytest.mark.parametrize(
    "output",
    [
        pytest.param(ANCHORS, id="anchors"),
        pytest.param(ANCHORS.transpose(0, 2, 1), id="transposed"),
        pytest.param(END_TO_END, id="end-to-end"),
    ],
)
def test_decode_reads_every_ultralytics_layout(output: np.ndarray) -> None:
    if output is not END_TO_END:
        output = output + np.float32(0.001)  # as real outputs: no whole numbers anywhere
    xyxy, confidence, class_id = decode(output, 2, 0.25)
    np.testing.assert_allclose(xyxy, [[8, 17, 12, 23]], atol=0.01)
    np.testing.assert_allclose(confidence, [0.8], atol=0.01)
    assert class_id.tolist() == [1]


def test_anchors_without_a_score_of_the_second_class_are_no_end_to_end_rows() -> None:
    rows = np.zeros((1, 100, 6), np.float32)
    rows[0, :, :2] = np.mgrid[5:100:10, 5:100:10].reshape(2, -1).T
    rows[0, :, 2:5] = 8, 8, 0.9
    xyxy, _, class_id = decode(rows, 2, 0.25)
    np.testing.assert_array_equal(xyxy[0], [1, 1, 9, 9])
    assert not class_id.any()


def test_decode_keeps_a_score_at_the_threshold() -> None:
    assert len(decode(END_TO_END, 2, float(np.float32(0.8)))[0]) == 1
    assert len(decode(END_TO_END, 2, 0.9)[0]) == 0


def test_decode_refuses_another_shape() -> None:
    with pytest.raises(ValueError, match=r"\(1, 7, 9\)"):
        decode(np.zeros((1, 7, 9), np.float32), 2, 0.25)


@pytest.mark.parametrize(
    ("score", "matches"),
    [
        pytest.param(np.zeros((0, 3)), [], id="no-rows"),
        pytest.param(np.zeros((3, 0)), [], id="no-columns"),
        pytest.param([[0.4, 0.2]], [], id="all-too-low"),
        pytest.param([[0.5, 0.9], [0.0, 0.8]], [(0, 1)], id="the-best-first"),
        pytest.param([[0.7, 0.9], [0.6, 0.8]], [(0, 1), (1, 0)], id="one-to-one"),
    ],
)
def test_matches_are_one_to_one(score: object, matches: list[tuple[int, int]]) -> None:
    assert match_one_to_one(np.array(score, np.float32), 0.5) == matches


def test_pairwise_iou_is_iou_of_each_with_each() -> None:
    boxes = np.array([[0, 0, 2, 2], [1, 0, 3, 2]], np.float32)
    assert pairwise_iou(boxes[:0], boxes).shape == (0, 2)
    np.testing.assert_allclose(pairwise_iou(boxes, boxes), [[1, 1 / 3], [1 / 3, 1]])
