"""Score models on labelled photos: COCO average precision and recall, and the error of the count.

Products and gaps are scored apart. Gaps are labelled in the photos of `--gaps`, or in the same
photos under the number that the model gives them; in a COCO file under a name such as "gap".

The way from photo to boxes is the service's own: one decode, one letterbox, one NMS.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from function.boxes import Floats, Ints
from function.detections import Detections, Thresholds
from function.detector import Detector, Timings
from function.errors import ModelError
from model.labelled import LabelledPhoto, read_dataset, read_gaps
from model.photos import DatasetError, naming, progress, read_photo
from model.plots import draw_curves, draw_sheet

# AP wants the whole curve, so nearly every candidate counts; a shelf holds up to 759 products.
PROTOCOL = Thresholds(confidence=0.001, iou=0.6, max_detections=1000)
# Boxes a photo: what many publish with, and what the service answers. COCO's own 100 are fewer
# than a shelf holds.
CAPS = (300, PROTOCOL.max_detections)
COUNT_CONFIDENCE = Thresholds.confidence  # what the service counts by default
SHEET_PHOTOS = 9
QUARTILES = 4
GAP = 0  # the one category when gaps are scored


class Box(TypedDict):
    """A labelled product in COCO's words; bbox is x, y, width, height in pixels."""

    id: int
    image_id: int
    category_id: int
    bbox: list[float]
    area: float
    iscrowd: int


class ScoredBox(TypedDict):
    """A detected product in COCO's words."""

    image_id: int
    category_id: int
    bbox: list[float]
    score: float


@dataclass(frozen=True, kw_only=True)
class Precision:
    """COCO's averages over at most `cap` boxes a photo."""

    cap: int
    ap50: float
    ap75: float
    ap50_95: float
    ar: float
    curve: npt.NDArray[np.float64]  # (101,) precision at recall 0, 0.01 … 1, IoU 0.5


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How good one model is on one data set."""

    precision: dict[int, Precision]  # of products, by cap
    gaps: Precision | None  # None where the model or the labels have none
    predicted: Ints  # (photos,) products at COUNT_CONFIDENCE
    labelled: Ints  # (photos,)
    milliseconds: npt.NDArray[np.float64]  # of inference, a photo
    sheet: list[tuple[Path, Floats]]  # a few photos and their boxes at COUNT_CONFIDENCE

    @property
    def count_errors(self) -> npt.NDArray[np.float64]:
        """The error of each photo's count, as a fraction of its true count."""
        return np.asarray(np.abs(self.predicted - self.labelled) / np.maximum(self.labelled, 1))


def true_boxes(photo: LabelledPhoto, xywh: npt.NDArray[np.float64], image_id: int) -> list[Box]:
    """Turn a photo's boxes (n, 4) in pixels into COCO annotations, ids still 0."""
    rows = zip(xywh.tolist(), photo.class_id.tolist(), photo.crowd.tolist(), strict=True)
    return [
        {
            "id": 0,
            "image_id": image_id,
            "category_id": label,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": int(crowd),
        }
        for box, label, crowd in rows
    ]


def scored_products(detections: Detections, image_id: int) -> list[ScoredBox]:
    """Turn the products of detections into COCO results."""
    return _scored(detections.xyxy, detections.confidence, detections.class_id, image_id)


def scored_gaps(detections: Detections, image_id: int, label: int) -> list[ScoredBox]:
    """Turn the gaps of detections into COCO results of one category."""
    xyxy = detections.gap_xyxy
    return _scored(xyxy, detections.gap_confidence, np.full(len(xyxy), label), image_id)


def _scored(xyxy: Floats, confidence: Floats, class_id: Ints, image_id: int) -> list[ScoredBox]:
    xywh = np.hstack([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]]).astype(np.float64)
    return [
        {"image_id": image_id, "category_id": int(label), "bbox": box.tolist(), "score": float(c)}
        for box, c, label in zip(xywh, confidence, class_id, strict=True)
    ]


def evaluate(
    detector: Detector, photos: list[LabelledPhoto], gap_photos: list[LabelledPhoto] | None = None
) -> Scores:
    """Run a warm detector over labelled photos and score what it finds.

    On `gap_photos` every label is a gap.
    """
    model = detector.model
    truth: list[Box] = []
    scored: list[ScoredBox] = []
    true_gaps: list[Box] = []
    seen: list[ScoredBox] = []
    sheet: list[tuple[Path, Floats]] = []
    milliseconds, counts = [], []
    for image_id, photo in enumerate(progress(photos, f"{model.name}: photo"), start=1):
        image = read_photo(photo.path, model.input_size)
        timings = Timings()
        detections = detector.detect(image, PROTOCOL, timings)
        gaps = photo.gaps(model.gap_classes)
        boxes = true_boxes(photo, photo.xywh(image), image_id)
        truth += [box for box, is_gap in zip(boxes, gaps.tolist(), strict=True) if not is_gap]
        true_gaps += [box for box, is_gap in zip(boxes, gaps.tolist(), strict=True) if is_gap]
        scored += scored_products(detections, image_id)
        seen += scored_gaps(detections, image_id, GAP)
        milliseconds.append(timings["inference"])
        # NMS is greedy, and a box's context are better ones, so cutting at a higher confidence
        # before or after it is the same.
        counted = detections.confidence >= COUNT_CONFIDENCE
        counts.append((int(counted.sum()), int((~photo.crowd & ~gaps).sum())))
        if len(sheet) < SHEET_PHOTOS:
            sheet.append((photo.path, detections.xyxy[counted]))
    if len(model.products) == 1:  # it finds products, of whichever class
        (label,) = model.products
        for box in truth:
            box["category_id"] = label
    if gap_photos and model.gap_classes:
        true_gaps, seen = _run_over_gaps(detector, gap_photos)
    predicted, labelled = np.array(counts).T
    return Scores(
        precision=average_precision(len(photos), truth, scored),
        gaps=_gap_precision(len(gap_photos or photos), true_gaps, seen)
        if model.gap_classes
        else None,
        predicted=predicted,
        labelled=labelled,
        milliseconds=np.array(milliseconds),
        sheet=sheet,
    )


def _run_over_gaps(
    detector: Detector, photos: list[LabelledPhoto]
) -> tuple[list[Box], list[ScoredBox]]:
    truth: list[Box] = []
    seen: list[ScoredBox] = []
    for image_id, photo in enumerate(progress(photos, f"{detector.model.name}: gaps"), start=1):
        image = read_photo(photo.path, detector.model.input_size)
        truth += true_boxes(photo, photo.xywh(image), image_id)
        seen += scored_gaps(detector.detect(image, PROTOCOL), image_id, GAP)
    return truth, seen


def _gap_precision(photos: int, truth: list[Box], seen: list[ScoredBox]) -> Precision | None:
    if not truth:
        return None
    for box in truth:
        box["category_id"] = GAP
    return average_precision(photos, truth, seen)[CAPS[1]]


def average_precision(
    photos: int, truth: list[Box], scored: list[ScoredBox]
) -> dict[int, Precision]:
    """Compute COCO's AP and AR for each of `CAPS`.

    Image ids are 1 to `photos`. Not by `summarize()`, which looks at 100 boxes a photo.
    """
    if not scored or not truth:  # pycocotools cannot load an empty result
        return {
            cap: Precision(cap=cap, ap50=0.0, ap75=0.0, ap50_95=0.0, ar=0.0, curve=np.zeros(101))
            for cap in CAPS
        }
    for box_id, box in enumerate(truth, start=1):  # pycocotools takes id 0 for "no match"
        box["id"] = box_id
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": image_id + 1} for image_id in range(photos)],
            "annotations": truth,
            "categories": [{"id": label} for label in {box["category_id"] for box in truth}],
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(scored), "bbox")
        evaluation.params.maxDets = list(CAPS)
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    return {cap: _at_cap(evaluation, index) for index, cap in enumerate(CAPS)}


def _at_cap(evaluation: COCOeval, index: int) -> Precision:
    # (IoU thresholds, recalls, classes, areas, caps); -1 where a class has no labels.
    precision = evaluation.eval["precision"][:, :, :, 0, index]
    precision = np.where(precision < 0, np.nan, precision)
    recall = evaluation.eval["recall"][:, :, 0, index]
    return Precision(
        cap=CAPS[index],
        ap50=float(np.nanmean(precision[0])),
        ap75=float(np.nanmean(precision[5])),
        ap50_95=float(np.nanmean(precision)),
        ar=float(np.nanmean(np.where(recall < 0, np.nan, recall))),
        curve=np.nanmean(precision[0], axis=1),
    )


def _protocol(photos: list[LabelledPhoto]) -> str:
    return (
        f"{len(photos)} photos, {sum(photo.count for photo in photos)} products; "
        f"confidence {PROTOCOL.confidence}, NMS IoU {PROTOCOL.iou}, at most {CAPS[1]} boxes a "
        f"photo (AP and AR; also at {CAPS[0]}); counts at confidence {COUNT_CONFIDENCE}"
    )


COLUMNS = (
    f"{'model':<28} {'input':>9} {'AP50':>6} {'AP75':>6} {'AP50-95':>8} {'AR':>6}"
    f" {f'AP50-95@{CAPS[0]}':>12} {f'AR@{CAPS[0]}':>7} {'gap AP50':>9} {'AP50-95':>8} {'ms':>6}"
)
COUNT_COLUMNS = (
    f"{'counts, a photo':<28} {'median':>7} {'p90':>7} {'MAE':>6} {'RMSE':>6} {'bias':>6}"
)


def _row(name: str, size: tuple[int, int], scores: Scores) -> str:
    few, many = (scores.precision[cap] for cap in CAPS)
    gaps = scores.gaps
    seen = f"{gaps.ap50:9.3f} {gaps.ap50_95:8.3f}" if gaps else f"{'':>9} {'':>8}"
    return (
        f"{name:<28} {f'{size[0]}x{size[1]}':>9} {many.ap50:6.3f} {many.ap75:6.3f} "
        f"{many.ap50_95:8.3f} {many.ar:6.3f} {few.ap50_95:12.3f} {few.ar:7.3f} {seen} "
        f"{np.median(scores.milliseconds):6.1f}"
    )


def count_rows(name: str, scores: Scores) -> list[str]:
    """Tell how far the counts are off, over all photos and by quartile of how full they are."""
    order = np.argsort(scores.labelled, kind="stable")
    rows = [_count_row(name, scores, order)]
    for part in np.array_split(order, QUARTILES) if len(order) >= QUARTILES else []:
        fewest, most = scores.labelled[part[[0, -1]]].tolist()
        rows.append(_count_row(f"  {fewest} to {most} products", scores, part))
    return rows


def _count_row(name: str, scores: Scores, part: Ints) -> str:
    median, p90 = np.percentile(scores.count_errors[part] * 100, [50, 90])
    off = (scores.predicted - scores.labelled)[part]
    return (
        f"{name:<28} {median:5.1f} % {p90:5.1f} % {np.abs(off).mean():6.1f} "
        f"{np.sqrt(np.square(off).mean()):6.1f} {off.mean():+6.1f}"
    )


def losses(first: Scores, other: Scores) -> dict[str, float]:
    """Compute by how many points (hundredths) `other` lies below `first`."""
    cap = CAPS[1]
    pairs = {"": (first.precision[cap], other.precision[cap])}
    if first.gaps and other.gaps:
        pairs[" of gaps"] = (first.gaps, other.gaps)
    return {
        f"{what}{of}": points * 100
        for of, (a, b) in pairs.items()
        for what, points in (("AP50", a.ap50 - b.ap50), ("AP50-95", a.ap50_95 - b.ap50_95))
    }


def score_files(
    paths: list[Path], photos: list[LabelledPhoto], gap_photos: list[LabelledPhoto] | None = None
) -> dict[str, Scores]:
    """Score files one after another, a printed row each. Raises `ModelError`."""
    print(_protocol(photos))
    print(COLUMNS)
    scores: dict[str, Scores] = {}
    for path in paths:
        detector = Detector.load(path)
        detector.warm_up()
        alone = [other.name for other in paths].count(path.name) == 1
        name = f"{path.name if alone else path} {detector.model.precision}"
        scores[name] = evaluate(detector, photos, gap_photos)
        print(_row(name, detector.model.input_size, scores[name]), flush=True)
    print(COUNT_COLUMNS)
    for name, of in scores.items():
        print("\n".join(count_rows(name, of)))
    return scores


def write_plots(folder: Path, scores: dict[str, Scores]) -> None:
    """Write the precision-recall curves and, of each model, a sheet of photos with its boxes."""
    folder.mkdir(parents=True, exist_ok=True)
    curves = {name: of.precision[CAPS[1]].curve for name, of in scores.items()}
    draw_curves(curves).save(folder / "precision-recall.png")
    for name, of in scores.items():
        draw_sheet(of.sheet).save(folder / f"{re.sub('[ /]', '-', name)}.jpg", quality=90)
    print(f"plots in {folder}")


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m model.evaluate", description=__doc__)
    add = parser.add_argument
    add(
        "--data",
        type=Path,
        required=True,
        help="photos of a YOLO split, e.g. shelves/images/val (labels in shelves/labels/val), "
        "or a COCO annotation file",
    )
    add("--photos", type=Path, help="folder of a COCO file's photos; its own unless given")
    add("--gaps", type=Path, help="folder of photos on which gaps are labelled, and nothing else")
    add("--model", type=Path, nargs="+", required=True, help="ONNX files")
    add("--plots", type=Path, help="folder for precision-recall curves and photos with boxes")
    add(
        "--max-loss",
        type=float,
        help="fail when a model lies more points of AP50 or AP50-95 below the first",
    )
    args = parser.parse_args(argv)
    try:
        if args.plots:
            with naming(args.plots):
                args.plots.mkdir(parents=True, exist_ok=True)
        gap_photos = read_gaps(args.gaps) if args.gaps else None
        scores = score_files(args.model, read_dataset(args.data, args.photos), gap_photos)
    except (DatasetError, ModelError) as err:
        sys.exit(str(err))
    if args.plots:
        write_plots(args.plots, scores)
    first, *others = scores
    for name in others:
        lost = losses(scores[first], scores[name])
        said = ", ".join(f"{points:+.1f} points of {what}" for what, points in lost.items())
        print(f"{name} loses {said} to {first}")
        if args.max_loss is not None and max(lost.values()) > args.max_loss:
            sys.exit(f"{name} loses more than {args.max_loss} points")


if __name__ == "__main__":
    main()
