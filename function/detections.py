"""The detections of an image, and the thresholds behind them, as frozen values; no IO."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

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

Detail = Literal["fast", "auto", "fine"]
DETAILS: tuple[Detail, ...] = get_args(Detail)


def read_detail(name: str, value: object) -> Detail:
    """Read how closely to look. Raises `InvalidParameter` that calls the value by its name."""
    for detail in DETAILS:
        if value == detail:
            return detail
    msg = f"`{name}` must be one of {', '.join(DETAILS)}, got {value!r}"
    raise InvalidParameter(msg)


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """What counts as a detection, and how closely to look.

    Raises `InvalidParameter` for a value out of bounds.
    """

    confidence: float = 0.25
    iou: float = 0.6  # 0.3 merges neighbouring facings, 0.7 leaves doubles
    max_detections: int = 1000
    classes: tuple[int, ...] = ()  # class ids that count; none: all of them
    # fast: one look; auto: a second one where products are small or large; fine: at tiles, too
    detail: Detail = "auto"

    def __post_init__(self) -> None:
        _within("confidence", self.confidence, MIN_CONFIDENCE, 1)
        _within("iou", self.iou, 0, 1)
        _within("max_detections", self.max_detections, 1, MAX_DETECTIONS)

    def broad(self) -> Thresholds:
        """Ask for all that counts by default, and for no less than a caller wants."""
        least = min(self.confidence, Thresholds.confidence)
        return replace(self, confidence=least, max_detections=MAX_DETECTIONS)


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # NaN is not within anything
        msg = f"`{name}` must be {MUST_BE[name]}, got {value!r}"
        raise InvalidParameter(msg)


def _no_boxes() -> Floats:
    return np.zeros((0, 4), np.float32)


def _no_scores() -> Floats:
    return np.zeros(0, np.float32)


@dataclass(frozen=True, kw_only=True)
class Detections:
    """Products found in one image, best first, and the gaps that were seen; parallel arrays."""

    xyxy: Floats  # (n, 4), corners in pixels of the EXIF-turned image
    confidence: Floats  # (n,)
    class_id: Ints  # (n,)
    truncated: bool = False  # more were found than max_detections allowed
    # (m, 4), boxes that do not count, yet nothing is empty there: too faint, not asked for, or more
    # than were
    faint: Floats = field(default_factory=_no_boxes)
    faint_confidence: Floats = field(default_factory=_no_scores)  # (m,)
    sees_gaps: bool = False  # whether the model has a class for them
    # (g, 4) and (g,), best first
    gap_xyxy: Floats = field(default_factory=_no_boxes)
    gap_confidence: Floats = field(default_factory=_no_scores)

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

    @property
    def by_default(self) -> tuple[Floats, Floats]:
        """Boxes (n, 4) and confidences (n,) that count unless a caller says otherwise."""
        confidence = np.concatenate((self.confidence, self.faint_confidence))
        counts = confidence >= Thresholds.confidence
        return np.concatenate((self.xyxy, self.faint))[counts], confidence[counts]

    def asked(self, thresholds: Thresholds) -> Detections:
        """Leave what was asked for, of all that counts by default; nothing is empty at the rest."""
        sure = self.confidence >= thresholds.confidence
        kept = sure & (sure.cumsum() <= thresholds.max_detections)
        return replace(
            self,
            xyxy=self.xyxy[kept],
            confidence=self.confidence[kept],
            class_id=self.class_id[kept],
            truncated=self.truncated or bool((sure & ~kept).any()),
            faint=np.concatenate((self.xyxy[~kept], self.faint)),
            faint_confidence=np.concatenate((self.confidence[~kept], self.faint_confidence)),
        )

    def moved(self, right: int, down: int) -> Detections:
        """Move all boxes by so many pixels."""
        by = np.array([right, down] * 2, np.float32)
        return replace(
            self, xyxy=self.xyxy + by, faint=self.faint + by, gap_xyxy=self.gap_xyxy + by
        )
