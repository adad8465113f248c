"""What makes a count doubtful: how the photo looks, and what was found in it. Pure; no IO.

The looks are measured on eight bands across the picture, at the scale the detector sees, as a photo
that is sharp in its own pixels may be blurred in none that count. Thresholds are from real shelves
(docs/shelf.md): each lies where the count is off by 15 % on average.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import PIL.Image

BANDS, BAND_SHARE = 8, 1 / 40  # how many, and the height of each
SIDE = 640  # pixels of the longer side


@dataclass(frozen=True)
class Look:
    """How a photo looks, of luma from 0 to 255."""

    light: float  # the 95th percentile
    burnt: float  # share of pixels that are all but white
    sharpness: float  # differences of neighbours, of those four pixels apart
    noise: float  # what neighbours differ by in the smoothest tenth


def measure(picture: PIL.Image.Image) -> Look:
    """Measure how an RGB picture looks; a picture of any size takes about a millisecond."""
    luma = _bands(picture)
    near = np.abs(np.diff(luma, axis=-1))
    far = np.abs(luma[..., 4:] - luma[..., :-4]) if luma.shape[-1] > 4 else near
    curve = np.abs(luma[..., 2:] - 2 * luma[..., 1:-1] + luma[..., :-2])
    return Look(
        light=float(np.percentile(luma, 95)),
        burnt=float((luma >= BURNT).mean()),
        sharpness=float(near.mean() / max(float(far.mean()), 1)) if near.size else 1.0,
        noise=_smoothest(curve),
    )


BURNT = 250
BLOCK = 8


def _smoothest(curve: npt.NDArray[np.int16]) -> float:
    """Give the mean of the smoothest tenth of blocks."""
    rows, columns = curve.shape[0], curve.shape[1] // BLOCK * BLOCK
    if not rows or not columns:
        return 0.0
    means = curve[:, :columns].reshape(rows, -1, BLOCK).mean(axis=2)
    return float(np.percentile(means, 10))


def _bands(picture: PIL.Image.Image) -> npt.NDArray[np.int16]:
    """Take bands out of the picture, scaled: (rows, columns) of luma."""
    width, height = picture.size
    scale = min(1.0, SIDE / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale * BAND_SHARE))
    tops = [height * (band + 0.5) / BANDS - height * BAND_SHARE / 2 for band in range(BANDS)]
    parts = [
        picture.resize(
            size,
            PIL.Image.Resampling.BILINEAR,
            box=(0, max(0, top), width, min(height, top + height * BAND_SHARE)),
        ).convert("L")
        for top in tops
    ]
    return np.concatenate([np.asarray(part) for part in parts]).astype(np.int16)
