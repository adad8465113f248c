"""A shelf compared with how it should stand: what is missing, extra or moved. Pure; no IO.

A reference is an earlier result of ours, bare or as it came, or slots: `{"slots": [{"xyxy": [0.1,
0.2, 0.14, 0.3], "row": 0, "label": "cola"}, …]}` with corners as shares of the picture's width and
height, `row` and `label` optional. Or it is a planogram as Azure's product recognition took it,
with `width`, `height`, `products`, `fixtures` and `positions` in units of its own:
https://learn.microsoft.com/azure/ai-services/computer-vision/how-to/shelf-planogram
One slot, or position, holds one facing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeGuard

import numpy as np
import numpy.typing as npt

from events.codec import shown
from function.boxes import Floats, Ints, match_one_to_one, pairwise_iou
from function.detections import Detections
from function.errors import InvalidParameter, InvalidReference
from function.parameters import check_json, kind
from function.result import (
    ComplianceJson,
    PositionJson,
    RowDifferenceJson,
    SlotJson,
    xyxy_json,
)
from function.rows import SIDE_OVERLAP, group_rows

# A product is in place when it covers half of what it and its slot cover together; a neighbour that
# slid into the slot covers less.
IN_PLACE_IOU = 0.5
# The camera may have been nudged: boxes that still overlap their slots by a fifth say how far, by
# their median.
NUDGE_IOU = 0.2
# A product that stands up to one facing beside its empty slot was moved; further off it is another.
MOVED_FACINGS = 1.0
# A planogram is a drawing: it lies over the photo as it is, or stretched until its outer edges meet
# those of the products, and is then drawn closer by the matches it has; two rounds settle it.
FIT_ROUNDS = 2
# Fewer matches say nothing of a scale.
FIT_MATCHES = 4
NO_CLASS = -1  # of a label that the model does not know
# Twice the products of the fullest shelf that was labelled, and room: comparing takes the square of
# it in memory. The bytes of an earlier result with so many.
MAX_SLOTS = 1500
MAX_LABEL = 100  # characters
FORMS = {"slots", "detections", "positions"}
# An event has a result as its data, an outcome of a batch or of a folder as its result; the body
# that Azure took has a planogram.
WRAPPERS = ("data", "result", "planogram")
# What nothing measures in any unit; JSON's whole numbers have no end, and arrays have one.
MAX_MEASURE = 1e9
# How often a planogram its positions may lie beside it; the products of a shelf hang over a little.
MAX_OVERHANG = 10
MAX_REFERENCE_BYTES = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Where facings should stand; parallel arrays, shares of the picture."""

    xyxy: Floats  # (n, 4), 0 to 1
    row: Ints  # (n,), 0 at the top; all -1 where the boxes are to say it
    label: tuple[str, ...]  # (n,), "" takes any product
    position: tuple[str, ...] | None = None  # (n,), ids of a planogram's positions, not of slots
    # (e, 4) and (e,), boards of an earlier result on which nothing stood
    empty_xyxy: Floats = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    empty_row: Ints = field(default_factory=lambda: np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.row)

    def in_rows(self) -> Reference:
        """Give the slots in reading order, rows worked out where none were given."""
        row = group_rows(self.xyxy)[0] if (self.row < 0).any() else self.row
        order = np.lexsort((self.xyxy[:, 0], row)).tolist()
        position = self.position and tuple(self.position[i] for i in order)
        label = tuple(self.label[i] for i in order)
        return replace(self, xyxy=self.xyxy[order], row=row[order], label=label, position=position)


def parse_reference(body: bytes) -> Reference:
    """Read a reference from JSON. Raises `InvalidReference`."""
    if len(body) > MAX_REFERENCE_BYTES:
        msg = f"The reference must have at most {MAX_REFERENCE_BYTES} bytes, got {len(body)}"
        raise InvalidReference(msg)
    try:
        check_json(body, "The reference")
        return read_reference(json.loads(body))
    except InvalidParameter as err:
        raise InvalidReference(str(err)) from err
    except (ValueError, RecursionError) as err:
        msg = f"The reference must be JSON, got {shown(body)}"
        raise InvalidReference(msg) from err


def read_reference(data: object) -> Reference:
    """Read an earlier result, slots or a planogram, bare or wrapped as they come.

    Raises `InvalidReference` that names what is wrong.
    """
    if not isinstance(data, Mapping):
        msg = f"The reference must be a JSON object, got {kind(data)}"
        raise InvalidReference(msg)
    for wrapper in WRAPPERS:
        if wrapper in data and not data.keys() & FORMS:
            data = data[wrapper]
            if not isinstance(data, Mapping):
                msg = f"The reference's {wrapper} must be a JSON object, got {kind(data)}"
                raise InvalidReference(msg)
    if "positions" in data:
        return _from_planogram(data)
    if "slots" in data:
        return _from_slots(_list_of(data, "slots"), np.ones(2))
    if "detections" in data:
        image = data.get("image")
        size = [image.get(side) for side in ("width", "height")] if isinstance(image, dict) else []
        if not size or not all(type(side) is int and 0 < side < MAX_MEASURE for side in size):
            must_have = "a width and a height in pixels"
            msg = f"The reference's image must have {must_have}, got {shown(image)}"
            raise InvalidReference(msg)
        in_pixels = np.array(size, np.float64)
        slots = _from_slots(_list_of(data, "detections"), in_pixels)
        return _with_empty_rows(slots, data, in_pixels) if "rows" in data else slots
    msg = f"The reference must have slots, detections or positions, got {shown(list(data))}"
    raise InvalidReference(msg)


def _list_of(data: Mapping[str, object], name: str) -> Sequence[object]:
    items = data.get(name)
    if not isinstance(items, list) or len(items) > MAX_SLOTS:
        msg = f"The reference's {name} must be a list of at most {MAX_SLOTS}, got {kind(items)}"
        raise InvalidReference(msg)
    return items


def _from_slots(slots: Sequence[object], size: npt.NDArray[np.float64]) -> Reference:
    # Equal slots are one.
    distinct: dict[tuple[tuple[float, ...], int | None, str], None] = {}
    for index, slot in enumerate(slots):
        if not isinstance(slot, Mapping):
            msg = f"Slot {index} of the reference must be an object, got {kind(slot)}"
            raise InvalidReference(msg)
        corners = _corners(slot.get("xyxy"), f"slot {index}")
        given, label = slot.get("row"), slot.get("label", "")
        if not (given is None or (type(given) is int and 0 <= given < MAX_SLOTS)):
            msg = f"`row` of slot {index} must be a number from 0, got {shown(given)}"
            raise InvalidReference(msg)
        distinct[tuple(corners), given, _label(label, f"`label` of slot {index}")] = None
    boxes, rows, labels = zip(*distinct, strict=True) if distinct else ((), (), ())
    xyxy = (np.array(boxes, np.float64).reshape(-1, 4) / np.tile(size, 2)).astype(np.float32)
    if xyxy.size and not (xyxy.min() >= 0 and xyxy.max() <= 1):
        got = f"{xyxy.min():g} to {xyxy.max():g}"
        msg = f"The corners of each slot must lie in the picture, as shares from 0 to 1, got {got}"
        raise InvalidReference(msg)
    known = [row for row in rows if row is not None]
    numbered = len(known) == len(rows)
    row = np.array(known, np.int64) if numbered else np.full(len(rows), -1)
    return Reference(xyxy=xyxy, row=row, label=labels)


def _with_empty_rows(
    slots: Reference, data: Mapping[str, object], size: npt.NDArray[np.float64]
) -> Reference:
    """Add the rows of an earlier result that held nothing; its slots know their rows by number."""
    boxes: list[list[float]] = []
    numbers: list[int] = []
    for number, row in enumerate(_list_of(data, "rows")):
        if isinstance(row, Mapping) and row.get("count") == 0:
            boxes.append(_corners(row.get("xyxy"), f"row {number}"))
            numbers.append(number)
    if (slots.row < 0).any():
        return slots
    xyxy = np.array(boxes, np.float64).reshape(-1, 4) / np.tile(size, 2)
    return replace(slots, empty_xyxy=xyxy.astype(np.float32), empty_row=np.array(numbers, np.int64))


def _label(text: object, where: str) -> str:
    if not isinstance(text, str) or len(text) > MAX_LABEL:
        got = len(text) if isinstance(text, str) else shown(text)
        msg = f"{where} must be a text of at most {MAX_LABEL} characters, got {got}"
        raise InvalidReference(msg)
    return text


def _from_planogram(data: Mapping[str, object]) -> Reference:
    """Read positions as slots; the boards of a shelf are its rows, where fixtures are boards."""
    sides = [_measure(data, side, "the planogram") for side in ("width", "height")]
    size = np.array(sides, np.float32)
    products = _by_id(data, "products", ("w", "h"))
    fixtures = _by_id(data, "fixtures", ("x", "y", "w", "h"))
    positions = _by_id(data, "positions", ("x", "y"))
    boxes: list[list[float]] = []
    tops: list[float] = []
    labels: list[str] = []
    for name, position in positions.items():
        where = f"position {name!r}"
        product = _part_of(position, "productId", products, where)
        fixture = _part_of(position, "fixtureId", fixtures, where)
        left, top = _measure(position, "x", where), _measure(position, "y", where)
        width, height = (_measure(product, side, where) for side in ("w", "h"))
        boxes.append([left, top, left + width, top + height])
        tops.append(_measure(fixture, "y", where))
        labels.append(_label(product.get("name", ""), f"`name` of the product of {where}"))
    xyxy = np.array(boxes, np.float32).reshape(-1, 4)
    least = float(np.concatenate((size[None], xyxy[:, 2:] - xyxy[:, :2])).min())
    if least <= 0:
        msg = f"The planogram and its products must be wider and higher than 0, got {least:g}"
        raise InvalidReference(msg)
    beside = np.abs(xyxy) > MAX_OVERHANG * np.tile(size, 2)
    if beside.any():
        got = f"{xyxy[beside][0]:g} in one of {size[0]:g} x {size[1]:g}"
        msg = f"The positions of the planogram must lie in it, got {got}"
        raise InvalidReference(msg)
    shares = (xyxy / np.tile(size, 2)).astype(np.float32)
    boards = np.array(tops)
    stands_on_boards = bool((xyxy[:, 1::2].mean(axis=1) <= boards).all())
    row = np.unique(boards, return_inverse=True)[1]
    row = np.asarray(row if stands_on_boards else np.full(len(boards), -1), np.int64)
    return Reference(xyxy=shares, row=row, label=tuple(labels), position=tuple(positions))


def _by_id(
    data: Mapping[str, object], name: str, measures: tuple[str, ...]
) -> dict[str, Mapping[str, object]]:
    """Read one of a planogram's lists; its items are known by their ids."""
    items: dict[str, Mapping[str, object]] = {}
    for index, item in enumerate(_list_of(data, name)):
        known = item.get("id") if isinstance(item, Mapping) else None
        if not isinstance(item, Mapping) or not isinstance(known, str) or known in items:
            got = shown(known) if isinstance(item, Mapping) else kind(item)
            msg = f"Item {index} of the planogram's {name} must have an id of its own, got {got}"
            raise InvalidReference(msg)
        _label(known, f"`id` of item {index} of the planogram's {name}")
        for measure in measures:
            _measure(item, measure, f"{known!r} in `{name}`")
        items[known] = item
    return items


def _part_of(
    position: Mapping[str, object],
    name: str,
    parts: Mapping[str, Mapping[str, object]],
    where: str,
) -> Mapping[str, object]:
    part = position.get(name)
    if not (isinstance(part, str) and part in parts):
        msg = f"`{name}` of {where} must be the id of another part, got {shown(part)}"
        raise InvalidReference(msg)
    return parts[part]


def _measure(item: Mapping[str, object], name: str, where: str) -> float:
    value = item.get(name)
    if not _is_measure(value):
        msg = f"`{name}` of {where} must be a number, got {shown(value)}"
        raise InvalidReference(msg)
    return float(value)


def _is_measure(value: object) -> TypeGuard[float]:
    """Tell a number of a size that arrays can hold; NaN is none."""
    return isinstance(value, int | float) and type(value) is not bool and abs(value) < MAX_MEASURE


def _corners(xyxy: object, where: str) -> list[float]:
    if (
        not isinstance(xyxy, list)
        or len(xyxy) != 4
        or not all(map(_is_measure, xyxy))
        or not (xyxy[0] < xyxy[2] and xyxy[1] < xyxy[3])
    ):
        msg = f"`xyxy` of {where} must be left, top, right, bottom, got {shown(xyxy)}"
        raise InvalidReference(msg)
    return xyxy


def compare(
    detections: Detections, names: Mapping[int, str], reference: Reference, width: int, height: int
) -> ComplianceJson:
    """Find which slots hold their product, and which products have no slot.

    Slots and products are matched one to one, the best overlap first, after the median shift of
    those that overlap is taken back. Takes the size of the image in pixels.
    """
    reference = reference.in_rows()
    size = np.array((width, height, width, height), np.float32)
    slots = reference.xyxy * size
    allowed = _allowed(reference, detections, names)
    if reference.position is not None:
        slots = _fit(slots, detections.xyxy, allowed)
    shift = _shift(slots, detections.xyxy, allowed)
    slots = slots + np.tile(shift, 2)
    in_place = match_one_to_one(
        np.where(allowed, pairwise_iou(slots, detections.xyxy), 0), IN_PLACE_IOU
    )
    free = allowed.copy()
    for slot, product in in_place:
        free[slot], free[:, product] = False, False
    nearness = np.where(free, _nearness(slots, detections.xyxy), -1)
    moved = sorted(match_one_to_one(nearness, 1 - MOVED_FACINGS))
    matched = in_place + moved
    missing = sorted(set(range(len(slots))) - {slot for slot, _ in matched})
    extra = sorted(set(range(len(detections))) - {product for _, product in matched})
    extra_row = _rows_of_nearest(slots, reference.row, detections.xyxy[extra])
    empty = reference.empty_xyxy * size + np.tile(shift, 2)
    for number, board in zip(reference.empty_row.tolist(), empty, strict=True):
        extra_row[_stands_on(detections.xyxy[extra], board)] = number
    boxes, products = xyxy_json(slots), xyxy_json(detections.xyxy)
    labels = [names.get(cls, str(cls)) for cls in detections.class_id.tolist()]
    rows = reference.row.tolist()
    extra_slots = [
        _slot_json(row, products[j], labels[j])
        for row, j in zip(extra_row.tolist(), extra, strict=True)
    ]
    answered: dict[str, list[PositionJson]] = {}
    if reference.position is not None:
        answered["positions"] = [
            {"id": name, **_slot_json(rows[i], boxes[i], reference.label[i]), "state": "missing"}  # type: ignore[typeddict-item]  # mypy takes no optional key by unpacking
            for i, name in enumerate(reference.position)
        ]
        for state, matches in (("in_place", in_place), ("moved", moved)):
            for i, j in matches:
                answered["positions"][i].update({"state": state, "product": products[j]})
    return {
        "rate": round(len(in_place) / len(slots), 3) if len(slots) else None,
        "expected": len(slots),
        "in_place": len(in_place),
        "shift": [round(pixels, 1) for pixels in shift.tolist()],
        "missing": [_slot_json(rows[i], boxes[i], reference.label[i]) for i in missing],
        "extra": sorted(extra_slots, key=lambda slot: (slot["row"], slot["xyxy"])),
        "moved": [{"row": rows[i], "slot": boxes[i], "xyxy": products[j]} for i, j in moved],
        "rows": _row_differences(
            int(np.concatenate((reference.row, reference.empty_row)).max(initial=-1)),
            reference.row,
            reference.row[np.array(missing, np.int64)],
            extra_row,
            reference.row[np.array([slot for slot, _ in moved], np.int64)],
        ),
        **answered,  # type: ignore[typeddict-item]  # mypy takes no optional key by unpacking
    }


def _fit(slots: Floats, products: Floats, allowed: npt.NDArray[np.bool_]) -> Floats:
    """Lay a planogram's slots (n, 4) over the photo, each axis with a scale and an offset."""
    if not (len(slots) and len(products)):
        return slots
    best, most = slots, -1.0
    for start in (slots, _stretched(slots, products)):
        laid = start
        for _ in range(FIT_ROUNDS + 1):
            score = np.where(allowed, pairwise_iou(laid, products), 0)
            matches = match_one_to_one(score, NUDGE_IOU)
            here, there = np.array(matches, np.int64).reshape(-1, 2).T
            covered = float(score[here, there].sum())
            if covered > most:
                best, most = laid, covered
            if len(matches) < FIT_MATCHES:
                break
            edges = [_line(laid[here], products[there], laid, axis) for axis in (0, 1)]
            laid = np.stack((edges[0][0], edges[1][0], edges[0][1], edges[1][1]), axis=1)
    return best


def _stretched(slots: Floats, products: Floats) -> Floats:
    low, high = slots[:, :2].min(axis=0), slots[:, 2:].max(axis=0)
    to_low, to_high = products[:, :2].min(axis=0), products[:, 2:].max(axis=0)
    scale = (to_high - to_low) / (high - low)
    return np.asarray((slots - np.tile(low, 2)) * np.tile(scale, 2) + np.tile(to_low, 2))


def _line(here: Floats, there: Floats, slots: Floats, axis: int) -> Floats:
    """Move both edges of slots along the line from boxes to boxes, (2, n), as the most of them say.

    Medians, as a product that was pushed aside must not pull the others along.
    """
    start, end = ((boxes[:, axis] + boxes[:, axis + 2]) / 2 for boxes in (here, there))
    order, half = np.argsort(start), len(start) // 2
    far = start[order[half:]] - start[order[: len(order) - half]]
    step = end[order[half:]] - end[order[: len(order) - half]]
    apart = far > 1  # pixel; the products of one board are of one height, which tells no scale
    scale = np.median(step[apart] / far[apart]) if apart.any() else 1.0
    edges = slots[:, axis::2].T
    return np.asarray(edges * scale + np.median(end - start * scale), np.float32)


def _shift(slots: Floats, products: Floats, allowed: npt.NDArray[np.bool_]) -> Floats:
    """Measure how far the camera was nudged, (2,) pixels, by the slots that still overlap."""
    matches = match_one_to_one(np.where(allowed, pairwise_iou(slots, products), 0), NUDGE_IOU)
    if not matches:
        return np.zeros(2, np.float32)
    here, there = np.array(matches).T
    away = products[there] - slots[here]
    return np.asarray(np.median((away[:, :2] + away[:, 2:]) / 2, axis=0), np.float32)


def _allowed(
    reference: Reference, detections: Detections, names: Mapping[int, str]
) -> npt.NDArray[np.bool_]:
    """Tell which products may fill which slots, (slots, products).

    A model of one class knows no labels, so that every product may fill every slot.
    """
    if len(names) <= 1:
        return np.ones((len(reference.label), len(detections)), np.bool_)
    ids = {name: class_id for class_id, name in names.items()}
    wanted = np.array([ids.get(label, NO_CLASS) for label in reference.label], np.int64)[:, None]
    any_product = np.array([not label for label in reference.label], np.bool_)[:, None]
    return np.asarray(any_product | (wanted == detections.class_id))


def _nearness(slots: Floats, products: Floats) -> Floats:
    """Give 1 for a product at its slot's middle, 0 one facing beside it, (slots, products)."""
    step = (products[:, 0] + products[:, 2]) / 2 - (slots[:, 0] + slots[:, 2])[:, None] / 2
    facings = np.abs(step) / (slots[:, 2] - slots[:, 0])[:, None]
    shared = np.minimum(slots[:, 3, None], products[:, 3]) - np.maximum(
        slots[:, 1, None], products[:, 1]
    )
    lower = np.minimum((slots[:, 3] - slots[:, 1])[:, None], products[:, 3] - products[:, 1])
    return np.where(shared >= SIDE_OVERLAP * lower, 1 - facings, -1)


def _rows_of_nearest(slots: Floats, row: Ints, products: Floats) -> Ints:
    """Give each product the row of the slot it stands nearest to, (products,); 0 without slots."""
    if not len(slots):
        return np.zeros(len(products), np.int64)
    step = ((slots[:, :2] + slots[:, 2:])[:, None] - (products[:, :2] + products[:, 2:])) / 2
    return np.asarray(row[np.square(step).sum(axis=2).argmin(axis=0)])


def _stands_on(products: Floats, board: Floats) -> npt.NDArray[np.bool_]:
    """Tell which products (n, 4) stand where a board (4,) was empty, and not in the next bay."""
    middle = (products[:, 1] + products[:, 3]) / 2
    beside = (products[:, 2] <= board[0]) | (products[:, 0] >= board[2])
    return np.asarray((board[1] <= middle) & (middle <= board[3]) & ~beside)


def _slot_json(row: int, xyxy: list[float], label: str) -> SlotJson:
    return {"row": row, "xyxy": xyxy, "label": label} if label else {"row": row, "xyxy": xyxy}


def _row_differences(
    last: int, slot: Ints, missing: Ints, extra: Ints, moved: Ints
) -> list[RowDifferenceJson]:
    """Count by row of the reference, up to the `last`; arrays hold rows of slots or products."""
    rows = max(last, int(extra.max(initial=-1))) + 1
    expected, gone, added, aside = (
        np.bincount(row, minlength=rows).tolist() for row in (slot, missing, extra, moved)
    )
    return [
        {
            "index": index,
            "expected": expected[index],
            "count": expected[index] - gone[index] + added[index],
            "missing": gone[index],
            "extra": added[index],
            "moved": aside[index],
        }
        for index in range(rows)
    ]
