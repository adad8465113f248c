"""Crops of labelled photos, as training sees them: turned about, stretched, lit anew. No torch.

The shipped detector looks at whole photos, their long side at 896 px. A crop shows a part at about
that scale, out of the photo's own pixels, so that training at 896 px costs what a crop costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from model.photos import read_photo

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]
Rng = np.random.Generator

GREY = 114  # beyond the photo's edge, as the letterbox pads
# How the scale of a crop spreads about the scale of inference, in natural logarithms.
ZOOM_SPREAD, ZOOM_LEAST, ZOOM_MOST = 0.25, 0.7, 2.0
# Width against height: many data sets hold photos stretched to a square.
STRETCH = 0.2
# A box that shows less than this share of itself in the crop is not labelled there.
MIN_SHOWN = 0.25
MIN_SIDE = 2.0  # px; smaller boxes teach nothing
# Largest changes of hue (of the circle), saturation and brightness (as factors).
HUE, SATURATION, BRIGHTNESS = 0.015, 0.6, 0.4


@dataclass(frozen=True, kw_only=True)
class TrainingPhoto:
    """A photo to train on, and which classes are labelled on it.

    What a photo is not labelled for must not teach that there is none.
    """

    path: Path
    cxcywh: Floats  # (n, 4) shares of the photo
    class_id: npt.NDArray[np.int64]  # (n,)
    labelled: frozenset[int]


@dataclass(frozen=True)
class Crop:
    """A crop and what is on it."""

    pixels: Pixels  # (side, side, 3) RGB
    xyxy: Floats  # (n, 4) in its pixels
    kept: npt.NDArray[np.int64]  # (n,) which boxes of the photo these are


def open_photo(photo: TrainingPhoto) -> tuple[Image.Image, Floats]:
    """Read a photo as the service does, turned by EXIF, and its boxes (n, 4) in its pixels.

    Raises `DatasetError`.
    """
    picture = read_photo(photo.path).picture
    middle, half = photo.cxcywh[:, :2], photo.cxcywh[:, 2:] / 2
    return picture, np.hstack((middle - half, middle + half)) * np.tile(picture.size, 2)


def crop(photo: Image.Image, xyxy: Floats, size: int, side: int, rng: Rng) -> Crop:
    """Cut a random square of `side` pixels out of a photo scaled to about `size` on its long side.

    Takes the photo's boxes (m, 4) in its own pixels.
    """
    scale = _scale(photo, size, rng)
    corner = _corner(np.array(photo.size) * scale, side, rng)
    pixels = _cut(photo, scale, corner, side)
    whole = xyxy * np.tile(scale, 2) - np.tile(corner, 2)
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
        whole = np.column_stack((side - whole[:, 2], whole[:, 1], side - whole[:, 0], whole[:, 3]))
    shown = np.clip(whole, 0, side)
    sides = shown[:, 2:] - shown[:, :2]
    area = np.prod(whole[:, 2:] - whole[:, :2], axis=1)
    kept = (np.prod(sides, axis=1) >= MIN_SHOWN * area) & (sides >= MIN_SIDE).all(axis=1)
    return Crop(_relit(pixels, rng), shown[kept], np.flatnonzero(kept))


def _scale(photo: Image.Image, size: int, rng: Rng) -> Floats:
    """Draw the factors (2,) for width and height."""
    zoom = np.clip(np.exp(rng.normal(0, ZOOM_SPREAD)), ZOOM_LEAST, ZOOM_MOST)
    stretch = np.exp(rng.uniform(-STRETCH, STRETCH) / 2)
    return np.asarray(size / max(photo.size) * zoom * np.array((stretch, 1 / stretch)))


def _corner(scaled: Floats, side: int, rng: Rng) -> Floats:
    """Draw the crop's corner (2,) in pixels of the scaled photo; in the grey where it is small."""
    room = scaled - side
    return np.asarray(rng.uniform(np.minimum(room, 0), np.maximum(room, 0)))


def _cut(photo: Image.Image, scale: Floats, corner: Floats, side: int) -> Pixels:
    """Scale the part of the photo that the crop shows, grey beyond its edge."""
    scaled = np.array(photo.size) * scale
    low = np.clip(np.round(-corner), 0, side).astype(int)
    high = np.clip(np.round(scaled - corner), low + 1, side).astype(int)
    box = np.concatenate(((low + corner) / scale, (high + corner) / scale))
    box = np.clip(box, 0, np.tile(photo.size, 2))
    seen = photo.resize(
        (int(high[0] - low[0]), int(high[1] - low[1])),
        Image.Resampling.BILINEAR,
        (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
    )
    pixels = np.full((side, side, 3), GREY, np.uint8)
    pixels[low[1] : high[1], low[0] : high[0]] = np.asarray(seen)
    return pixels


def _relit(pixels: Pixels, rng: Rng) -> Pixels:
    """Change hue, saturation and brightness a little."""
    turn, strength, light = rng.uniform(-1, 1, 3) * (HUE, SATURATION, BRIGHTNESS) + (0, 1, 1)
    steps = np.arange(256)
    tables = (
        (steps + round(turn * 256)) % 256,
        np.clip(steps * strength, 0, 255),
        np.clip(steps * light, 0, 255),
    )
    hsv = Image.fromarray(np.ascontiguousarray(pixels)).convert("HSV")
    flat = [int(value) for table in tables for value in table]
    return np.array(hsv.point(flat).convert("RGB"))
