"""The scores of a detector, shifted until it counts right at the service's threshold."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import PIL.Image
import pytest
from test_detector import save_model
from test_quantize import SIDE, TinyYolo

from function.context import ALONE, TERMS, Context
from function.detections import Thresholds
from function.detector import Detector
from model import calibrate, quantize
from model.evaluate import COUNT_CONFIDENCE
from model.gate import GateError, metadata_of
from model.labelled import LabelledPhoto, read_dataset
from model.photos import read_photo

STRICT = Context(weights=(-3.0, 1.0, 0.0, 0.0, 0.0, 0.0))


@pytest.mark.parametrize(
    ("photos", "threshold"),
    [
        ([([0.9, 0.8, 0.5, 0.1], 3)], (0.1, 0.5)),
        ([([0.9, 0.8, 0.5, 0.1], 1)], (0.8, 0.9)),
        # One photo that finds far too much moves nothing: the middle one decides.
        ([([0.5] * 90, 9), ([0.6, 0.3], 1), ([0.6, 0.2], 1), ([0.1], 5)], (0.3, 0.6)),
        ([([0.6, 0.3], 1), ([0.5, 0.4], 0)], (0.3, 0.6)),  # a photo of nothing does not vote
    ],
)
def test_half_of_the_photos_count_too_many_and_half_too_few(
    photos: list[tuple[list[float], int]], threshold: tuple[float, float]
) -> None:
    found = [(np.array(scores), count) for scores, count in photos]
    low, high = threshold
    assert low <= calibrate.right_threshold(found) <= high


@pytest.mark.parametrize("photos", [[], [([], 3)], [([0.95, 0.95], 1)], [([0.5], 0)]])
def test_a_model_that_counts_right_nowhere_is_refused(
    photos: list[tuple[list[float], int]],
) -> None:
    with pytest.raises(
        GateError, match=r"no threshold between 0\.02 and 0\.9 counts \d photos right"
    ):
        calibrate.right_threshold([(np.array(scores), count) for scores, count in photos])


def run(model: onnx.ModelProto, pixels: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"images": pixels})[0])


def test_every_logit_moves_by_the_shift_and_nothing_else_does() -> None:
    model = TinyYolo().model()
    pixels = np.random.default_rng(0).random((1, 3, SIDE, SIDE), np.float32)
    before = run(model, pixels)
    twice = calibrate.shift_scores(calibrate.shift_scores(model, -0.5), 0.2)
    after = run(twice, pixels)
    np.testing.assert_array_equal(after[:, :4], before[:, :4])
    logits = np.log(before[:, 4:] / (1 - before[:, 4:]))
    np.testing.assert_allclose(after[:, 4:], 1 / (1 + np.exp(0.3 - logits)), atol=1e-5)
    assert metadata_of(twice)["score_shift"] == "-0.3000,-0.3000"
    assert metadata_of(twice)["names"] == metadata_of(model)["names"]
    # What is added stays in float with the rest of the decode.
    assert "/model.1/score_shift" in quantize.float_nodes(twice)


def test_a_class_is_shifted_by_itself() -> None:
    model = TinyYolo().model()
    pixels = np.random.default_rng(0).random((1, 3, SIDE, SIDE), np.float32)
    before = run(model, pixels)
    after = run(calibrate.shift_scores(calibrate.shift_scores(model, 0.5, [1]), 0.1, [1]), pixels)
    np.testing.assert_array_equal(after[:, :5], before[:, :5])
    logits = np.log(before[:, 5] / (1 - before[:, 5]))
    np.testing.assert_allclose(after[:, 5], 1 / (1 + np.exp(-0.6 - logits)), atol=1e-5)


def test_a_head_without_scores_is_refused() -> None:
    model = TinyYolo().model()
    for node in model.graph.node:
        if node.name == "/model.1/Sigmoid":
            node.op_type = "Tanh"
    with pytest.raises(GateError, match=r"0 sigmoids over scores below /model\.1/, not one"):
        calibrate.shift_scores(model, 0.1)


def write_noise(folder: Path, count: int, labels: str) -> None:
    """Write photos of noise, and the same labels for each."""
    random = np.random.default_rng(1)
    for part in ("images", "labels"):
        (folder / part).mkdir()
    for index in range(count):
        noise = random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        PIL.Image.fromarray(noise).save(folder / f"images/{index}.png")
        (folder / f"labels/{index}.txt").write_text(labels)


def served(detector: Detector, photos: list[LabelledPhoto]) -> list[int]:
    """Count the products of each photo as the service does."""
    images = [read_photo(photo.path, detector.model.input_size) for photo in photos]
    return [len(detector.detect(image, Thresholds())) for image in images]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_calibrated_model_counts_what_is_labelled(tmp_path: Path, precision: str) -> None:
    write_noise(tmp_path, 5, "0 0.5 0.5 0.1 0.1\n" * 40)
    output = tmp_path / "calibrated.onnx"
    files = ["--data", str(tmp_path / "images"), "--output", str(output)]
    model = TinyYolo().model()
    if precision == "int8":
        photos = sorted((tmp_path / "images").iterdir())
        model = quantize.take_pixels(quantize.quantize(model, photos))
        quantize.describe(model, metadata_of(TinyYolo().model()) | {"precision": precision})
    onnx.save(model, tmp_path / "raw.onnx")

    calibrate.main([str(tmp_path / "raw.onnx"), *files])

    raw, calibrated = (Detector.load(path) for path in (tmp_path / "raw.onnx", output))
    labelled = read_dataset(tmp_path / "images")
    counts = {}
    for name, detector in (("raw", raw), ("calibrated", calibrated)):
        detector.warm_up()
        found = calibrate.find(detector, labelled)
        counts[name] = np.median([(of.confidence >= COUNT_CONFIDENCE).sum() for of in found])
    assert abs(counts["raw"] - 40) > 4
    assert abs(counts["calibrated"] - 40) <= 2
    assert raw.model.context is None
    assert calibrated.model.context is not None
    assert abs(np.median(served(calibrated, labelled)) - 40) <= 2


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.onnx")
    with pytest.raises(SystemExit, match="is missing or not an ONNX model"):
        calibrate.main([missing, "--data", str(tmp_path), "--output", missing])


def test_what_is_learned_is_written_and_served(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    write_noise(tmp_path, 6, "")
    onnx.save(TinyYolo().model(), tmp_path / "raw.onnx")
    raw = Detector.load(tmp_path / "raw.onnx")
    raw.warm_up()
    sides = []
    for index, of in enumerate(calibrate.find(raw, read_dataset(tmp_path / "images"))):
        right = of.xyxy[random.uniform(size=len(of.xyxy)) < of.confidence] / SIDE
        cxcywh = np.hstack(((right[:, :2] + right[:, 2:]) / 2, right[:, 2:] - right[:, :2]))
        sides.append(np.median(cxcywh[:, 2:].min(axis=1)) * SIDE)
        lines = [f"0 {' '.join(f'{side:.6f}' for side in box)}\n" for box in cxcywh.tolist()]
        (tmp_path / f"labels/{index}.txt").write_text("".join(lines))

    output = tmp_path / "calibrated.onnx"
    files = ["--data", str(tmp_path / "images"), "--output", str(output)]
    calibrate.main([str(tmp_path / "raw.onnx"), *files])

    calibrated = Detector.load(output)
    calibrated.warm_up()
    assert calibrated.model.context not in (None, ALONE)
    assert raw.model.product_side == math.inf
    assert calibrated.model.product_side == pytest.approx(np.median(sides), abs=0.05)
    photos = read_dataset(tmp_path / "images")
    off = np.array(served(calibrated, photos)) / [photo.count for photo in photos] - 1
    assert abs(np.median(off)) <= 0.05


def shelf(random: np.random.Generator, *, parts: bool) -> calibrate.Found:
    """Make what is found on one photo: 30 products, and with `parts` as many boxes in them."""
    column, row = np.meshgrid(np.arange(6) * 60 + 20, np.arange(5) * 60 + 20)
    corner = np.stack([column.ravel(), row.ravel()], axis=1)
    labelled = np.hstack((corner, corner + 40)).astype(np.float32)
    inner = np.hstack((corner + 10, corner + 25)).astype(np.float32)
    boxes = np.concatenate([labelled, inner]) if parts else labelled
    score = np.concatenate([random.uniform(0.4, 0.9, 30), random.uniform(0.3, 0.7, 30)])
    score = score[: len(boxes)].astype(np.float32)
    order = np.argsort(-score)
    return calibrate.Found(
        xyxy=boxes[order],
        confidence=score[order],
        class_id=np.zeros(len(boxes), np.int64),
        bounds=(0, 0, 400, 340),
        labelled=labelled,
        grouped=False,
    )


def test_a_context_learns_that_parts_of_products_are_none() -> None:
    random = np.random.default_rng(3)
    context = calibrate.fit_context([shelf(random, parts=True) for _ in range(10)])
    new = shelf(random, parts=True)
    plain = (new.confidence >= COUNT_CONFIDENCE).sum()
    rescored = context.rescore(new.xyxy, new.confidence, new.class_id, new.bounds)
    assert (plain, (rescored >= COUNT_CONFIDENCE).sum()) == (60, pytest.approx(30, abs=8))
    weight = dict(zip(TERMS, context.weights, strict=True))
    assert weight["held"] + weight["held_score"] < -1


def test_photos_with_groups_teach_nothing_and_count() -> None:
    random = np.random.default_rng(4)
    found = [replace(shelf(random, parts=True), grouped=True) for _ in range(3)]
    context = calibrate.fit_context(found)
    rescored = [context.rescore(of.xyxy, of.confidence, of.class_id, of.bounds) for of in found]
    assert all((np.diff(scores) <= 0).all() for scores in rescored)
    counts = [(scores >= COUNT_CONFIDENCE).sum() for scores in rescored]
    assert np.median(counts) == pytest.approx(30, abs=1)


def test_what_is_labelled_is_told_by_its_kind(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (64, 32)).save(tmp_path / "photo.png")
    photo = LabelledPhoto(
        path=tmp_path / "photo.png",
        boxes=np.array([[0, 0, 10, 20], [20, 0, 10, 20], [40, 0, 20, 20], [50, 0, 10, 10.0]]),
        class_id=np.array([0, 0, 0, 1]),
        crowd=np.array([False, False, True, False]),
        size=None,
    )
    names = "{0: 'product', 1: 'gap'}"
    output = np.zeros((1, 6, 21))
    output[0, :, 7] = [16, 16, 16, 12, 0.9, 0.1]
    path = save_model(tmp_path / "m.onnx", output, names=names, context=STRICT.text())
    detector = Detector.load(path)
    detector.warm_up()
    products, gaps = (calibrate.find(detector, [photo], gaps=of)[0] for of in (False, True))
    # As the network scored it, though the file's context leaves little of it.
    np.testing.assert_allclose(products.confidence, [0.9], atol=1e-3)
    assert products.labelled.tolist() == [[0, 0, 10, 20], [20, 0, 30, 20]]
    assert (products.grouped, gaps.grouped) == (True, True)
    assert len(gaps.labelled) == 3
    np.testing.assert_allclose(gaps.confidence, [0.1], atol=1e-3)
    assert products.bounds == (0, 0, 64, 32)


def test_a_label_makes_one_box_right() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [0, 50, 10, 60]], np.float32)
    found = calibrate.Found(
        xyxy=boxes,
        confidence=np.array([0.9, 0.8, 0.7], np.float32),
        class_id=np.zeros(3, np.int64),
        bounds=(0, 0, 100, 100),
        labelled=boxes[[1, 2]],
        grouped=False,
    )
    assert calibrate._is_right(found).tolist() == [True, False, True]


def test_the_fit_is_the_best_there_is() -> None:
    random = np.random.default_rng(5)
    terms = random.normal(size=(500, len(TERMS))).astype(np.float32) * 3
    right = (random.uniform(size=500) < 1 / (1 + np.exp(-terms @ np.arange(6) / 3))).astype(float)
    weights = calibrate._regress(terms, right)
    chance = 1 / (1 + np.exp(-terms @ weights))
    pull = calibrate.PENALTY * (weights - ALONE.weights)
    np.testing.assert_allclose(terms.T @ (right - chance), pull, atol=1e-3)


@pytest.mark.parametrize("boxes", [30, 60, 1000])
@pytest.mark.parametrize("seed", range(8))
def test_weak_scores_are_calibrated_too(boxes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    found = []
    for _ in range(2):
        corner = random.uniform(0, 900, (boxes, 2))
        xyxy = np.hstack((corner, corner + random.uniform(20, 60, (boxes, 2)))).astype(np.float32)
        score = np.sort(random.beta(0.3, 0.3, boxes))[::-1].astype(np.float32)
        found.append(
            calibrate.Found(
                xyxy=xyxy,
                confidence=score,
                class_id=np.zeros(boxes, np.int64),
                bounds=(0, 0, 1000, 1000),
                labelled=xyxy[random.uniform(size=boxes) < 0.3],
                grouped=False,
            )
        )
    context = calibrate.fit_context(found)
    assert np.abs(context.weights).max() < 100
    if context != ALONE:
        counts = [
            (context.rescore(of.xyxy, of.confidence, of.class_id, of.bounds) >= 0.25).sum()
            - len(of.labelled)
            for of in found
        ]
        assert abs(np.median(counts)) <= max(2, boxes / 100)
