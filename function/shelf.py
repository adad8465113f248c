"""The shelf audit from boxes alone: rows, counts, gaps, fill rate. Pure; nothing here does IO.

`function.rows` says which row each product stands on and levels the boxes; a gap is then a space
in a row that would take a product as wide as its neighbours, and that nothing stands in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, compress
from statistics import median
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from function.boxes import Floats, Ints
from function.detections import Detections
from function.rows import Doubles, Level, group_rows, medians

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


@dataclass(frozen=True)
class Row:
    """One shelf row: its products' common box and how full it is."""

    xyxy: Corners
    count: int
    fill_rate: float  # 1 minus the gaps' share of the row's width


@dataclass(frozen=True)
class Gap:
    """A space in a row (index from the top) that would take `facings` more products."""

    row: int
    xyxy: Corners
    facings: float


@dataclass(frozen=True)
class ShelfAudit:
    """Rows from the top down, and the gaps in them from left to right."""

    rows: tuple[Row, ...]
    gaps: tuple[Gap, ...]
    row: Ints  # (n,), the row of each detection

    @property
    def fill_rate(self) -> float | None:
        """Weigh the rows' fill rates by width; None where there is no row."""
        widths = [row.xyxy[2] - row.xyxy[0] for row in self.rows]
        if not sum(widths) > 0:
            return None
        full = [row.fill_rate * width for row, width in zip(self.rows, widths, strict=True)]
        return sum(full) / sum(widths)


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


def audit_shelf(detections: Detections, width: int, height: int) -> ShelfAudit:
    """Group products into rows and find the gaps between them and at the rows' ends.

    Takes the size of the image in pixels, to which the boxes belong.
    """
    row, level, boxes = group_rows(detections.xyxy)
    if not len(row):
        return ShelfAudit((), (), row)
    # Arrays for all boxes at once, plain numbers for the few of a row: a call of NumPy's costs more
    # than what it computes of so few, above all right after an inference has emptied the caches.
    order = np.lexsort((boxes[:, 0], row))  # row by row, from left to right
    start = row[order].searchsorted(np.arange(row.max() + 1))
    places = _by_row(boxes[order].tolist(), start)
    edges = shelf_edges(boxes, row, level, width)
    found = [s for i, edge in enumerate(edges) for s in find_spaces(i, places[i], edge)]
    taken = np.concatenate((boxes, level.apply(detections.faint.astype(np.float64))))
    gap_boxes = np.array([_gap_box(places[space.row], space) for space in found]).reshape(-1, 4)
    free = _are_free(gap_boxes, taken)
    spaces = list(compress(found, free.tolist()))
    xyxy = np.clip(level.undo(gap_boxes[free]), 0, np.array((width, height, width, height)))
    gaps = [
        Gap(space.row, _corners(box), (space.right - space.left) / space.facing)
        for space, box in zip(spaces, xyxy.tolist(), strict=True)
    ]
    common = _common_boxes(detections.xyxy[order], start)
    rows = [
        Row(box, len(places[i]), _fill_rate(places[i], [s for s in spaces if s.row == i]))
        for i, box in enumerate(common)
    ]
    return ShelfAudit(tuple(rows), tuple(gaps), row)


def _by_row(places: list[Corners], start: Ints) -> list[list[Corners]]:
    ends = [*start[1:].tolist(), len(places)]
    return [places[first:end] for first, end in zip(start.tolist(), ends, strict=True)]


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
    telling = np.bincount(row) >= MIN_ROW
    if not telling.any():
        return [(math.nan, math.nan)] * len(telling)
    floors, near = medians(floor, row), BORDER_FACINGS * medians(right - left, row)
    # Mirrored on the right, so that "further out" is "less" on both sides.
    ends = np.full((2, len(telling)), np.inf)
    np.minimum.at(ends[0], row, left)
    np.minimum.at(ends[1], row, -right)
    at_left = _side_edges(ends[0], level.across(0, floors), near, telling)
    at_right = _side_edges(ends[1], -level.across(width, floors), near, telling)
    return [(left, -right) for left, right in zip(at_left, at_right, strict=True)]


def _side_edges(
    end: Doubles, border: Doubles, near: Doubles, telling: npt.NDArray[np.bool_]
) -> list[float]:
    """Tell where the shelf ends on one side; takes the rows' ends and the picture's, (rows,)."""
    at_border = telling & (np.abs(end - border) < near)
    if np.count_nonzero(at_border) >= BORDER_ROWS * np.count_nonzero(telling):
        return list(border.tolist())
    told = np.where(telling, end, -np.inf).tolist()
    edges = []
    for index, limit in enumerate(border.tolist()):
        others = told[max(index - NEXT_ROWS, 0) : index] + told[index + 1 : index + 1 + NEXT_ROWS]
        furthest = max(others, default=-math.inf)
        edges.append(max(furthest, limit) if furthest > -math.inf else math.nan)
    return edges


def find_spaces(row: int, places: list[Corners], edge: tuple[float, float]) -> Iterator[Space]:
    """Find the spaces for products in a row, left to right, up to the shelf's two edges."""
    if len(places) < MIN_ROW:
        edge = math.nan, math.nan
    width = [right - left for left, _, right, _ in places]
    # A wide product may reach behind the next one.
    lefts = [edge[0], *accumulate([right for _, _, right, _ in places], max)]
    rights = [*[left for left, _, _, _ in places], edge[1]]
    # No space is wide enough that does not take the row's narrowest product.
    least = GAP_FACINGS * min(width) + GAP_ALLOWANCE
    for index, (left, right) in enumerate(zip(lefts, rights, strict=True)):
        if right - left >= least:
            around = width[max(index - FACING_SPAN, 0) : index + FACING_SPAN]
            space = Space(row, left, right, median(around))
            at_end = index in (0, len(places))
            if space.fits(MAX_END_FACINGS if at_end else MAX_GAP_FACINGS):
                yield space


def _gap_box(places: list[Corners], space: Space) -> Corners:
    """Give a space the height of what stands beside it: tallest top to lowest floor."""
    near = BESIDE_FACINGS * space.facing
    beside = [
        place
        for place in places
        if 0 <= space.left - place[2] <= near or 0 <= place[0] - space.right <= near
    ]
    top, floor = min(place[1] for place in beside), max(place[3] for place in beside)
    return space.left, top, space.right, floor


def _are_free(boxes: Doubles, taken: Doubles) -> npt.NDArray[np.bool_]:
    """Tell of gaps (g, 4) whether no box (n, 4), of whatever row, stands in them."""
    left, top, right, bottom = boxes.T[:, :, None]
    across = (taken[:, 0] < right) & (taken[:, 2] > left)
    gap, other = (across & (taken[:, 1] < bottom) & (taken[:, 3] > top)).nonzero()
    first, second = boxes[gap].T, taken[other].T
    wide, high = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return np.bincount(gap, wide * high, len(boxes)) <= MAX_OCCUPIED * area


def _fill_rate(places: list[Corners], spaces: list[Space]) -> float:
    """Give the share of a row's width, its end gaps included, that is not empty."""
    left = min([places[0][0]] + [space.left for space in spaces])
    right = max([right for _, _, right, _ in places] + [space.right for space in spaces])
    empty = sum(space.right - space.left for space in spaces)
    return 1 - empty / (right - left) if right > left else 1.0


def _corners(xyxy: list[float]) -> Corners:
    left, top, right, bottom = xyxy
    return left, top, right, bottom
