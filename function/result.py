"""The result of an audit: its types, its JSON, and what its JSON Schema says. Nothing does IO.

The types are the one place for a field. `function.schemas` reads the schema of the HTTP API and of
the events off them; docstrings and the dictionaries in `Annotated` give descriptions and bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, NotRequired, TypedDict

import numpy as np

from function.boxes import Floats, Ints
from function.detections import Detections, Thresholds
from function.shelf import ShelfAudit

Share = Annotated[float, {"minimum": 0, "maximum": 1}]
ShareOrNone = Annotated[float | None, {"minimum": 0, "maximum": 1}]
NonNegativeInt = Annotated[int, {"minimum": 0}]
Positive = Annotated[int, {"minimum": 1}]
# Of what was found in the picture; a slot of a reference may lie outside of it.
Box = Annotated[list[Annotated[float, {"minimum": 0}]], {"minItems": 4, "maxItems": 4}]
SlotBox = Annotated[list[float], {"minItems": 4, "maxItems": 4}]


class ImageJson(TypedDict):
    """The image as it was read."""

    uri: Annotated[str, {"description": "s3://bucket/key, empty for an upload"}]
    width: Positive
    height: Positive
    bytes: NonNegativeInt
    orientation: Annotated[
        int, {"minimum": 1, "maximum": 8, "description": "the EXIF value that was applied"}
    ]
    captured_at: NotRequired[
        Annotated[
            str,
            {
                "format": "date-time",
                "description": "when it was taken: EXIF's time where it is believable, else the "
                "upload; only of photos that came through a bucket",
            },
        ]
    ]


class ModelJson(TypedDict):
    """What looked at the image."""

    name: str
    digest: Annotated[str, {"pattern": "^sha256:[0-9a-f]{64}$"}]
    precision: str
    input: Annotated[list[Positive], {"minItems": 2, "maxItems": 2, "description": "width, height"}]
    cpu_isa: str
    revision: Annotated[str, {"description": "the Knative revision, empty outside Knative"}]


class DetectionJson(TypedDict):
    """One product."""

    label: str
    class_id: NonNegativeInt
    confidence: Share
    xyxy: Box
    row: Annotated[NonNegativeInt, {"description": "index of the row it stands on"}]


class RowJson(TypedDict):
    """One row."""

    index: Annotated[NonNegativeInt, {"description": "0 at the top"}]
    xyxy: Box
    count: Annotated[NonNegativeInt, {"description": "0 on a board of which only gaps are seen"}]
    fill_rate: Share


class GapJson(TypedDict):
    """One gap."""

    row: NonNegativeInt
    xyxy: Box
    facings: Annotated[
        float, {"exclusiveMinimum": 0, "description": "its width in products of that row"}
    ]
    confidence: Annotated[Share, {"description": "that products are missing there"}]
    origin: Annotated[
        Literal["seen", "inferred", "both"],
        {"description": "by the model, from the boxes of the row, or by both"},
    ]


class SlotJson(TypedDict):
    """A facing that is not as it should be, in pixels of this picture."""

    row: NonNegativeInt
    xyxy: SlotBox
    label: NotRequired[str]


class MovedJson(TypedDict):
    """A slot, and where its product stands."""

    row: NonNegativeInt
    slot: SlotBox
    xyxy: SlotBox


class PositionJson(SlotJson):
    """A position of the planogram, and what stands there."""

    id: Annotated[str, {"description": "the planogram's own"}]
    state: Annotated[str, {"enum": ["in_place", "moved", "missing"]}]
    product: NotRequired[SlotBox]


class RowDifferenceJson(TypedDict):
    """One row of the reference against what stands there."""

    index: NonNegativeInt
    expected: NonNegativeInt
    count: Annotated[NonNegativeInt, {"description": "expected, less the missing, plus the extra"}]
    missing: NonNegativeInt
    extra: NonNegativeInt
    moved: NonNegativeInt


class ComplianceJson(TypedDict):
    """The shelf compared with its reference, where there was one."""

    rate: Annotated[
        ShareOrNone,
        {"description": "share of the slots that hold their product; null without slots"},
    ]
    expected: Annotated[NonNegativeInt, {"description": "slots of the reference"}]
    in_place: NonNegativeInt
    shift: Annotated[
        list[float],
        {"minItems": 2, "maxItems": 2, "description": "how far the camera was nudged, in pixels"},
    ]
    missing: Annotated[
        list[SlotJson], {"description": "Slots without a product; rows are the reference's."}
    ]
    extra: Annotated[
        list[SlotJson],
        {"description": "Products without a slot; the row is that of the nearest slot."},
    ]
    moved: Annotated[list[MovedJson], {"description": "Products beside their slot."}]
    rows: Annotated[
        list[RowDifferenceJson], {"description": "The reference's rows, from the top down."}
    ]
    positions: NotRequired[
        Annotated[
            list[PositionJson],
            {"description": "Each position of a planogram, in reading order; slots have none."},
        ]
    ]


class ThresholdsJson(TypedDict):
    """What counted as a product."""

    confidence: float
    iou: float
    max_detections: Positive
    classes: NotRequired[
        Annotated[list[NonNegativeInt], {"description": "where the caller chose some"}]
    ]


class WarningJson(TypedDict):
    """What makes the count doubtful: it may be off by 15 % and more."""

    code: Annotated[
        str,
        {
            "description": "blurred, dark, overexposed, noisy, wide, small_products, unsure, "
            "truncated or nothing_found; more may come"
        },
    ]
    detail: str


class Result(TypedDict):
    """The audit of one image; boxes are [left, top, right, bottom] in pixels of the EXIF-turned
    image.

    It is the answer of /predict and the data of an audited event.
    """

    image: ImageJson
    model: ModelJson
    detections: Annotated[list[DetectionJson], {"description": "Products, best first."}]
    count: Annotated[NonNegativeInt, {"description": "how many detections there are"}]
    truncated: Annotated[bool, {"description": "more were found than max_detections"}]
    fill_rate: Annotated[
        ShareOrNone,
        {"description": "of the whole photo, rows weighed by width; null without rows"},
    ]
    rows: Annotated[list[RowJson], {"description": "Shelf rows from the top."}]
    gaps: Annotated[list[GapJson], {"description": "Room for products."}]
    warnings: Annotated[
        list[WarningJson], {"description": "What makes the count doubtful; empty for a good photo."}
    ]
    compliance: NotRequired[ComplianceJson]
    thresholds: ThresholdsJson
    looks: Annotated[
        Positive, {"description": "how often the model looked; again where it then sees more"}
    ]
    timings_ms: Annotated[
        dict[str, Annotated[float, {"minimum": 0}]], {"description": "Milliseconds a stage took."}
    ]


class AnnouncedJson(TypedDict):
    """The image as it was announced."""

    uri: Annotated[str, {"description": "s3://bucket/key"}]
    bytes: NotRequired[NonNegativeInt]


class ReasonJson(TypedDict):
    """The RFC 9457 problem of an image."""

    type: Annotated[str, {"pattern": "^urn:shelfwatch:problem:image-[a-z-]+$"}]
    title: str
    status: Annotated[int, {"minimum": 400, "maximum": 499}]
    detail: str


class Rejection(TypedDict):
    """Why one image can never be audited."""

    image: AnnouncedJson
    reason: ReasonJson


def make_result(
    image: ImageJson,
    model: ModelJson,
    names: Mapping[int, str],
    detections: Detections,
    audit: ShelfAudit,
    warnings: list[WarningJson],
    compliance: ComplianceJson | None,
    thresholds: Thresholds,
    looks: int,
    timings_ms: Mapping[str, float],
) -> Result:
    """Compose a result, its keys in the order of the type; `names` are the model's classes."""
    compared: dict[str, ComplianceJson] = {"compliance": compliance} if compliance else {}
    return {
        "image": image,
        "model": model,
        "detections": detections_json(detections, audit.row, names),
        "count": len(detections),
        "truncated": detections.truncated,
        "fill_rate": None if audit.fill_rate is None else round(audit.fill_rate, 3),
        "rows": rows_json(audit),
        "gaps": gaps_json(audit),
        "warnings": warnings,
        **compared,  # type: ignore[typeddict-item]  # mypy takes no optional key by unpacking
        "thresholds": thresholds_json(thresholds),
        "looks": looks,
        "timings_ms": dict(timings_ms),
    }


def detections_json(
    detections: Detections, row: Ints, names: Mapping[int, str]
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


def rows_json(audit: ShelfAudit) -> list[RowJson]:
    """Turn rows into JSON objects, pixels in tenths, fill rate in thousandths."""
    return [
        {
            "index": index,
            "xyxy": [round(edge, 1) for edge in row.xyxy],
            "count": row.count,
            "fill_rate": round(row.fill_rate, 3),
        }
        for index, row in enumerate(audit.rows)
    ]


def gaps_json(audit: ShelfAudit) -> list[GapJson]:
    """Turn gaps into JSON objects, pixels and facings in tenths."""
    return [
        {
            "row": gap.row,
            "xyxy": [round(edge, 1) for edge in gap.xyxy],
            "facings": max(round(gap.facings, 1), 0.1),
            "confidence": round(gap.confidence, 4),
            "origin": gap.origin,
        }
        for gap in audit.gaps
    ]


def thresholds_json(thresholds: Thresholds) -> ThresholdsJson:
    """Tell the thresholds; the classes only where some were chosen."""
    applied: ThresholdsJson = {
        "confidence": thresholds.confidence,
        "iou": thresholds.iou,
        "max_detections": thresholds.max_detections,
    }
    if thresholds.classes:
        applied["classes"] = list(thresholds.classes)
    return applied


def xyxy_json(xyxy: Floats) -> list[list[float]]:
    """Turn boxes (n, 4) into lists with a tenth of a pixel."""
    rounded: list[list[float]] = np.round(xyxy.astype(np.float64), 1).tolist()
    return rounded
