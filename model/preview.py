"""Draw labels and detections side by side into one HTML page that needs no other file."""

from __future__ import annotations

import argparse
import base64
import html
import io
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw

from function.config import Config
from function.detections import Thresholds
from function.detector import Detector
from function.errors import ModelError
from function.image import Image
from function.shelf import audit_shelf
from model.labelled import LabelledPhoto, read_dataset
from model.options import at_least
from model.photos import DatasetError, naming, progress, read_photo, spread

PHOTOS = 24  # a page of ten megabytes
SIDE = 900  # px of a picture
PRODUCT, GAP = (46, 230, 197), (255, 176, 32)
HEAD = """<!doctype html><meta charset="utf-8"><title>Labels and detections</title>
<style>body{font:15px sans-serif;margin:2em}figure{display:inline-block;width:48%;margin:0 1% 1em 0}
img{width:100%}</style><h1>Labels (left) and detections (right)</h1>
<p>Products are teal, gaps amber.</p>
"""

Boxes = npt.NDArray[np.floating]


def draw(image: Image, products: Boxes, gaps: Boxes) -> PIL.Image.Image:
    """Draw boxes (n, 4) and (g, 4), in pixels of the image."""
    scale = SIDE / max(image.width, image.height)
    size = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
    picture = PIL.Image.fromarray(image.resized(size))
    pen = PIL.ImageDraw.Draw(picture)
    for boxes, colour, line in ((products, PRODUCT, 2), (gaps, GAP, 3)):
        for box in (boxes * scale).tolist():
            pen.rectangle(box, outline=colour, width=line)
    return picture


def figure(picture: PIL.Image.Image, caption: str) -> str:
    """Put a picture into the page itself."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f'<figure><img src="data:image/jpeg;base64,{data}" alt="">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>\n"
    )


def page(detector: Detector, photos: list[LabelledPhoto]) -> str:
    """Write the page of some photos. Raises `DatasetError`."""
    parts = [HEAD]
    for photo in progress(photos, "drawing: photo"):
        image = read_photo(photo.path, detector.model.input_size)
        xyxy = photo.xyxy(image)
        empty = photo.gaps(detector.model.gap_classes)
        found = detector.detect(image, Thresholds())
        audit = audit_shelf(found, image.width, image.height)
        gaps = np.array([gap.xyxy for gap in audit.gaps]).reshape(-1, 4)
        name = photo.path.name
        for boxes, empties, what in (
            (xyxy[~empty], xyxy[empty], "labelled"),
            (found.xyxy, gaps, "found"),
        ):
            caption = f"{name}: {len(boxes)} products and {len(empties)} gaps {what}"
            parts.append(figure(draw(image, boxes, empties), caption))
    return "".join(parts)


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m model.preview", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="photos of a YOLO split, or a COCO file")
    add("--photos", type=Path, help="folder of a COCO file's photos; its own unless given")
    add("--model", type=Path, default=Config().model_path, help="ONNX file (what ships)")
    add("--count", type=at_least(1), default=PHOTOS, help=f"photos, spread evenly ({PHOTOS})")
    add("--output", type=Path, required=True, help="HTML file to write")
    args = parser.parse_args(argv)
    try:
        photos = read_dataset(args.data, args.photos)
        detector = Detector.load(args.model)
        detector.warm_up()
        content = page(detector, spread(photos, args.count))
        with naming(args.output):
            args.output.parent.mkdir(parents=True, exist_ok=True)
            args.output.write_text(content, encoding="utf-8")
    except (DatasetError, ModelError) as err:
        sys.exit(str(err))
    print(f"wrote {args.output}: {len(photos)} photos, of which {args.count} at most are shown")


if __name__ == "__main__":
    main()
