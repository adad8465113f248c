"""Score models on labelled photos: COCO average precision and the error of the count.

The way from photo to boxes is the service's own: one decode, one letterbox, one NMS.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from function.detections import Detections, Thresholds
from function.detector import Detector
from function.errors import ModelError
from function.image import Image, read_image

# AP wants the whole curve, so nearly every candidate counts; a shelf holds up to 759 products.
PROTOCOL = Thresholds(confidence=0.001, iou=0.6, max_detections=1000)
COUNT_CONFIDENCE = 0.25  # what the service counts by default
PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


class Box(TypedDict):
    """A labelled product in COCO's words; bbox is x, y, width, height in pixels."""

    id: int
    image_id: int
    category_id: int
    bbox: list[float]
    area: float
    iscrowd: int


class ScoredBox(TypedDict):
    """A found product in COCO's words."""

    image_id: int
    category_id: int
    bbox: list[float]
    score: float


@dataclass(frozen=True)
class Scores:
    """How good one model is on one split."""

    ap50: float
    ap75: float
    ap50_95: float
    count_errors: npt.NDArray[np.float64]  # a photo, as a fraction of its true count


def find_photos(split: Path) -> list[Path]:
    """List the photos of a YOLO split, e.g. shelves/images/val; exits when there are none."""
    photos = sorted(path for path in split.glob("*") if path.suffix.lower() in PHOTO_SUFFIXES)
    if not photos:
        sys.exit(f"{split} holds no photos")
    return photos


def read_labels(photo: Path) -> npt.NDArray[np.float64]:
    """Read class, cx, cy, w, h (n, 5) in fractions of the photo, from images/ -> labels/.

    A photo without a label file has no products, as Ultralytics reads it.
    """
    folders = ["labels" if part == "images" else part for part in photo.parts]
    path = Path(*folders).with_suffix(".txt")
    values = path.read_text().split() if path.is_file() else []
    return np.array(values, dtype=np.float64).reshape(-1, 5)


def true_boxes(labels: npt.NDArray[np.float64], image: Image, image_id: int) -> list[Box]:
    """Turn labels (n, 5) into COCO annotations in image pixels, ids still 0."""
    size = np.array([image.width, image.height])
    wh = labels[:, 3:5] * size
    xywh = np.hstack([labels[:, 1:3] * size - wh / 2, wh])
    return [
        {
            "id": 0,
            "image_id": image_id,
            "category_id": int(label[0]),
            "bbox": box.tolist(),
            "area": float(box[2] * box[3]),
            "iscrowd": 0,
        }
        for label, box in zip(labels, xywh, strict=True)
    ]


def found_boxes(detections: Detections, image_id: int) -> list[ScoredBox]:
    """Turn detections into COCO results."""
    corner, end = detections.xyxy[:, :2], detections.xyxy[:, 2:]
    xywh = np.hstack([corner, end - corner]).astype(np.float64)
    return [
        {"image_id": image_id, "category_id": int(label), "bbox": box.tolist(), "score": float(c)}
        for box, c, label in zip(xywh, detections.confidence, detections.class_id, strict=True)
    ]


def evaluate(detector: Detector, photos: list[Path]) -> Scores:
    """Run a warm detector over labelled photos and score what it finds."""
    truth: list[Box] = []
    found: list[ScoredBox] = []
    count_errors = []
    for image_id, photo in enumerate(photos, start=1):
        image = read_image(photo.read_bytes(), detector.model.input_size)
        labels = read_labels(photo)
        detections = detector.detect(image, PROTOCOL)
        truth += true_boxes(labels, image, image_id)
        found += found_boxes(detections, image_id)
        # NMS is greedy, so cutting at a higher confidence before or after it is the same.
        count = int((detections.confidence >= COUNT_CONFIDENCE).sum())
        count_errors.append(abs(count - len(labels)) / max(len(labels), 1))
    for box_id, box in enumerate(truth, start=1):  # pycocotools takes id 0 for "no match"
        box["id"] = box_id
    return Scores(*average_precision(len(photos), truth, found), np.array(count_errors))


def average_precision(
    photos: int, truth: list[Box], found: list[ScoredBox]
) -> tuple[float, float, float]:
    """Compute AP at IoU 0.5, at 0.75 and averaged over 0.5 to 0.95, as COCO does.

    Image ids are 1 to `photos`. Not by `summarize()`: that looks at 100 boxes a photo, fewer than
    a shelf holds.
    """
    if not found:  # pycocotools cannot load an empty result
        return 0.0, 0.0, 0.0
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": image_id + 1} for image_id in range(photos)],
            "annotations": truth,
            "categories": [{"id": label} for label in {box["category_id"] for box in truth}],
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.params.maxDets = [PROTOCOL.max_detections]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    # (IoU thresholds, recalls, classes, areas, maxDets); -1 where a class has no labels.
    precision = evaluation.eval["precision"][:, :, :, 0, 0]
    ap = np.where(precision < 0, np.nan, precision)
    return float(np.nanmean(ap[0])), float(np.nanmean(ap[5])), float(np.nanmean(ap))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m model.evaluate", description=__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="photos of a YOLO split, e.g. shelves/images/val; labels lie in shelves/labels/val",
    )
    parser.add_argument("--model", type=Path, nargs="+", required=True, help="ONNX files")
    args = parser.parse_args()
    photos = find_photos(args.data)
    print(
        f"{len(photos)} photos, {sum(len(read_labels(photo)) for photo in photos)} products; "
        f"confidence {PROTOCOL.confidence}, NMS IoU {PROTOCOL.iou}, at most "
        f"{PROTOCOL.max_detections} boxes a photo; counts at confidence {COUNT_CONFIDENCE}"
    )
    head = f"{'model':<28} {'input':>9} {'AP50':>6} {'AP75':>6} {'AP50-95':>8}"
    print(f"{head} {'count error median':>19} {'p90':>6}")
    for path in args.model:
        try:
            detector = Detector.load(path)
        except ModelError as err:
            sys.exit(str(err))
        detector.warm_up()
        scores = evaluate(detector, photos)
        median, p90 = np.percentile(scores.count_errors * 100, [50, 90])
        width, height = detector.model.input_size
        print(
            f"{path.name + ' ' + detector.model.precision:<28} {f'{width}x{height}':>9} "
            f"{scores.ap50:6.3f} {scores.ap75:6.3f} {scores.ap50_95:8.3f} "
            f"{median:17.1f} % {p90:4.1f} %"
        )


if __name__ == "__main__":
    main()
