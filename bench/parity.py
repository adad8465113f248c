"""Hold our boxes against Ultralytics' predict: the same float export, the same pixels.

    python -m bench.parity float.onnx --photos shelves/images/val

Runs in the venv of model/requirements.txt. Ultralytics shrinks with OpenCV's bilinear filter, which
skips pixels; ours averages them all, as Pillow's does. So what follows the resize is judged in two
ways: as both are, on pictures whose long side is the model's input, which neither resizes; and on
pictures of any size with our filter put into Ultralytics' LetterBox. How much the filter matters
is shown on the files as they are, and not judged.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from function.boxes import Floats, box_iou
from function.detections import Thresholds
from function.detector import Detector, Model, Pixels
from function.errors import ModelError
from function.image import Image, read_image
from model.options import at_least
from model.photos import DatasetError, find_photos, progress, read_photo
from model.render import encode, render_shelf
from model.yolo import YoloError, open_yolo

THRESHOLDS = Thresholds(confidence=0.25, iou=0.6, max_detections=1000)
MIN_IOU = 0.99
MAX_SCORE_DIFFERENCE = 0.01


@dataclass
class Comparison:
    """Two detectors over a set of pictures."""

    name: str
    pictures: int = 0
    same_count: int = 0  # pictures
    ours: int = 0  # boxes
    theirs: int = 0
    iou: list[float] = field(default_factory=list)  # of each of our boxes with its match
    score_difference: list[float] = field(default_factory=list)

    def add(self, ours: tuple[Floats, Floats], theirs: tuple[Floats, Floats]) -> None:
        """Add one picture's boxes (n, 4) and scores (n,); each of ours takes one of theirs."""
        self.pictures += 1
        self.same_count += len(ours[0]) == len(theirs[0])
        self.ours += len(ours[0])
        self.theirs += len(theirs[0])
        free = np.ones(len(theirs[0]), bool)
        for box, score in zip(*ours, strict=True):
            if not free.any():  # all of theirs are taken
                self.iou.append(0.0)
                self.score_difference.append(1.0)
                continue
            overlap = np.where(free, box_iou(box, theirs[0]), -1)
            best = int(overlap.argmax())
            self.iou.append(float(overlap[best]))
            self.score_difference.append(abs(float(score - theirs[1][best])))
            free[best] = False

    @property
    def equal(self) -> bool:
        """Tell whether every box has its match."""
        return (
            self.ours > 0
            and self.same_count == self.pictures
            and min(self.iou) >= MIN_IOU
            and max(self.score_difference) <= MAX_SCORE_DIFFERENCE
        )

    def row(self, judged: bool) -> str:
        """Format as a row of a Markdown table."""
        twins = np.mean(np.array(self.iou) >= MIN_IOU) * 100
        verdict = ("equal" if self.equal else "DIFFERENT") if judged else "not judged"
        return (
            f"| {self.name} | {self.pictures} | {self.ours} | {self.theirs} | {self.same_count} | "
            f"{min(self.iou):.4f} | {twins:.1f} % | {max(self.score_difference):.4f} | {verdict} |"
        )


HEAD = """\
| pictures | number | our boxes | theirs | same count | lowest IoU | ≥ 0.99 | score differs by | |
|---|---|---|---|---|---|---|---|---|"""


def to_long_side(pixels: Pixels, side: int) -> Pixels:
    """Resize a picture (H, W, 3), so that the detector need not."""
    picture = PIL.Image.fromarray(pixels)
    scale = side / max(picture.size)
    size = (round(picture.width * scale), round(picture.height * scale))
    return np.asarray(picture.resize(size, PIL.Image.Resampling.LANCZOS))


def predict(yolo: Any, source: Pixels | str, model: Model) -> tuple[Floats, Floats]:
    """Run Ultralytics for a model's products; arrays are BGR, as OpenCV reads files."""
    (result,) = yolo.predict(
        source,
        imgsz=model.input_size[0],
        classes=list(model.products),
        conf=THRESHOLDS.confidence,
        iou=THRESHOLDS.iou,
        max_det=THRESHOLDS.max_detections,
        rect=False,
        device="cpu",
        verbose=False,
    )
    return result.boxes.xyxy.numpy(), result.boxes.conf.numpy()


@contextmanager
def our_filter() -> Iterator[None]:
    """Let Ultralytics' LetterBox resize as the service does; all else stays its own."""
    import cv2

    def resize(pixels: Pixels, size: tuple[int, int], **_: object) -> Pixels:
        return Image.of(pixels).resized(size)

    original, cv2.resize = cv2.resize, resize
    try:
        yield
    finally:
        cv2.resize = original


def compare_pixels(
    name: str, detector: Detector, yolo: Any, pictures: Iterable[Pixels]
) -> Comparison:
    """Compare on arrays (H, W, 3) RGB."""
    comparison = Comparison(name)
    for pixels in pictures:
        image = Image.of(pixels)
        ours = detector.detect(image, THRESHOLDS)
        bgr = np.ascontiguousarray(pixels[..., ::-1])
        theirs = predict(yolo, bgr, detector.model)
        comparison.add((ours.xyxy, ours.confidence), theirs)
    return comparison


def compare_files(name: str, detector: Detector, yolo: Any, photos: list[Path]) -> Comparison:
    """Compare on files, each read and resized in its own way."""
    comparison = Comparison(name)
    for photo in progress(photos, name):
        image = read_photo(photo, detector.model.input_size)
        ours = detector.detect(image, THRESHOLDS)
        theirs = predict(yolo, str(photo), detector.model)
        comparison.add((ours.xyxy, ours.confidence), theirs)
    return comparison


def main() -> None:
    """Run the command line; the exit code is 1 where a judged row differs."""
    parser = argparse.ArgumentParser(prog="python -m bench.parity", description=__doc__)
    parser.add_argument("model", type=Path, help="float ONNX file of model.export")
    parser.add_argument("--photos", type=Path, required=True, help="folder of real photos")
    parser.add_argument("--drawn", type=at_least(1), default=12, help="shelves to draw (12)")
    args = parser.parse_args()
    try:
        sys.exit(not run(args))
    except (DatasetError, ModelError, YoloError) as err:
        sys.exit(str(err))


def run(args: argparse.Namespace) -> bool:
    """Compare, print the table, and tell whether all judged rows are equal."""
    detector = Detector.load(args.model)
    detector.warm_up()
    yolo = open_yolo(str(args.model))
    side = max(detector.model.input_size)
    photos = find_photos(args.photos)
    drawn = [read_image(encode(render_shelf(seed))).pixels for seed in range(args.drawn)]
    real = [read_image(photo.read_bytes()).pixels for photo in photos]
    judged = [
        compare_pixels(
            f"{kind}, long side {side}",
            detector,
            yolo,
            [to_long_side(pixels, side) for pixels in progress(pictures, kind)],
        )
        for kind, pictures in (("drawn shelves", drawn), ("photos", real))
    ]
    # Sides that no scale divides: the rounding of letterbox and way back shows.
    odd = [pixels[: 1280 - 71 * i, : 960 - 37 * (i % 5)] for i, pixels in enumerate(drawn)]
    with our_filter():
        judged += [
            compare_pixels(f"{kind}, our filter in both", detector, yolo, pictures)
            for kind, pictures in (("drawn shelves, odd sizes", odd), ("photos", real))
        ]
    shown = compare_files("photos, each its own filter", detector, yolo, photos)
    print(HEAD, *(row.row(judged=True) for row in judged), shown.row(judged=False), sep="\n")
    return all(row.equal for row in judged)


if __name__ == "__main__":
    main()
