"""Labelled photos of a YOLO or a COCO data set, as one kind of value."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from function.detector import is_gap
from function.image import Image
from model.photos import DatasetError, find_photos, label_path, read_labels

FRACTIONS = (1.0, 1.0)  # boxes of YOLO


@dataclass(frozen=True, kw_only=True)
class LabelledPhoto:
    """A photo and what is on it."""

    path: Path
    boxes: npt.NDArray[np.float64]  # (n, 4) x, y, width, height
    class_id: npt.NDArray[np.int64]  # (n,)
    crowd: npt.NDArray[np.bool_]  # (n,) COCO's iscrowd: groups, neither right nor wrong to find
    # (width, height) of the photo to which the boxes belong; None: its own pixels.
    size: tuple[float, float] | None
    # Which classes are gaps, where the labels have names; without, the model's numbers say.
    gap_classes: Sequence[int] | None = None

    def xywh(self, image: Image) -> npt.NDArray[np.float64]:
        """Return the boxes (n, 4) in pixels of the image as a person sees it.

        Raises `DatasetError` where they are those of another one, which lies on its side.
        """
        width, height = self.size or (image.width, image.height)
        if (width - height) * (image.width - image.height) < 0:
            msg = (
                f"{self.path} is {image.width} x {image.height} as a person sees it, and its boxes "
                f"are labelled at {width:g} x {height:g}: label it turned, as EXIF says"
            )
            raise DatasetError(msg)
        scale = np.array([image.width / width, image.height / height] * 2)
        return np.asarray(self.boxes * scale)

    def xyxy(self, image: Image) -> npt.NDArray[np.float64]:
        """Return the boxes' corners (n, 4) in pixels of the image as a person sees it."""
        xywh = self.xywh(image)
        return np.hstack((xywh[:, :2], xywh[:, :2] + xywh[:, 2:]))

    def gaps(self, gap_classes: Sequence[int]) -> npt.NDArray[np.bool_]:
        """Tell which boxes (n,) are gaps, given a model's classes of gaps."""
        named = gap_classes if self.gap_classes is None else self.gap_classes
        return np.isin(self.class_id, named)

    @property
    def count(self) -> int:
        """Count the products."""
        return int((~self.crowd).sum())


def read_dataset(data: Path, photos: Path | None = None) -> list[LabelledPhoto]:
    """Read a YOLO split (its images folder) or a COCO annotation file (.json).

    `photos` is the folder of a COCO file's photos, unless they lie beside it. Raises
    `DatasetError`.
    """
    return _read_coco(data, photos or data.parent) if data.is_file() else _read_yolo(data)


def read_gaps(data: Path) -> list[LabelledPhoto]:
    """Read a folder of photos on which gaps are labelled and nothing else; their class is 0.

    The folder holds images/ and either YOLO's labels/ or one labels.json, a list of
    `{"image": "images/1.jpg", "width": 640, "height": 480, "gaps": [[x1, y1, x2, y2], …]}` in
    pixels. Raises `DatasetError`.
    """
    labels = data / "labels.json"
    if not labels.is_file():
        return _read_yolo(data / "images")
    try:
        read = [_from_gaps(data, entry) for entry in json.loads(labels.read_text("utf-8-sig"))]
    except (ValueError, KeyError, TypeError) as err:
        msg = f"{labels} is not a list of photos with their gaps: {type(err).__name__} {err}"
        raise DatasetError(msg) from err
    return _all_there(read, f"{labels}; its images are named from {data}")


def _from_gaps(folder: Path, entry: dict[str, object]) -> LabelledPhoto:
    xyxy = np.array(entry["gaps"], np.float64).reshape(-1, 4)
    if not (xyxy[:, 2:] >= xyxy[:, :2]).all():  # nor where one is NaN
        msg = f"gaps of {entry['image']} must be x1, y1, x2, y2 in pixels, got {entry['gaps']}"
        raise ValueError(msg)
    size = np.array([entry["width"], entry["height"]] * 2, np.float64)
    if not (size > 0).all():
        msg = f"width and height of {entry['image']} must be above 0, got {size[:2].tolist()}"
        raise ValueError(msg)
    return LabelledPhoto(
        path=folder / str(entry["image"]),
        boxes=np.hstack((xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2])) / size,
        class_id=np.zeros(len(xyxy), np.int64),
        crowd=np.zeros(len(xyxy), bool),
        size=FRACTIONS,
    )


def _read_yolo(split: Path) -> list[LabelledPhoto]:
    found = find_photos(split)
    if not any(label_path(photo).is_file() for photo in found):
        msg = f"{split} has photos but none has a label file, e.g. {label_path(found[0])}"
        raise DatasetError(msg)
    return [_from_labels(photo, read_labels(photo)) for photo in found]


def _from_labels(photo: Path, labels: npt.NDArray[np.float64]) -> LabelledPhoto:
    corner, size = labels[:, 1:3] - labels[:, 3:5] / 2, labels[:, 3:5]
    return LabelledPhoto(
        path=photo,
        boxes=np.hstack([corner, size]),
        class_id=labels[:, 0].astype(np.int64),
        crowd=np.zeros(len(labels), bool),
        size=FRACTIONS,
    )


def _read_coco(path: Path, folder: Path) -> list[LabelledPhoto]:
    """Read COCO's instances; its categories become classes 0, 1, … in the order of their ids.

    Which of them are gaps their names say: Roboflow, for one, begins with a category of no boxes.
    """
    try:
        content = json.loads(path.read_text("utf-8-sig"))
        images, annotations = content["images"], content["annotations"]
        categories = sorted(content["categories"], key=_id)
        classes = {category["id"]: label for label, category in enumerate(categories)}
        gaps = [label for label, of in enumerate(categories) if is_gap(str(of.get("name", "")))]
        of_image: dict[int, list[tuple[list[float], int, bool]]] = {i["id"]: [] for i in images}
        for a in annotations:
            row = (a["bbox"], classes[a["category_id"]], bool(a.get("iscrowd", 0)))
            of_image[a["image_id"]].append(row)
        read = [_from_rows(folder, image, of_image[image["id"]], gaps) for image in images]
    except (ValueError, KeyError, TypeError) as err:
        msg = f"{path} is not a COCO annotation file: {type(err).__name__} {err}"
        raise DatasetError(msg) from err
    if not read:
        msg = f"{path} names no images"
        raise DatasetError(msg)
    return _all_there(read, f"{path}; --photos names the folder")


def _all_there(photos: list[LabelledPhoto], named: str) -> list[LabelledPhoto]:
    if missing := next((photo.path for photo in photos if not photo.path.is_file()), None):
        msg = f"{missing} is missing: it stands in {named}"
        raise DatasetError(msg)
    return photos


def _id(category: dict[str, int]) -> int:
    return category["id"]


def _from_rows(
    folder: Path,
    image: dict[str, str | float | None],
    rows: list[tuple[list[float], int, bool]],
    gaps: Sequence[int],
) -> LabelledPhoto:
    path = folder / str(image["file_name"])
    size = [float(image.get(side) or 0) for side in ("width", "height")]
    return LabelledPhoto(
        path=path,
        boxes=_boxes(path, [box for box, _, _ in rows]),
        class_id=np.array([class_id for _, class_id, _ in rows], dtype=np.int64),
        crowd=np.array([crowd for _, _, crowd in rows], dtype=bool),
        gap_classes=gaps,
        size=(size[0], size[1]) if min(size) > 0 else None,
    )


def _boxes(path: Path, xywh: list[list[float]]) -> npt.NDArray[np.float64]:
    """Return boxes (n, 4) in pixels. Raises `ValueError` where one is none."""
    for box in xywh:
        if len(box) != 4 or not np.isfinite(box).all() or min(box[2:]) < 0:
            msg = f"a bbox of {path.name} must be x, y, width and height in pixels, got {box}"
            raise ValueError(msg)
    return np.array(xywh, np.float64).reshape(-1, 4)
