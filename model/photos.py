"""Photos and their YOLO labels on disk, found and read as the service reads them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from function.container import SUFFIXES
from function.detector import Pixels, preprocess
from function.errors import ShelfWatchError
from function.folders import pictures_below
from function.image import Image, read_image

# By how much a labelling tool may overshoot the photo's edge, as Ultralytics has it.
BEYOND = 0.01
SHOWN = 60  # characters of a line that is refused
Item = TypeVar("Item")


class DatasetError(Exception):
    """The data cannot be used; says why in one sentence."""


def find_photos(folder: Path, count: int | None = None) -> list[Path]:
    """List the photos of a folder and those below it, or `count` of them, spread evenly.

    Raises `DatasetError` when there are none, or a folder may not be read.
    """
    with naming(folder):
        found = pictures_below(folder)
    if not found:
        msg = f"{folder} holds no photos ({', '.join(SUFFIXES)})"
        raise DatasetError(msg)
    return spread(found, count or len(found))


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """Pick `count` items, spread evenly, or all where there are no more."""
    step = max(len(items) / count, 1)
    return [items[int(index * step)] for index in range(min(count, len(items)))]


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
    if not path.is_file():
        return np.zeros((0, 5))
    try:
        lines = path.read_text("utf-8-sig").splitlines()  # Windows writes a mark at the start
    except UnicodeDecodeError as err:
        msg = f"{path} must be text in UTF-8, got {type(err).__name__} at byte {err.start}"
        raise DatasetError(msg) from err
    boxes = [_box(path, *line) for line in enumerate(lines, start=1) if line[1].strip()]
    return np.array(boxes, dtype=np.float64).reshape(-1, 5)


def _box(path: Path, number: int, line: str) -> list[float]:
    try:
        box = [float(value) for value in line.split()]
        label, cx, cy, width, height = box
    except ValueError:
        right = False
    else:
        centred = all(-BEYOND <= value <= 1 + BEYOND for value in (cx, cy))
        sized = all(0 <= value <= 1 + BEYOND for value in (width, height))
        right = centred and sized and label >= 0 and label.is_integer()
    if not right:
        got = line if len(line) <= SHOWN else f"{line[:SHOWN]}…"
        msg = (
            f"line {number} of {path} must be 'class cx cy w h', a whole number and four fractions "
            f"of the photo, got {got!r}"
        )
        raise DatasetError(msg)
    return box


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Raise a `DatasetError` that names a file where it is missing or the service refuses it."""
    try:
        yield
    except (OSError, ShelfWatchError) as err:
        msg = f"{path}: {err}"
        raise DatasetError(msg) from err


def read_photo(photo: Path, size: tuple[int, int] | None = None) -> Image:
    """Read a photo as the service does, whole or for a model's input (width, height).

    Raises `DatasetError` for one that is missing or that the service refuses.
    """
    with naming(photo):
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
