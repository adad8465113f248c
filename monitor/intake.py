"""What an event of the function says, compact: one audit of a photo, or that it was rejected. Pure.

The data are those of the event, or what its `dataref` names.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeGuard

import numpy as np
import numpy.typing as npt
from cloudevents.core.v1.event import CloudEvent

from events.codec import InvalidEvent, Json, data_of, shown
from events.types import DATA_SCHEMAS, IMAGE_REJECTED, MAX_GENERATION, SHELF_AUDITED
from function.boxes import box_area, shared_area
from monitor.fold import MAX_BOXES, Audit, Gap, pack
from monitor.register import View

# Whether a warning of the audit means that a gap of it may be none: such a photo changes nothing.
# A full shelf beyond the limit is what it is. Without a product there is no row, and so no gap: an
# empty shelf, or a trolley before the camera, would end all gaps as filled. Other words mean no.
DOUBTFUL: Mapping[str, bool] = {
    "blurred": True,
    "dark": True,
    "overexposed": True,
    "noisy": True,
    "wide": False,
    "small_products": False,
    "unsure": True,
    "truncated": False,
    "nothing_found": True,
}
MAX_SIDE = 2**31 - 1  # of a picture, in any format
# A gap that lies in a mask by half is none.
MASKED = 0.5
# A photo is of a shelf: more rows and facings than this are none, nor a number that SQL holds.
MAX_ROWS = MAX_FACINGS = 10_000
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 1, 1, tzinfo=UTC)
# The function believes a camera that is a minute ahead. One that were years ahead would have all
# photos after it come too late.
CLOCK_SKEW = timedelta(minutes=10)
S3_SOURCE = "urn:shelfwatch:s3:"


@dataclass(frozen=True)
class ViewKey:
    """Which view a photo is of: bucket and folder of its key."""

    bucket: str
    folder: str

    @property
    def id(self) -> str:
        """Name the view, 32 hex digits."""
        return hashlib.sha256(f"{self.bucket}\x00{self.folder}".encode()).hexdigest()[:32]


@dataclass(frozen=True, kw_only=True)
class IncomingAudit:
    """One audit as the store keeps it."""

    audit: Audit
    uri: str
    uploaded: int  # milliseconds since 1970
    count: int  # products
    empty: float  # facings, masks left out
    fill_rate: float | None
    warnings: tuple[str, ...]


def view_key(event: CloudEvent) -> ViewKey:
    """Read which view an event is about. Raises `InvalidEvent`."""
    source, key = event.get_source(), event.get_subject()
    bucket = source.removeprefix(S3_SOURCE)
    if bucket in (source, "") or not key:
        msg = f"Event {event.get_id()!r} is not about an object of S3"
        raise InvalidEvent(msg)
    return ViewKey(_text(bucket, "source"), _text(key, "subject").rpartition("/")[0])


def check_type(event: CloudEvent) -> bool:
    """Tell an audit from a rejection. Raises `InvalidEvent` for another type or schema."""
    kind = event.get_type()
    if kind not in (SHELF_AUDITED, IMAGE_REJECTED):
        msg = f"`type` must be {SHELF_AUDITED} or {IMAGE_REJECTED}, got {kind!r}"
        raise InvalidEvent(msg)
    if event.get_dataschema() != DATA_SCHEMAS[kind]:
        msg = f"`dataschema` must be {DATA_SCHEMAS[kind]!r}, got {event.get_dataschema()!r}"
        raise InvalidEvent(msg)
    return kind == SHELF_AUDITED


def uploaded_at(event: CloudEvent) -> int:
    """Read when the photo was uploaded, in milliseconds since 1970. Raises `InvalidEvent`."""
    time = event.get_time()
    if time is None or time.tzinfo is None:
        msg = f"Event {event.get_id()!r} has no time"
        raise InvalidEvent(msg)
    if not EARLIEST <= time <= LATEST:
        msg = f"`time` must be a time from {EARLIEST.year} to {LATEST.year}, got {time}"
        raise InvalidEvent(msg)
    return milliseconds(time)


def read_audit(event: CloudEvent, data: Json, view: View) -> IncomingAudit:
    """Read an audit. Raises `InvalidEvent` that names what is wrong."""
    image = data.get("image")
    if not isinstance(image, dict):
        msg = "The audit has no image"
        raise InvalidEvent(msg)
    size = np.array([_side(image, "width"), _side(image, "height")] * 2)
    uploaded = uploaded_at(event)
    products = _xyxy(data, "detections") / size
    gap_boxes = _xyxy(data, "gaps") / size
    free = ~_masked(gap_boxes, view)
    shares = np.frombuffer(pack(gap_boxes), "<u2").reshape(-1, 4).tolist()
    gaps: dict[tuple[int, int, int, int], Gap] = {}
    for entry, edges, is_free in zip(_list(data, "gaps"), shares, free.tolist(), strict=True):
        left, top, right, bottom = edges
        if is_free and left < right and top < bottom:
            row = _number(entry, "row", MAX_ROWS)
            facings = _number(entry, "facings", MAX_FACINGS)
            box = (left, top, right, bottom)
            gaps[box] = Gap(box=box, row=int(row), facings=float(facings))
    warnings = tuple(_codes(data))
    fill_rate = data.get("fill_rate")
    if fill_rate is not None and not _is_number(fill_rate, 1):
        msg = f"`fill_rate` must be a share from 0 to 1, got {shown(fill_rate)}"
        raise InvalidEvent(msg)
    return IncomingAudit(
        audit=Audit(
            photo=photo_of(event),
            generation=_generation(event),
            captured=_captured(image, uploaded),
            doubtful=any(DOUBTFUL.get(code, False) for code in warnings),
            products=pack(products),
            gaps=tuple(gaps.values()),
        ),
        uri=_text(str(image.get("uri", "")), "image.uri"),
        uploaded=uploaded,
        count=len(products),
        empty=round(sum(gap.facings for gap in gaps.values()), 1),
        fill_rate=float(fill_rate) if isinstance(fill_rate, int | float) else None,
        warnings=warnings,
    )


def milliseconds(time: datetime) -> int:
    """Count the milliseconds since 1970."""
    return round(time.timestamp() * 1000)


def photo_of(event: CloudEvent) -> str:
    """Name the photo: what all its audits share, else the audit itself."""
    return _text(str(event.get_extension("photo") or event.get_id()), "photo")


def reason_of(event: CloudEvent) -> str:
    """Name the problem of a rejected photo; empty where the event names none."""
    reason = data_of(event).get("reason")
    return _text(str(reason.get("type", "")), "reason.type") if isinstance(reason, dict) else ""


def _generation(event: CloudEvent) -> int:
    given = event.get_extension("auditgeneration") or 0
    text = str(given)
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) <= MAX_GENERATION):
        msg = (
            f"`auditgeneration` must be a whole number from 0 to {MAX_GENERATION}, "
            f"got {shown(given)}"
        )
        raise InvalidEvent(msg)
    return int(text)


def _captured(image: Mapping[str, object], uploaded: int) -> int:
    given = image.get("captured_at")
    if given is None:
        return uploaded
    try:
        time = datetime.fromisoformat(str(given))
    except ValueError:
        time = datetime.min
    if time.tzinfo is None:
        msg = f"`image.captured_at` must be a time with its zone, got {shown(given)}"
        raise InvalidEvent(msg)
    upload = EARLIEST + timedelta(milliseconds=uploaded)
    if not EARLIEST <= time <= upload + CLOCK_SKEW:
        msg = f"`image.captured_at` must not be after the upload, {upload}, got {shown(given)}"
        raise InvalidEvent(msg)
    return milliseconds(time)


def _text(given: str, name: str) -> str:
    """Take a text that any database holds. Raises `InvalidEvent` that names it."""
    try:
        given.encode()
    except UnicodeEncodeError:
        pass
    else:
        if "\0" not in given:
            return given
    msg = f"`{name}` must be Unicode text without NUL, got {shown(given)}"
    raise InvalidEvent(msg)


def _side(image: Mapping[str, object], name: str) -> int:
    side = image.get(name)
    if type(side) is not int or not 1 <= side <= MAX_SIDE:
        msg = f"`image.{name}` must be a number of pixels from 1 to {MAX_SIDE}, got {shown(side)}"
        raise InvalidEvent(msg)
    return side


def _list(data: Mapping[str, object], name: str) -> list[Mapping[str, object]]:
    items = data.get(name)
    if not isinstance(items, list) or len(items) > MAX_BOXES:
        got = len(items) if isinstance(items, list) else shown(items)
        msg = f"`{name}` must be a list of at most {MAX_BOXES}, got {got}"
        raise InvalidEvent(msg)
    for item in items:
        if not isinstance(item, dict):
            msg = f"`{name}` must be a list of objects, got {shown(item)} in it"
            raise InvalidEvent(msg)
    return items


def _xyxy(data: Mapping[str, object], name: str) -> npt.NDArray[np.float64]:
    items = _list(data, name)
    try:
        boxes = np.array([item["xyxy"] for item in items], np.float64)
        boxes = boxes.reshape(len(items), 4)
    except (KeyError, TypeError, ValueError, OverflowError):
        boxes = np.full((1, 4), np.nan)
    if not np.isfinite(boxes).all():
        odd = next((xyxy for item in items if not _is_box(xyxy := item.get("xyxy"))), None)
        msg = f"`xyxy` of each of `{name}` must be four numbers, got {shown(odd)}"
        raise InvalidEvent(msg)
    return boxes


def _is_box(xyxy: object) -> bool:
    return (
        isinstance(xyxy, list)
        and len(xyxy) == 4
        and all(type(edge) in (int, float) and abs(edge) < math.inf for edge in xyxy)
    )


def _masked(boxes: npt.NDArray[np.float64], view: View) -> npt.NDArray[np.bool_]:
    masks = np.array(view.masks, np.float64).reshape(-1, 4)
    shared = shared_area(boxes[:, None], masks).max(axis=1, initial=0.0)
    return np.asarray((shared > 0) & (shared >= MASKED * box_area(boxes)))


def _number(entry: Mapping[str, object], name: str, high: int) -> float:
    value = entry.get(name)
    if not _is_number(value, high):
        msg = f"`{name}` of a gap must be a number from 0 to {high}, got {shown(value)}"
        raise InvalidEvent(msg)
    return value


def _is_number(value: object, high: int) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= high


def _codes(data: Mapping[str, object]) -> list[str]:
    warnings = data.get("warnings", [])
    if not isinstance(warnings, list):
        return []
    codes = {str(w.get("code", "")) for w in warnings if isinstance(w, dict)}
    return sorted(_text(code, "warnings") for code in codes)
