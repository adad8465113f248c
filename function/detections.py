"""What was found in an image, and what counts as found, as frozen values. Nothing here does IO."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from function.boxes import Floats, Ints
from function.errors import InvalidParameter

# The bounds of what a caller may ask for. Below 0.001 every anchor is a detection; a crowded
# shelf of SKU-110K holds up to 759 products, so 3000 leaves room and bounds the answer.
MIN_CONFIDENCE = 0.001
MAX_DETECTIONS = 3000
MUST_BE = {
    "confidence": f"a number from {MIN_CONFIDENCE} to 1",
    "iou": "a number from 0 to 1",
    "max_detections": f"a whole number from 1 to {MAX_DETECTIONS}",
}


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """What counts as a detection. Raises `InvalidParameter` for a value out of bounds."""

    confidence: float = 0.25
    iou: float = 0.6  # 0.3 merges neighbouring facings, 0.7 leaves doubles
    max_detections: int = 1000
    classes: tuple[int, ...] = ()  # class ids that count; none: all of them

    def __post_init__(self) -> None:
        _within("confidence", self.confidence, MIN_CONFIDENCE, 1)
        _within("iou", self.iou, 0, 1)
        _within("max_detections", self.max_detections, 1, MAX_DETECTIONS)


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # NaN is not within anything
        msg = f"`{name}` must be {MUST_BE[name]}, got {value!r}"
        raise InvalidParameter(msg)


@dataclass(frozen=True, kw_only=True)
class Detections:
    """Products found in one image, best first; parallel arrays."""

    xyxy: Floats  # (n, 4), corners in pixels of the EXIF-turned image
    confidence: Floats  # (n,)
    class_id: Ints  # (n,)
    truncated: bool = False  # more were found than max_detections allowed
    # (m, 4), boxes that may be products: too faint to count, enough not to call a place empty
    faint: Floats = field(default_factory=lambda: np.zeros((0, 4), np.float32))

    def __post_init__(self) -> None:
        count = len(self.xyxy)
        if self.xyxy.shape != (count, 4) or not len(self.confidence) == len(self.class_id) == count:
            msg = (
                f"xyxy {self.xyxy.shape}, confidence {self.confidence.shape} and class_id "
                f"{self.class_id.shape} are not (n, 4), (n,) and (n,)"
            )
            raise ValueError(msg)

    def __len__(self) -> int:
        return len(self.xyxy)
