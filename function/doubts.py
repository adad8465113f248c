"""What makes a count doubtful: how the photo looks, and what was found in it. Pure; no IO.

The looks are measured on bands across the picture, at about the scale that the detector sees: a
photo that is blurred in its own pixels may be sharp in those that count. The thresholds are from
real shelves (docs/shelf.md): each lies where the count is off by 15 % on average.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import PIL.Image

from function.detections import Detections
from function.result import WarningJson
from function.tiles import SMALL, SMALL_WHERE_BROAD, Sight, may_look_closer

BANDS, ROWS = 8, 4  # how many, and the pixels in the height of each
SIDE = 640  # pixels of the longer side
STEP = 4  # pixels; over so many, what is sharp and what is blurred differ alike
FLAT = 1.0  # what pixels so far apart differ by where there is nothing to be sharp
BURNT = 250  # of 255: all but white
BLOCK = 8  # pixels; in the smoothest tenth of such blocks noise is all there is

SHARP = 0.285
BRIGHT = 34.0
MAX_BURNT = 0.45
MAX_NOISE = 0.075
# Pixels of the photo itself in the products' shorter sides: no second look adds to them. Where the
# median is 8 to 10, an eighth of the products is lost.
SMALL_IN_PHOTO = 10.0
# Of products of a kind that the model has not learned, such as loose fruit, half have a confidence
# below this. Of 178 photos of shelves one has more than three tenths of such products.
SURE = 0.5
MAX_UNSURE = 0.3
# Two faint boxes of five are no share to judge by: a nearly empty board looks so.
LEAST_COUNTED = 10


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a photo looks, of luma from 0 to 255."""

    light: float  # the 95th percentile
    burnt: float  # share of pixels that are all but white
    sharpness: float  # what neighbours differ by, of what pixels four apart do
    noise: float  # what neighbours differ by where the picture is smooth, of its light


def measure(picture: PIL.Image.Image) -> Look:
    """Measure how an RGB picture looks, in a millisecond or two."""
    luma = _bands(picture)
    darker = np.bincount(luma.ravel(), minlength=256).cumsum() / luma.size
    light = float(darker.searchsorted(0.95))
    burnt = float(1 - darker[BURNT - 1])
    if luma.shape[1] <= STEP:
        return Look(light=light, burnt=burnt, sharpness=1.0, noise=0.0)
    near = float(np.abs(np.diff(luma)).mean())
    far = float(np.abs(luma[:, STEP:] - luma[:, :-STEP]).mean())
    curve = np.abs(luma[:, 2:] - 2 * luma[:, 1:-1] + luma[:, :-2])
    return Look(
        light=light,
        burnt=burnt,
        sharpness=near / far if far > FLAT else 1.0,
        noise=_smoothest(curve) / max(light, 1.0),
    )


def find_doubts(
    look: Look, detections: Detections, image: tuple[int, int], size: tuple[int, int], looks: int
) -> list[WarningJson]:
    """Say what makes the count of an image doubtful, the photo's faults first.

    Takes the image's and the model's size (width, height), and how often the model looked.
    """
    aspect = max(image) / min(image)
    sight = Sight.of(*image, size, detections)
    own, side = sight.own_side, sight.side
    unsure = _share_unsure(detections)
    # In a picture no larger than the input that is unsure of large products, tiles would help none.
    tiles_help = side < SMALL_WHERE_BROAD or may_look_closer(*image, size, "auto")
    holds = {
        "blurred": look.sharpness < SHARP,
        "dark": look.light < BRIGHT,
        "overexposed": look.burnt > MAX_BURNT,
        "noisy": look.noise > MAX_NOISE,
        "wide": looks == 1 and tiles_help and sight.is_strip,
        "small_products": own < SMALL_IN_PHOTO or (looks == 1 and side < SMALL),
        "unsure": unsure > MAX_UNSURE,
        "truncated": detections.truncated,
        "nothing_found": not len(detections),
    }
    small = f"{side:.1f} px in the model's input, below {SMALL:.0f}"
    if own < SMALL_IN_PHOTO:
        small = f"{own:.1f} px in the photo, below {SMALL_IN_PHOTO:.0f}"
    details = {
        "blurred": f"Sharpness is {look.sharpness:.2f}, below {SHARP}: hold still, go closer",
        "dark": f"The brightest parts are at {look.light:.0f} of 255, below {BRIGHT:.0f}",
        "overexposed": f"{look.burnt:.0%} of the picture is white, above {MAX_BURNT:.0%}",
        "noisy": f"Noise is {look.noise:.1%} of the light, above {MAX_NOISE:.1%}",
        "wide": f"The sides are {aspect:.1f} to 1, too wide for the products at one look",
        "small_products": f"Products are {small}",
        "unsure": f"{unsure:.1%} of the products have a confidence below {SURE}, above "
        f"{MAX_UNSURE:.0%}: the model may not know this kind of product",
        "truncated": f"More than {len(detections)} products were found, only the surest are listed",
        "nothing_found": "No product was found",
    }
    return [{"code": code, "detail": details[code]} for code, is_so in holds.items() if is_so]


def _share_unsure(detections: Detections) -> float:
    """Give the share of the products that the model was not sure of, at whichever threshold."""
    _, counted = detections.by_default
    return float((counted < SURE).mean()) if len(counted) >= LEAST_COUNTED else 0.0


def _smoothest(curve: npt.NDArray[np.int16]) -> float:
    """Give the mean of the smoothest tenth of blocks."""
    rows, columns = curve.shape[0], curve.shape[1] // BLOCK * BLOCK
    if not rows or not columns:
        return 0.0
    means = curve[:, :columns].reshape(rows, -1, BLOCK).mean(axis=2)
    return float(np.partition(means, means.size // 10, axis=None)[means.size // 10])


def _bands(picture: PIL.Image.Image) -> npt.NDArray[np.int16]:
    """Take bands out of the picture, scaled: (rows, columns) of luma."""
    width, height = picture.size
    scale = min(1.0, SIDE / max(width, height))
    size = max(1, round(width * scale)), min(ROWS, height)
    high = min(height, size[1] / scale)
    tops = [(height - high) * (band + 0.5) / BANDS for band in range(BANDS)]
    bands = PIL.Image.new("RGB", (size[0], size[1] * BANDS))
    for band, top in enumerate(tops):
        box = (0, top, width, top + high)
        part = picture.resize(size, PIL.Image.Resampling.BILINEAR, box=box)
        bands.paste(part, (0, band * size[1]))
    return np.asarray(bands.convert("L")).astype(np.int16)
