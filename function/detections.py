"""Detections and the audit result as frozen values, and their JSON. Nothing here does IO."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NotRequired, TypedDict

import numpy as np

from function.boxes import Floats, Ints
from function.errors import InvalidParameter, Problem

# The bounds of what a caller may ask for. Below 0.001 every anchor is a detection; a crowded
# shelf of SKU-110K holds up to 759 products, so 3000 leaves room and bounds the answer.
MIN_CONFIDENCE = 0.001
MAX_DETECTIONS = 3000


@dataclass(frozen=True)
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
        msg = f"{name} is {value!r}, not between {low} and {high}"
        raise InvalidParameter(msg)


@dataclass(frozen=True)
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


class DetectionJson(TypedDict):
    """One product, and the index of the shelf row that it stands on."""

    label: str
    class_id: int
    confidence: float
    xyxy: list[float]
    row: int


class ImageJson(TypedDict):
    """The image as it was read; a rejected one may have no more than its uri."""

    uri: str
    width: NotRequired[int]
    height: NotRequired[int]
    bytes: NotRequired[int]
    orientation: NotRequired[int]


class ModelJson(TypedDict):
    """What looked at the image."""

    name: str
    digest: str
    precision: str
    input: list[int]
    cpu_isa: str
    revision: str


class RowJson(TypedDict):
    """One shelf row, index 0 at the top."""

    index: int
    xyxy: list[float]
    count: int
    fill_rate: float


class GapJson(TypedDict):
    """Room for products in a row, its width in facings of that row."""

    row: int
    xyxy: list[float]
    facings: float


class SlotJson(TypedDict):
    """A facing that is not as it should be, in pixels of this picture."""

    row: int
    xyxy: list[float]
    label: NotRequired[str]


class MovedJson(TypedDict):
    """A facing that stands beside its slot."""

    row: int
    slot: list[float]
    xyxy: list[float]


class RowDifferenceJson(TypedDict):
    """One row of the reference against what stands there."""

    index: int
    expected: int
    count: int
    missing: int
    extra: int
    moved: int


class ComplianceJson(TypedDict):
    """How far a shelf is as its reference says."""

    rate: float | None  # slots in place, of all; None where the reference has no slot
    expected: int
    in_place: int
    shift: list[float]  # of the camera, in pixels
    missing: list[SlotJson]
    extra: list[SlotJson]
    moved: list[MovedJson]
    rows: list[RowDifferenceJson]


class ThresholdsJson(TypedDict):
    """The thresholds that made the result."""

    confidence: float
    iou: float
    max_detections: int
    classes: NotRequired[list[int]]  # where the caller chose some


class Result(TypedDict):
    """The audit of one image: the answer of /predict and the data of an audited event."""

    image: ImageJson
    model: ModelJson
    detections: list[DetectionJson]
    count: int
    truncated: bool
    fill_rate: float | None
    rows: list[RowJson]
    gaps: list[GapJson]
    compliance: NotRequired[ComplianceJson]  # where there was a reference
    thresholds: ThresholdsJson
    timings_ms: dict[str, float]


class Rejection(TypedDict):
    """The data of a rejected event: why this image can never be audited."""

    image: ImageJson
    reason: Problem


def thresholds_json(thresholds: Thresholds) -> ThresholdsJson:
    """Tell the thresholds; the classes only where some were chosen."""
    told: ThresholdsJson = {
        "confidence": thresholds.confidence,
        "iou": thresholds.iou,
        "max_detections": thresholds.max_detections,
    }
    if thresholds.classes:
        told["classes"] = list(thresholds.classes)
    return told


def xyxy_json(xyxy: Floats) -> list[list[float]]:
    """Turn boxes (n, 4) into lists with a tenth of a pixel."""
    rounded: list[list[float]] = np.round(xyxy.astype(np.float64), 1).tolist()
    return rounded


def detections_json(
    detections: Detections, row: Ints, names: dict[int, str]
) -> list[DetectionJson]:
    """Turn detections and their rows (n,) into JSON; a class without a name goes by its number."""
    confidence = np.round(detections.confidence.astype(np.float64), 4).tolist()
    class_id, xyxy = detections.class_id.tolist(), xyxy_json(detections.xyxy)
    return [
        {
            "label": names.get(cls, str(cls)),
            "class_id": cls,
            "confidence": score,
            "xyxy": corners,
            "row": index,
        }
        for corners, score, cls, index in zip(xyxy, confidence, class_id, row.tolist(), strict=True)
    ]
