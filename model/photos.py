"""Photos and their YOLO labels on disk, found and read as the service reads them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from function.detector import Pixels, preprocess
from function.errors import ShelfWatchError
from function.image import Image, read_image

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
Item = TypeVar("Item")


class DatasetError(Exception):
    """The data cannot be used; says why in one sentence."""


def find_photos(folder: Path, count: int | None = None) -> list[Path]:
    """List the photos of a folder and those below it, or `count` of them, spread evenly.

    Raises `DatasetError` when there are none.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES)
    if not found:
        msg = f"{folder} holds no photos ({', '.join(sorted(PHOTO_SUFFIXES))})"
        raise DatasetError(msg)
    step = max(len(found) / count, 1) if count else 1
    return [found[int(index * step)] for index in range(min(count or len(found), len(found)))]


def label_path(photo: Path) -> Path:
    """Name the label file of a photo: the last images/ becomes labels/, as Ultralytics has it."""
    parts = list(photo.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def read_labels(photo: Path) -> npt.NDArray[np.float64]:
    """Read class, cx, cy, w, h (n, 5) in fractions of the photo.

    A photo without a label file has no products, as Ultralytics reads it. Raises `DatasetError`
    for lines that are not boxes.
    """
    path = label_path(photo)
    lines = path.read_text().splitlines() if path.is_file() else []
    try:
        labels = [[float(value) for value in line.split()] for line in lines if line.strip()]
        return np.array(labels, dtype=np.float64).reshape(len(labels), 5)
    except ValueError as err:
        msg = f"{path} has lines that are not 'class cx cy w h'"
        raise DatasetError(msg) from err


@contextmanager
def reading(photo: Path) -> Iterator[None]:
    """Raise a `DatasetError` that names the photo where it is missing or the service refuses it."""
    try:
        yield
    except (OSError, ShelfWatchError) as err:
        msg = f"{photo}: {err}"
        raise DatasetError(msg) from err


def read_photo(photo: Path, size: tuple[int, int] | None = None) -> Image:
    """Read a photo as the service does, whole or for a model's input (width, height).

    Raises `DatasetError` for one that is missing or that the service refuses.
    """
    with reading(photo):
        return read_image(photo.read_bytes(), size)


def read_tensor(photo: Path, size: tuple[int, int]) -> Pixels:
    """Read a photo into a tensor (1, H, W, 3)."""
    tensor, _ = preprocess(read_photo(photo, size), size)
    return tensor


def progress(items: Sequence[Item], what: str) -> Iterator[Item]:
    """Pass the items on and show how far it is, on a terminal or in a log."""
    for number, item in enumerate(items, start=1):
        yield item
        # A log gets a line every tenth, a terminal one line that moves.
        if sys.stderr.isatty():
            print(f"\r{what} {number}/{len(items)}", end="", file=sys.stderr, flush=True)
        elif number * 10 // len(items) > (number - 1) * 10 // len(items):
            print(f"{what} {number}/{len(items)}", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
