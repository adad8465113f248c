"""What the boxes of a photo say of each other: every table starts with nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_boxes import floats, random_boxes
from test_detector import ONE_BOX, save_model

import function.context
from function.boxes import SHARED_BLOCK, box_iou, letterbox, non_max_suppression, suppress
from function.context import TERMS, VOTING_IOU, Context, terms_of, vote
from function.detections import Thresholds
from function.detector import Detector, postprocess
from function.errors import ModelError
from function.image import Image
from function.tiles import SecondLook, Tile

PLAIN = dict.fromkeys(TERMS, 0.0) | {"score": 1.0}
SQUARE = (0, 0, 100, 100)


def context(**weights: float) -> Context:
    return Context.read(json.dumps(PLAIN | weights))


def one_class(boxes: np.ndarray) -> np.ndarray:
    return np.zeros(len(boxes), np.int64)


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
    boxes = floats(xyxy)
    score = np.full(len(boxes), 0.75, np.float32)
    logit = np.full(len(boxes), np.log(3))
    at = np.array(edge)
    expected = [np.ones_like(at), logit, held, np.array(held) * logit, at, at**2]
    terms = terms_of(boxes, score, one_class(boxes), SQUARE)
    assert terms.shape == (len(boxes), len(TERMS))
    np.testing.assert_allclose(terms, np.array(expected).T, atol=1e-5)


def test_a_box_is_held_by_one_of_its_own_class() -> None:
    boxes = floats([[40, 40, 60, 60], [45, 45, 50, 50], [46, 46, 50, 50]])
    score = np.full(3, 0.5, np.float32)
    held = terms_of(boxes, score, np.array([0, 1, 1]), SQUARE)[:, TERMS.index("held")]
    np.testing.assert_allclose(held, [0, 0, 1], atol=1e-5)


def test_the_edge_is_the_photos_not_the_parts() -> None:
    boxes, score = floats([[0, 0, 10, 10]]), np.full(1, 0.5, np.float32)
    edges = [
        terms_of(boxes, score, one_class(boxes), bounds)[0, TERMS.index("edge")]
        for bounds in (SQUARE, (-5, 0, 100, 100), (-5, -2, 100, 100), (-50, -50, 50, 13))
    ]
    np.testing.assert_allclose(edges, [0, 0, 0.2, 0.3], atol=1e-5)


def test_more_boxes_than_a_block_are_measured_as_one_by_one() -> None:
    boxes = random_boxes(np.random.default_rng(0), 2 * SHARED_BLOCK + 1)
    left_top, right_bottom = boxes[:, :2], boxes[:, 2:]
    inner = np.minimum(right_bottom[:, None], right_bottom) - np.maximum(
        left_top[:, None], left_top
    )
    shared = np.tril(np.clip(inner, 0, None).prod(axis=2), -1).max(axis=1)
    scores = np.full(len(boxes), 0.5, np.float32)
    held = terms_of(boxes, scores, one_class(boxes), SQUARE)[:, TERMS.index("held")]
    np.testing.assert_allclose(held, shared / (right_bottom - left_top).prod(axis=1), atol=1e-5)
    assert (held > 0.99).any()


@pytest.mark.parametrize("score", [0.0, 0.25, 1.0])
def test_a_context_that_says_nothing_leaves_the_score(score: float) -> None:
    scores = np.array([score], np.float32)
    rescored = context().rescore(floats([[40, 40, 50, 50]]), scores, np.zeros(1, np.int64), SQUARE)
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
    boxes, scores = floats(xyxy), np.array(confidence, np.float32)
    pairs = suppress(boxes, scores, one_class(boxes), 0.6, 10, VOTING_IOU)
    np.testing.assert_allclose(vote(boxes, scores, *pairs), floats(voted), atol=1e-5)


@pytest.mark.parametrize("confidence", [0.001, 0.25, 0.9, 0.999])
@pytest.mark.parametrize(
    "weights",
    [
        {},
        {
            "one": -0.2,
            "score": 1.5,
            "held": -2.7,
            "held_score": -0.8,
            "edge": 5,
            "edge_squared": -4,
        },
        {"one": 2.0, "held": 3.0, "held_score": -0.5},
        {"edge": -3.0, "edge_squared": 3.0},
        {"edge": 8.0, "edge_squared": -8.0},
        {"score": 500.0, "one": -100.0},
    ],
)
def test_no_box_below_the_least_score_reaches_the_confidence(
    weights: dict[str, float], confidence: float
) -> None:
    of = context(**weights)
    least = of.least(confidence)
    if not weights:
        assert least == pytest.approx(confidence, rel=1e-6)
    scores = np.linspace(0, 1, 400, dtype=np.float32)
    scores = np.append(scores[scores < least * 0.999], np.float32(least * 0.99))
    # The same score alone, at every distance from the edge, and in a better box.
    for held in (0, 4, 10):
        for away in np.linspace(0, 10, 9):
            pair = floats([[away, 40, away + 10, 50], [away + 10 - held, 40, away + 20 - held, 50]])
            for score in scores[::40]:
                both = np.array([1.0, score], np.float32)
                low = of.rescore(pair, both, one_class(pair), (0, 0, 1000, 100))[1]
                assert low < confidence or least < function.context.LEAST


@pytest.mark.parametrize("block", [10, 64, 2048])
@pytest.mark.parametrize("iou_threshold", [0.0, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("alike", [0.0, 0.5, 0.8])
def test_each_box_that_went_is_told_with_its_likes(
    monkeypatch: pytest.MonkeyPatch, block: int, iou_threshold: float, alike: float
) -> None:
    monkeypatch.setattr("function.boxes.NMS_BLOCK", block)
    boxes = random_boxes(np.random.default_rng(0), 400)
    scores = np.random.default_rng(0).permutation(np.linspace(0.01, 1, 400)).astype(np.float32)
    classes = one_class(boxes)
    kept, better, worse = suppress(boxes, scores, classes, iou_threshold, 400, alike)
    iou = box_iou(boxes[kept, None], boxes)
    row, column = np.nonzero((iou > iou_threshold) & (iou >= alike))
    # A better box that overlaps a chosen one is gone itself, and is counted where it went.
    pairs = ((int(kept[i]), int(j)) for i, j in zip(row, column, strict=True))
    expected = {(i, j) for i, j in pairs if scores[i] > scores[j]}
    told = list(zip(better.tolist(), worse.tolist(), strict=True))
    assert set(told) == expected
    assert len(set(told)) == len(told)
    assert kept.tolist() == non_max_suppression(boxes, scores, classes, iou_threshold, 400).tolist()
    assert not any(len(side) for side in suppress(boxes, scores, classes, iou_threshold, 400)[1:])


def output_of(*rows: list[float]) -> np.ndarray:
    """Make a model's output of cx, cy, w, h and the scores of two classes."""
    output = np.zeros((1, 6, 100), np.float32)
    for column, row in enumerate(rows):
        output[0, : len(row), column] = row
    return output


# A photo of 200 x 100 in 100 x 100: half its size, and 25 px from the top.
BOX = letterbox(200, 100, (100, 100))


@pytest.mark.parametrize(
    ("rows", "limit", "kept", "faint", "truncated"),
    [
        pytest.param([], 1000, [], 0, False, id="nothing"),
        pytest.param([[50, 50, 10, 10, 0.9]], 1000, [100], 0, False, id="one"),
        pytest.param(
            [[50, 50, 10, 10, 0.9], [50, 50, 5, 5, 0.7]], 1000, [100], 1, False, id="a-part"
        ),
        pytest.param([[5, 50, 10, 10, 0.8]], 1000, [], 1, False, id="cut-at-the-left"),
        pytest.param([[50, 30, 10, 10, 0.8]], 1000, [], 1, False, id="cut-at-the-top"),
        pytest.param([[95, 50, 10, 10, 0.8]], 1000, [], 1, False, id="cut-at-the-right"),
        # Best first by what the context says, and so what the cap leaves.
        pytest.param(
            [[7, 50, 10, 10, 0.95], [50, 50, 10, 10, 0.8]], 1000, [100, 14], 0, False, id="order"
        ),
        pytest.param(
            [[7, 50, 10, 10, 0.95], [93, 50, 10, 10, 0.95], [50, 50, 10, 10, 0.8]],
            1,
            [100],
            2,
            True,
            id="the-cap",
        ),
        pytest.param([[5, 50, 10, 10, 0.3]], 1000, [], 0, False, id="too-faint-to-be-faint"),
        pytest.param([[50, 50, 10, 10, 0.2]], 1000, [], 1, False, id="faint-in-the-middle"),
        pytest.param(
            [[50, 50, 10, 10, 0.75], [51.4, 50, 10, 10, 0.25]],
            1000,
            [100],
            0,
            False,
            id="not-alike",
        ),
        pytest.param(
            [[50, 50, 10, 10, 0.75], [51, 50, 10, 10, 0.25]], 1000, [100.5], 0, False, id="votes"
        ),
        pytest.param(
            [[50, 50, 10, 10, 0.9], [51, 50, 10, 10, 0.1]], 1000, [100], 0, False, id="no-voter"
        ),
    ],
)
def test_a_context_decides_which_boxes_are_products(
    rows: list[list[float]], limit: int, kept: list[float], faint: int, truncated: bool
) -> None:
    strict = context(one=-3.0, edge=3.0, held=-2.0)
    thresholds = Thresholds(max_detections=limit)
    found = postprocess(output_of(*rows), 2, BOX, thresholds, context=strict)
    assert found.xyxy[:, [0, 2]].mean(axis=1).tolist() == pytest.approx(kept)
    assert (len(found.faint), found.truncated) == (faint, truncated)
    assert (np.diff(found.confidence) <= 0).all()


def test_classes_stay_with_their_boxes() -> None:
    rows = [[7, 50, 10, 10, 0, 0.95], [50, 50, 10, 10, 0.8], [50, 50, 5, 5, 0, 0.9]]
    strict = context(one=-3.0, edge=3.0, held=-9.0)
    every = postprocess(output_of(*rows), 2, BOX, Thresholds(), context=strict)
    assert every.class_id.tolist() == [1, 0, 1]
    for label in (0, 1):
        of_one = postprocess(output_of(*rows), 2, BOX, Thresholds(classes=(label,)), context=strict)
        np.testing.assert_array_equal(of_one.xyxy, every.xyxy[every.class_id == label])


@pytest.mark.parametrize("one", [0.5, -2.0])
def test_a_box_is_the_same_whatever_is_asked_for(one: float) -> None:
    boxes, scores = (
        random_boxes(np.random.default_rng(0), 300),
        np.random.default_rng(1).uniform(0, 1, 300),
    )
    centres = np.hstack(((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]))
    output = np.zeros((1, 6, 300), np.float32)
    output[0, :4], output[0, 4] = centres.T, scores
    of = context(one=one, score=1.5, edge=2.0, held=-1.0)
    box = letterbox(140, 140, (140, 140))
    everything = postprocess(output, 2, box, Thresholds(confidence=0.001), context=of)
    for confidence in (0.05, 0.15, 0.25, 0.6):
        found = postprocess(output, 2, box, Thresholds(confidence=confidence), context=of)
        expected = everything.confidence >= confidence
        np.testing.assert_array_equal(found.xyxy, everything.xyxy[expected])
        np.testing.assert_array_equal(found.confidence, everything.confidence[expected])


@pytest.mark.parametrize(
    ("scores", "truncated"),
    [
        pytest.param(np.full(3600, 0.9), True, id="products"),
        pytest.param(np.repeat([0.1, 0.9], [3590, 10]), False, id="faint-ones"),
    ],
)
def test_more_products_than_are_looked_at_are_told(scores: np.ndarray, truncated: bool) -> None:
    side = np.arange(60, dtype=np.float32) * 10 + 4  # those at two edges are cut
    x, y = (of.ravel() for of in np.meshgrid(side, side))
    output = np.zeros((1, 6, 3600), np.float32)
    output[0, :5] = np.stack([x, y, np.full(3600, 8), np.full(3600, 8), scores])
    strict = context(one=-4.0, edge=4.0)
    thresholds = Thresholds(max_detections=3000)
    found = postprocess(output, 2, letterbox(640, 640, (640, 640)), thresholds, context=strict)
    assert found.truncated is truncated
    assert 0 < len(found) < 3000


def test_a_part_of_a_photo_has_the_photos_edges(tmp_path: Path) -> None:
    strict = context(one=-3.0, edge=3.0)
    rows = output_of([5, 50, 10, 10, 0.8])
    cut, whole = (
        postprocess(rows, 2, BOX, Thresholds(), context=strict, bounds=bounds)
        for bounds in (None, (-50, 0, 200, 100))
    )
    assert (len(cut), len(whole)) == (0, 1)
    # In each of two tiles a box one pixel from its left edge: once the photo's, once the other's.
    one_box = np.zeros((1, 5, 21))
    one_box[0, :, 7] = [8, 16, 14, 14, 0.8]
    detector = Detector.load(save_model(tmp_path / "m.onnx", one_box, context=strict.text()))
    detector.warm_up()
    image = Image.of(np.zeros((32, 64, 3), np.uint8))
    tiles = tuple(Tile(left=left, top=0, right=left + 32, bottom=32) for left in (0, 32))
    first = postprocess(np.zeros((1, 5, 21), np.float32), 1, BOX, Thresholds())
    found = detector.look_again(image, SecondLook(tiles=tiles), first, Thresholds())
    assert found.xyxy.tolist() == [[33, 9, 47, 23]]


def test_the_weights_come_from_the_models_file(tmp_path: Path) -> None:
    path = save_model(tmp_path / "m.onnx", ONE_BOX, context=context(one=-1.5).text())
    assert Detector.load(path).model.context == context(one=-1.5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no weights",
        "[1, 2]",
        '{"one": 1.0}',
        "[" * 100_000,
        json.dumps(PLAIN | {"more": 0.0}),
        json.dumps(PLAIN | {"score": 0}),
        json.dumps(PLAIN | {"held_score": -1}),
        *(json.dumps(PLAIN | {"held": wrong}) for wrong in ("x", [1], None, True, 1001, -1e300)),
        *(json.dumps(PLAIN | {"held": wrong}) for wrong in (float("nan"), float("inf"), 10**400)),
    ],
)
def test_other_weights_are_refused_at_the_start(tmp_path: Path, text: str) -> None:
    path = save_model(tmp_path / "m.onnx", ONE_BOX, context=text)
    with pytest.raises(ModelError, match=r"metadata `context` of .*m\.onnx cannot be read"):
        Detector.load(path)
