"""What the boxes of a photo say of each other: every table starts with nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_detector import ONE_BOX, save_model

import function.context
from function.boxes import box_iou, letterbox, suppress
from function.context import TERMS, Context, terms_of, vote
from function.detections import Thresholds
from function.detector import Detector, postprocess
from function.errors import ModelError

PLAIN = dict.fromkeys(TERMS, 0.0) | {"score": 1.0}


def floats(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def context(**weights: float) -> Context:
    return Context.read(str(PLAIN | weights))


def random_boxes(count: int) -> np.ndarray:
    rng = np.random.default_rng(count)
    corner, size = rng.uniform(0, 100, (count, 2)), rng.uniform(5, 40, (count, 2))
    return np.hstack((corner, corner + size)).astype(np.float32)


@pytest.mark.parametrize(
    ("xyxy", "held", "edge"),
    [
        pytest.param([], [], [], id="nothing"),
        pytest.param([[40, 40, 50, 50]], [0], [1], id="one-in-the-middle"),
        pytest.param([[0, 40, 10, 50]], [0], [0], id="one-at-the-left-edge"),
        pytest.param([[40, 5, 50, 15]], [0], [0.5], id="half-its-side-below-the-upper-edge"),
        pytest.param([[87, 40, 97, 50]], [0], [0.3], id="near-the-right-edge"),
        pytest.param([[40, 90, 50, 101]], [0], [0], id="beyond-the-lower-edge"),
        pytest.param([[40, 40, 60, 60], [45, 45, 50, 50]], [0, 1], [1, 1], id="in-a-better-one"),
        pytest.param([[45, 45, 50, 50], [40, 40, 60, 60]], [0, 0.0625], [1, 1], id="around-one"),
        pytest.param(
            [[40, 40, 50, 50], [60, 40, 70, 50], [45, 40, 61, 50]],
            [0, 0, 5 / 16],
            [1, 1, 1],
            id="the-most-greedy-one-counts",
        ),
        pytest.param([[50, 50, 50, 50], [50, 50, 50, 50]], [0, 0], [1, 1], id="no-area"),
    ],
)
def test_terms(xyxy: list[list[float]], held: list[float], edge: list[float]) -> None:
    boxes = floats(*xyxy)
    score = np.full(len(boxes), 0.75, np.float32)
    logit = np.full(len(boxes), np.log(3))
    at = np.array(edge)
    expected = [np.ones_like(at), logit, held, np.array(held) * logit, at, at**2]
    terms = terms_of(boxes, score, (100, 100))
    assert terms.shape == (len(boxes), len(TERMS))
    np.testing.assert_allclose(terms, np.array(expected).T, atol=1e-5)


def test_more_boxes_than_a_block_are_measured_as_one_by_one() -> None:
    boxes = random_boxes(2 * function.context.BLOCK + 1)
    left_top, right_bottom = boxes[:, :2], boxes[:, 2:]
    inner = np.minimum(right_bottom[:, None], right_bottom) - np.maximum(
        left_top[:, None], left_top
    )
    shared = np.tril(np.clip(inner, 0, None).prod(axis=2), -1).max(axis=1)
    held = terms_of(boxes, np.full(len(boxes), 0.5), (140, 140))[:, TERMS.index("held")]
    np.testing.assert_allclose(held, shared / (right_bottom - left_top).prod(axis=1), atol=1e-5)
    assert (held > 0.99).any()


@pytest.mark.parametrize("score", [0.0, 0.25, 1.0])
def test_a_context_that_says_nothing_leaves_the_score(score: float) -> None:
    scores = np.array([score], np.float32)
    rescored = context().rescore(floats([40, 40, 50, 50]), scores, (100, 100))
    np.testing.assert_allclose(rescored, scores, atol=2e-6)


TWO_ALIKE = [[0, 0, 10, 10], [1, 0, 11, 10]]  # IoU 0.82
TWO_NOT = [[0, 0, 10, 10], [2, 0, 12, 10]]  # IoU 0.67


@pytest.mark.parametrize(
    ("xyxy", "confidence", "voted"),
    [
        pytest.param([], [], [], id="nothing"),
        pytest.param(TWO_ALIKE[:1], [0.5], TWO_ALIKE[:1], id="alone"),
        pytest.param(TWO_ALIKE, [0.75, 0.25], [[0.25, 0, 10.25, 10]], id="two-weighed"),
        pytest.param(TWO_ALIKE[::-1], [0.25, 0.75], [[0.25, 0, 10.25, 10]], id="worse-first"),
        pytest.param(TWO_NOT, [0.75, 0.25], TWO_NOT[:1], id="dropped-without-a-vote"),
        pytest.param(
            [*TWO_ALIKE, [50, 50, 60, 60]],
            [0.75, 0.25, 0.9],
            [[50, 50, 60, 60], [0.25, 0, 10.25, 10]],
            id="each-with-its-own",
        ),
    ],
)
def test_vote(xyxy: list[list[float]], confidence: list[float], voted: list[list[float]]) -> None:
    boxes, scores = floats(*xyxy), np.array(confidence, np.float32)
    pairs = suppress(boxes, scores, np.zeros(len(boxes), np.int64), 0.6, 10)
    np.testing.assert_allclose(vote(boxes, scores, *pairs), floats(*voted), atol=1e-5)


@pytest.mark.parametrize("block", [10, 64, 2048])
@pytest.mark.parametrize("iou_threshold", [0.0, 0.3, 0.6])
def test_each_box_that_went_is_told_with_those_that_it_overlaps(
    monkeypatch: pytest.MonkeyPatch, block: int, iou_threshold: float
) -> None:
    monkeypatch.setattr("function.boxes.NMS_BLOCK", block)
    boxes = random_boxes(400)
    scores = np.random.default_rng(0).permutation(np.linspace(0.01, 1, 400)).astype(np.float32)
    kept, better, worse = suppress(boxes, scores, np.zeros(400, np.int64), iou_threshold, 400)
    iou = box_iou(boxes[kept, None], boxes)
    row, column = np.nonzero(iou > iou_threshold)
    expected = {(int(kept[i]), int(j)) for i, j in zip(row, column, strict=True) if kept[i] != j}
    # A better box that overlaps a chosen one is gone itself, and is counted where it went.
    expected = {(i, j) for i, j in expected if scores[i] > scores[j]}
    pairs = list(zip(better.tolist(), worse.tolist(), strict=True))
    if block == 2048:
        assert set(pairs) == expected
    assert set(pairs) <= expected
    assert len(set(pairs)) == len(pairs)
    assert set(worse.tolist()) == set(range(400)) - set(kept.tolist())


def output_of(*rows: list[float]) -> np.ndarray:
    """Make a model's output of cx, cy, w, h and score."""
    output = np.zeros((1, 5, 100), np.float32)
    output[0, :, : len(rows)] = np.array(rows, np.float32).reshape(-1, 5).T
    return output


BOX = letterbox(100, 100, (100, 100))


@pytest.mark.parametrize(
    ("rows", "limit", "kept", "faint", "truncated"),
    [
        pytest.param([], 1000, [], 0, False, id="nothing"),
        pytest.param([[50, 50, 20, 20, 0.9]], 1000, [50], 0, False, id="one"),
        pytest.param(
            [[50, 50, 20, 20, 0.9], [50, 50, 10, 10, 0.7]], 1000, [50], 1, False, id="a-part"
        ),
        pytest.param([[5, 50, 10, 10, 0.8]], 1000, [], 1, False, id="cut-by-the-edge"),
        # Best first by what the context says, and so what the cap leaves.
        pytest.param(
            [[15, 50, 20, 20, 0.95], [50, 50, 20, 20, 0.8]], 1000, [50, 15], 0, False, id="order"
        ),
        pytest.param(
            [[15, 50, 20, 20, 0.95], [50, 50, 20, 20, 0.8]], 1, [50], 0, True, id="the-cap"
        ),
        pytest.param([[5, 50, 10, 10, 0.3]], 1000, [], 0, False, id="too-faint-to-be-faint"),
    ],
)
def test_a_context_decides_which_boxes_are_products(
    rows: list[list[float]], limit: int, kept: list[int], faint: int, truncated: bool
) -> None:
    strict = context(one=-3.0, edge=3.0, held=-2.0)
    thresholds = Thresholds(max_detections=limit)
    found = postprocess(output_of(*rows), 1, BOX, thresholds, context=strict)
    assert found.xyxy[:, [0, 2]].mean(axis=1).tolist() == pytest.approx(kept)
    assert (len(found.faint), found.truncated) == (faint, truncated)
    assert (np.diff(found.confidence) <= 0).all()
    plain = postprocess(output_of(*rows), 1, BOX, Thresholds())
    assert len(plain) == len(rows)


def test_the_weights_come_from_the_models_file(tmp_path: Path) -> None:
    path = save_model(tmp_path / "m.onnx", ONE_BOX, context=str(PLAIN | {"one": -1.5}))
    detector = Detector.load(path)
    assert detector.model.context == context(one=-1.5)
    assert Context.read(context(one=-1.5).text()) == context(one=-1.5)
    assert replace(detector.model, context=None).context is None


@pytest.mark.parametrize(
    "text",
    ["", "no weights", "[1, 2]", "{'one': 1.0}", str(PLAIN | {"more": 0.0})]
    + [str(PLAIN | {"held": wrong}) for wrong in ("x", [1], None)]
    + [str(PLAIN).replace("1.0", "1e999")],
)
def test_other_weights_are_refused_at_the_start(tmp_path: Path, text: str) -> None:
    path = save_model(tmp_path / "m.onnx", ONE_BOX, context=text)
    with pytest.raises(ModelError, match=r"metadata `context` of .*m\.onnx must be a weight"):
        Detector.load(path)
