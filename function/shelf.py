"""The shelf audit: rows, counts, gaps, fill rate. Pure; nothing here does IO.

`function.rows` says which row each product stands on and levels the boxes. Gaps come from two
sides: those that the model saw, set into rows, and the spaces in a row that would take a product as
wide as its neighbours and that nothing stands in. A space alone says little where a model that sees
gaps saw none; the two together say more than either. A model without a class for gaps leaves it to
the spaces.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import median
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from function.boxes import Floats, Ints, pairwise_iou
from function.detections import Detections
from function.rows import TINY, Doubles, Level, group_rows, medians

Origin = Literal["seen", "inferred", "both"]
Corners = tuple[float, float, float, float]

# Products are pushed together when another is to go in, and boxes are a little loose, so a space of
# seven tenths of a facing takes one. Narrow products stand further apart for their width than wide
# ones, hence the allowance (share of the shelf's longer side: 6 pixels of 640). Both lie where F1
# is highest on labelled photos and drawn shelves (model/evaluate_shelf.py).
GAP_FACINGS = 0.7
GAP_ALLOWANCE = 0.01
# None of the wider spaces on labelled photos was a gap: those are pillars, signs, another display.
MAX_GAP_FACINGS = 8.0
# What lies beyond a row's last product is more often no shelf at all.
MAX_END_FACINGS = 4.0
# A facing is the median width of the two nearest products on each side.
FACING_SPAN = 2
# Rows with fewer products say nothing about where a shelf ends.
MIN_ROW = 3
# The shelf runs out of the picture when half of its rows come within half a facing of the border.
BORDER_FACINGS = 0.5
BORDER_ROWS = 0.5
# Else it ends where the next two rows above and below all go on to.
NEXT_ROWS = 2
# A fifth of a gap may be hidden by what stands beside or leans into it.
MAX_OCCUPIED = 0.2
# Neighbours of a gap, for its height: whatever ends within half a facing of it.
BESIDE_FACINGS = 0.5

# What is below is of gaps that the model saw; the numbers are where F1 is highest on the first 80
# labelled photos (model/evaluate_shelf.py).
# A box fainter than that says nothing.
FAINT_GAP = 0.1
# A gap counts from here on; `confidence` in a request is about products and does not move it.
GAP_CONFIDENCE = 0.42
# A space that overlaps it adds this to the logit: seen at 0.3, two in five gaps are true alone,
# three in four with a space.
SPACE_EVIDENCE = 1.5
SAME_SPACE_IOU = 0.3
# Of the spaces that a model without a class for gaps is left with, half are gaps.
INFERRED_CONFIDENCE = 0.5
# A gap that products take a third of is their background.
MAX_SEEN_OCCUPIED = 0.35
# What is left when the products beside it are cut off must be two fifths of what was seen.
MIN_LEFT = 0.4
# Of one empty stretch the model sees several, one over or beside the other: those that lie apart by
# a fifth of the narrower one's width at most, and share half of the lower one's height, are one.
JOIN_SPACE, JOIN_HEIGHT = 0.2, 0.5
# Boxes that are half as sure as the best of their stretch say how wide it is.
MIN_SAY = 0.5
SURE = 0.999  # odds have no end
# A gap stands in the row that it shares most of the lower height with, a third at least; else it is
# in a row of its own, a board on which there is nothing.
ROW_OVERLAP = 0.35


@dataclass(frozen=True, kw_only=True)
class Row:
    """One shelf row: its products' common box, or its gaps' where it has none, and how full."""

    xyxy: Corners
    count: int
    fill_rate: float  # the taken share of what is taken or a gap, in width
    length: float  # of both, in shares of the shelf's longer side


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A space in a row (index from the top) that would take `facings` more products."""

    row: int
    xyxy: Corners
    facings: float
    confidence: float
    origin: Origin  # "inferred" where the model, if it sees gaps at all, was not sure by itself


@dataclass(frozen=True)
class ShelfAudit:
    """Rows from the top down, and the gaps in them from left to right."""

    rows: tuple[Row, ...]
    gaps: tuple[Gap, ...]
    row: Ints  # (n,), the row of each detection

    @property
    def fill_rate(self) -> float | None:
        """Weigh the rows' fill rates by length; None where there is no row."""
        total = sum(row.length for row in self.rows)
        full = sum(row.fill_rate * row.length for row in self.rows)
        return full / total if total > 0 else None


class Space(NamedTuple):
    """An empty stretch of a row, levelled, and the facing that it is judged by."""

    row: int
    left: float
    right: float
    facing: float

    def fits(self, most: float) -> bool:
        """Tell whether it takes a product, and is no wider than `most` facings; NaN does not."""
        least = GAP_FACINGS * self.facing + GAP_ALLOWANCE
        return 0 < least <= self.right - self.left <= most * self.facing


@dataclass(frozen=True, kw_only=True)
class LevelledGaps:
    """Gaps, levelled, before they have a row; parallel arrays."""

    box: Doubles  # (g, 4)
    confidence: Doubles  # (g,)
    origin: list[Origin]  # (g,)


def audit_shelf(detections: Detections, width: int, height: int) -> ShelfAudit:
    """Group products into rows and find the gaps between them and at the rows' ends.

    Takes the size of the image in pixels, to which the boxes belong.
    """
    row, level, boxes = group_rows(detections.xyxy)
    # Arrays for all boxes at once, plain numbers for the few of a row: a call of NumPy's costs more
    # than what it computes of so few, above all right after an inference has emptied the caches.
    order = np.lexsort((boxes[:, 0], row))  # row by row, from left to right
    start = row[order].searchsorted(np.arange(row.max(initial=-1) + 1))
    products = _by_row(boxes[order].tolist(), start)
    spaces = _free_spaces(products, boxes, row, level, detections, width)
    if detections.sees_gaps:
        seen = level.apply(detections.gap_xyxy.astype(np.float64))
        levelled = _weigh(seen, detections.gap_confidence.astype(np.float64), spaces, boxes)
    else:
        levelled = _inferred(spaces)
    rows, gap_row = _rows_of_gaps(levelled.box, products)
    products = [products[index] if index >= 0 else [] for index in rows]
    empty = list(zip(gap_row, map(_corners, levelled.box.tolist()), strict=True))
    pixels = np.clip(level.undo(levelled.box), 0, np.array((width, height) * 2))
    gaps = [
        Gap(row=of, xyxy=_corners(corners), facings=facings, confidence=p, origin=origin)
        for of, corners, facings, p, origin in zip(
            gap_row,
            pixels.tolist(),
            [_facing(products, of, box) for of, box in empty],
            levelled.confidence.tolist(),
            levelled.origin,
            strict=True,
        )
    ]
    gaps.sort(key=lambda gap: (gap.row, gap.xyxy[0]))
    common = _common_boxes(detections.xyxy[order], start)
    summed = []
    for index, old in enumerate(rows):
        around = common[old] if old >= 0 else _around([g.xyxy for g in gaps if g.row == index])
        summed.append(_row(around, products[index], [box for of, box in empty if of == index]))
    new_number = {old: new for new, old in enumerate(rows) if old >= 0}
    moved = np.array([new_number[old] for old in range(len(common))], np.int64)
    return ShelfAudit(tuple(summed), tuple(gaps), moved[row])


def _row(around: Corners, products: list[Corners], gaps: list[Corners]) -> Row:
    """Sum up a row by its levelled boxes; `around` is the box of it in pixels."""
    full, missing = _full_and_empty(products, gaps)
    length = full + missing
    fill_rate = full / length if length > 0 else 1.0
    return Row(xyxy=around, count=len(products), fill_rate=fill_rate, length=length)


def _free_spaces(
    products: list[list[Corners]],
    boxes: Doubles,
    row: Ints,
    level: Level,
    detections: Detections,
    width: int,
) -> Doubles:
    """Find the spaces in rows that nothing stands in, (s, 4), levelled."""
    edges = shelf_edges(boxes, row, level, width)
    spaces = [s for i, edge in enumerate(edges) for s in find_spaces(i, products[i], edge)]
    gaps = np.array([_gap_box(products[space.row], space) for space in spaces]).reshape(-1, 4)
    taken = np.concatenate((boxes, level.apply(detections.faint.astype(np.float64))))
    return gaps[_occupied(gaps, taken) <= MAX_OCCUPIED]


def _inferred(spaces: Doubles) -> LevelledGaps:
    count = len(spaces)
    sure = np.full(count, INFERRED_CONFIDENCE)
    return LevelledGaps(box=spaces, confidence=sure, origin=["inferred"] * count)


def _weigh(seen: Doubles, confidence: Doubles, spaces: Doubles, taken: Doubles) -> LevelledGaps:
    """Choose among the model's gaps by their confidence, the spaces and the products there.

    Takes levelled boxes: seen (g, 4), best first, spaces (s, 4), products (n, 4). Several boxes of
    one stretch are evidence for it, each by itself.
    """
    free = (_occupied(seen, taken) <= MAX_SEEN_OCCUPIED) & (confidence >= FAINT_GAP)
    seen, confidence = seen[free], confidence[free]
    iou = pairwise_iou(seen.astype(np.float32), spaces.astype(np.float32))
    agreed: npt.NDArray[np.bool_] = np.any(iou >= SAME_SPACE_IOU, axis=1)
    odds = np.exp(SPACE_EVIDENCE * agreed) * confidence / (1 - np.minimum(confidence, SURE))
    say, model_says, space_says = (odds / (1 + odds)).tolist(), confidence.tolist(), agreed.tolist()
    stretches: list[tuple[Corners, list[int]]] = []  # with whose boxes it is, the best first
    for index, box in enumerate(map(_corners, seen.tolist())):
        touched = [one for one in stretches if _one_stretch(box, one[0])]
        if touched and say[index] < MIN_SAY * say[touched[0][1][0]]:
            touched[0][1].append(index)
            continue
        # It may span what was apart until now.
        whose = [index]
        while touched:
            box = _around([box, *(stretch for stretch, _ in touched)])
            whose += [i for _, of in touched for i in of]
            stretches = [one for one in stretches if one not in touched]
            touched = [one for one in stretches if _one_stretch(box, one[0])]
        stretches.append((box, sorted(whose)))
    kept, total, origin = [], [], list[Origin]()
    for stretch, of in stretches:
        sure = 1 - math.prod(1 - say[i] for i in of)
        box_left = _cut_free(stretch, taken) if sure >= GAP_CONFIDENCE else None
        if box_left:
            kept.append(box_left)
            total.append(sure)
            alone = 1 - math.prod(1 - model_says[i] for i in of) >= GAP_CONFIDENCE
            inferred = any(space_says[i] for i in of)
            origin.append("seen" if not inferred else "both" if alone else "inferred")
    return LevelledGaps(
        box=np.array(kept).reshape(-1, 4), confidence=np.array(total), origin=origin
    )


def _one_stretch(box: Corners, other: Corners) -> bool:
    """Tell whether two boxes are of one empty stretch of a board."""
    high = min(box[3], other[3]) - max(box[1], other[1])
    if high < JOIN_HEIGHT * min(box[3] - box[1], other[3] - other[1]):
        return False  # most are: other boards
    apart = max(box[0], other[0]) - min(box[2], other[2])
    return apart <= JOIN_SPACE * min(box[2] - box[0], other[2] - other[0])


def _cut_free(box: Corners, taken: Doubles) -> Corners | None:
    """Cut off what the products (n, 4) beside a gap take of it; None where little is left."""
    left, top, right, bottom = box
    high = np.minimum(taken[:, 3], bottom) - np.maximum(taken[:, 1], top)
    beside = high >= JOIN_HEIGHT * np.minimum(taken[:, 3] - taken[:, 1], bottom - top)
    middle, wide = (left + right) / 2, right - left
    for low, _, end, _ in taken[beside & (taken[:, 2] > left) & (taken[:, 0] < right)].tolist():
        if (low + end) / 2 < middle:
            left = max(left, end)
        else:
            right = min(right, low)
    return (left, top, right, bottom) if right - left >= MIN_LEFT * wide else None


def _rows_of_gaps(boxes: Doubles, products: list[list[Corners]]) -> tuple[list[int], list[int]]:
    """Set gaps (g, 4), levelled, into rows; those with no row near make rows of their own.

    Returns the rows from the top down, each by its old number or -1, and the row of each gap.
    """
    bands = [(median(p[1] for p in row), median(p[3] for p in row)) for row in products]
    own: list[tuple[float, float]] = []
    chosen = []
    for box in boxes.tolist():
        shared = [_shared_height(box, band) for band in bands + own]
        best = max(range(len(shared)), key=shared.__getitem__, default=-1)
        if best < 0 or shared[best] < ROW_OVERLAP:
            best = len(shared)
            own.append((box[1], box[3]))
        chosen.append(best)
    floors = [floor for _, floor in bands + own]
    # Rows of products keep their order; a row of gaps goes above the first whose floor is lower.
    order = list(range(len(bands)))
    for index in sorted(range(len(bands), len(floors)), key=floors.__getitem__):
        below = next((i for i, of in enumerate(order) if floors[of] > floors[index]), len(order))
        order.insert(below, index)
    rank = {old: new for new, old in enumerate(order)}
    rows = [index if index < len(bands) else -1 for index in order]
    return rows, [rank[index] for index in chosen]


def _shared_height(box: Corners, band: tuple[float, float]) -> float:
    """Give the share of the lower height that a box and a band have in common."""
    top, floor = band
    common = min(box[3], floor) - max(box[1], top)
    return common / max(min(box[3] - box[1], floor - top), TINY)


def _facing(rows: list[list[Corners]], row: int, gap: Corners) -> float:
    """Measure a gap in facings of its row: the median width of the products nearest to it.

    An empty row takes what the one with the nearest floor has.
    """
    products = rows[row] or min(
        filter(None, rows), key=lambda products: abs(products[0][3] - gap[3]), default=[]
    )
    if not products:
        return 1.0
    nearest = sorted(products, key=lambda p: max(p[0] - gap[2], gap[0] - p[2]))[: 2 * FACING_SPAN]
    facing = median(right - left for left, _, right, _ in nearest)
    return (gap[2] - gap[0]) / max(facing, TINY)


def _around(boxes: list[Corners]) -> Corners:
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)


def _by_row(products: list[Corners], start: Ints) -> list[list[Corners]]:
    bounds = [*start.tolist(), len(products)]
    return [products[first:end] for first, end in pairwise(bounds)]


def _common_boxes(xyxy: Floats, start: Ints) -> list[Corners]:
    """Give the box around each row's boxes; (n, 4) row by row, rows begin at `start`."""
    low = np.minimum.reduceat(xyxy[:, :2], start)
    high = np.maximum.reduceat(xyxy[:, 2:], start)
    return [_corners(box) for box in np.concatenate((low, high), axis=1).tolist()]


def shelf_edges(boxes: Doubles, row: Ints, level: Level, width: int) -> list[tuple[float, float]]:
    """Tell where the shelf ends left and right of each row, levelled; NaN where no box says it.

    Takes levelled boxes (n, 4), their rows (n,), the image's width.
    """
    left, _, right, floor = boxes.T
    long_enough = np.bincount(row) >= MIN_ROW
    if not long_enough.any():
        return [(math.nan, math.nan)] * len(long_enough)
    floors, near = medians(floor, row), BORDER_FACINGS * medians(right - left, row)
    # Mirrored on the right, so that "further out" is "less" on both sides.
    ends = np.full((2, len(long_enough)), np.inf)
    np.minimum.at(ends[0], row, left)
    np.minimum.at(ends[1], row, -right)
    at_left = _side_edges(ends[0], level.across(0, floors), near, long_enough)
    at_right = _side_edges(ends[1], -level.across(width, floors), near, long_enough)
    return [(left, -right) for left, right in zip(at_left, at_right, strict=True)]


def _side_edges(
    end: Doubles, border: Doubles, near: Doubles, long_enough: npt.NDArray[np.bool_]
) -> list[float]:
    """Tell where the shelf ends on one side; takes the rows' ends and the picture's, (rows,)."""
    at_border = long_enough & (np.abs(end - border) < near)
    if np.count_nonzero(at_border) >= BORDER_ROWS * np.count_nonzero(long_enough):
        return list(border.tolist())
    ends = np.where(long_enough, end, -np.inf).tolist()
    edges = []
    for index, limit in enumerate(border.tolist()):
        others = ends[max(index - NEXT_ROWS, 0) : index] + ends[index + 1 : index + 1 + NEXT_ROWS]
        furthest = max(others, default=-math.inf)
        edges.append(max(furthest, limit) if furthest > -math.inf else math.nan)
    return edges


def find_spaces(row: int, products: list[Corners], edge: tuple[float, float]) -> Iterator[Space]:
    """Find the spaces for products in a row, left to right, up to the shelf's two edges."""
    if len(products) < MIN_ROW:
        edge = math.nan, math.nan
    width = [right - left for left, _, right, _ in products]
    # A wide product may reach behind the next one.
    lefts = [edge[0], *accumulate([right for _, _, right, _ in products], max)]
    rights = [*[left for left, _, _, _ in products], edge[1]]
    # No space is wide enough that does not take the row's narrowest product.
    least = GAP_FACINGS * min(width) + GAP_ALLOWANCE
    for index, (left, right) in enumerate(zip(lefts, rights, strict=True)):
        if right - left >= least:
            around = width[max(index - FACING_SPAN, 0) : index + FACING_SPAN]
            space = Space(row, left, right, median(around))
            at_end = index in (0, len(products))
            if space.fits(MAX_END_FACINGS if at_end else MAX_GAP_FACINGS):
                yield space


def _gap_box(products: list[Corners], space: Space) -> Corners:
    """Give a space the height of what stands beside it: tallest top to lowest floor."""
    near = BESIDE_FACINGS * space.facing
    beside = [
        product
        for product in products
        if 0 <= space.left - product[2] <= near or 0 <= product[0] - space.right <= near
    ]
    top, floor = min(product[1] for product in beside), max(product[3] for product in beside)
    return space.left, top, space.right, floor


def _occupied(boxes: Doubles, taken: Doubles) -> Doubles:
    """Give the share of each gap (g, 4) that boxes (n, 4) of any row occupy, (g,)."""
    left, top, right, bottom = boxes.T[:, :, None]
    across = (taken[:, 0] < right) & (taken[:, 2] > left)
    gap, other = (across & (taken[:, 1] < bottom) & (taken[:, 3] > top)).nonzero()
    first, second = boxes[gap].T, taken[other].T
    wide, high = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return np.bincount(gap, wide * high, len(boxes)) / np.maximum(area, TINY)


def _full_and_empty(products: list[Corners], gaps: list[Corners]) -> tuple[float, float]:
    """Measure how much of a row's width is taken, and how much is gaps.

    Spaces that are neither, a pillar or a board that was not understood, count as none of both.
    """
    empty = sum(gap[2] - gap[0] for gap in gaps)
    if not products:
        return 0.0, empty
    facing = median(right - left for left, _, right, _ in products)
    full, end = 0.0, products[0][0]
    for left, _, right, _ in products:
        space = left - end
        if space > 0 and gaps:
            space -= sum(
                min(g[2], left) - max(g[0], end) for g in gaps if g[0] < left and g[2] > end
            )
        full += max(right - max(left, end), 0.0) + (space if 0 < space <= facing else 0.0)
        end = max(end, right)
    return full, empty


def _corners(xyxy: list[float]) -> Corners:
    left, top, right, bottom = xyxy
    return left, top, right, bottom
