"""Average precision and count error, on boxes whose score is known."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from test_detector import ONE_BOX, save_model

from function.detections import Detections
from function.detector import Detector
from model.evaluate import average_precision, evaluate, found_boxes, read_labels, true_boxes

GRID = Detections(
    xyxy=np.array(
        [[x, y, x + 20, y + 30] for x in range(0, 500, 25) for y in range(0, 700, 35)], np.float32
    ),
    confidence=np.linspace(0.9, 0.3, 400, dtype=np.float32),
    class_id=np.zeros(400, np.int64),
)


def labels_of(detections: Detections, width: int, height: int) -> np.ndarray:
    left, top, right, bottom = detections.xyxy.T.astype(np.float64)
    boxes = [(left + right) / 2 / width, (top + bottom) / 2 / height]
    boxes += [(right - left) / width, (bottom - top) / height]
    return np.stack([np.zeros(len(detections)), *boxes], axis=1)


class Size:
    """All that `true_boxes` asks of an image."""

    width, height = 500, 700


@pytest.mark.parametrize(
    ("step", "ap"),
    [
        pytest.param(0, 0.0, id="none-found"),
        pytest.param(1, 1.0, id="all-found"),
        pytest.param(2, 0.505, id="every-second-found"),  # recall 0.5: 51 of COCO's 101 points
    ],
)
def test_more_than_a_hundred_boxes_a_photo_count(step: int, ap: float) -> None:
    truth = true_boxes(labels_of(GRID, 500, 700), Size, 1)  # type: ignore[arg-type]
    for number, box in enumerate(truth, start=1):
        box["id"] = number
    found = found_boxes(GRID, 1)[::step] if step else []
    assert average_precision(1, truth, found) == pytest.approx((ap, ap, ap), abs=1e-3)


def test_a_photo_is_scored_as_the_service_sees_it(tmp_path: Path) -> None:
    """The model finds one box wherever it looks; one photo has it, one has two others more."""
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    photos = [tmp_path / "images" / name for name in ("a.png", "b.png")]
    for photo in photos:
        PIL.Image.new("RGB", (64, 48)).save(photo)
    box = "0 0.5 0.5 0.5 0.5"  # what ONE_BOX is in a 64 x 48 picture
    (tmp_path / "labels" / "a.txt").write_text(box)
    (tmp_path / "labels" / "b.txt").write_text(f"{box}\n0 0.1 0.1 0.1 0.1\n0 0.9 0.9 0.1 0.1\n")
    detector = Detector.load(save_model(tmp_path / "m.onnx", ONE_BOX), threads=1)
    detector.warm_up()
    scores = evaluate(detector, photos)
    assert scores.ap50 == pytest.approx(0.505, abs=1e-3)  # two of four found, none wrong
    np.testing.assert_allclose(scores.count_errors, [0, 2 / 3])


def test_a_photo_without_labels_has_no_products(tmp_path: Path) -> None:
    assert read_labels(tmp_path / "images" / "a.jpg").shape == (0, 5)
