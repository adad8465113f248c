"""The shelf audit from boxes alone: rows, counts, gaps, fill rate. Pure; nothing here does IO.

`function.rows` says which row each product stands on and levels the boxes; a gap is then a space
in a row that would take a product as wide as its neighbours, and that nothing stands in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from function.boxes import Ints
from function.detections import Detections, GapJson, RowJson
from function.rows import Doubles, Level, group_rows

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

    xyxy: tuple[float, float, float, float]
    count: int
    fill_rate: float  # 1 minus the gaps' share of the row's width


@dataclass(frozen=True)
class Gap:
    """A space in a row (index from the top) that would take `facings` more products."""

    row: int
    xyxy: tuple[float, float, float, float]
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
        widths = np.array([row.xyxy[2] - row.xyxy[0] for row in self.rows])
        if not widths.sum() > 0:
            return None
        return float(np.average([row.fill_rate for row in self.rows], weights=widths))


class Space(NamedTuple):
    """An empty stretch of a row, levelled, and the facing that it is judged by."""

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
    taken = np.concatenate((boxes, level.apply(detections.faint.astype(np.float64))))
    edges = shelf_edges(boxes, row, level, width)
    limit = np.array((width, height, width, height))
    rows: list[Row] = []
    gaps: list[Gap] = []
    for index, edge in enumerate(edges):
        members = np.flatnonzero(row == index)
        members = members[np.argsort(boxes[members, 0], kind="stable")]
        places = boxes[members]
        found = [(space, _gap_box(places, space)) for space in find_spaces(places, edge)]
        found = [(space, box) for space, box in found if _is_free(box, taken)]
        for space, box in found:
            xyxy = np.clip(level.undo(box[None])[0], 0, limit)
            gaps.append(Gap(index, _corners(xyxy), (space.right - space.left) / space.facing))
        low, high = detections.xyxy[members, :2], detections.xyxy[members, 2:]
        common = _corners(np.concatenate((low.min(axis=0), high.max(axis=0))))
        rows.append(Row(common, len(members), _fill_rate(places, [space for space, _ in found])))
    return ShelfAudit(tuple(rows), tuple(gaps), row)


def shelf_edges(boxes: Doubles, row: Ints, level: Level, width: int) -> Doubles:
    """Tell where the shelf ends left and right of each row, (rows, 2), levelled.

    NaN where the boxes do not say. Takes levelled boxes (n, 4), their rows (n,), the image's width.
    """
    count = np.bincount(row)
    edges = np.full((len(count), 2), np.nan)
    members = [boxes[row == index] for index in range(len(count))]
    telling = count >= MIN_ROW
    if not telling.any():
        return edges
    floor = np.array([_median(places[:, 3]) for places in members])
    facing = np.array([_median(places[:, 2] - places[:, 0]) for places in members])
    for side, pixel in enumerate((0, width)):
        # Mirrored on the right, so that "further out" is "less" on both sides.
        sign = 1 - 2 * side
        end = np.array([(sign * places[:, 2 * side]).min() for places in members])
        border = sign * level.across(pixel, floor)
        near = (np.abs(end - border) < BORDER_FACINGS * facing)[telling].mean()
        for index in range(len(count)):
            low, high = max(index - NEXT_ROWS, 0), index + NEXT_ROWS + 1
            others = telling[low:high] & (np.arange(low, min(high, len(count))) != index)
            if near >= BORDER_ROWS:
                edges[index, side] = sign * border[index]
            elif others.any():
                edges[index, side] = sign * max(end[low:high][others].max(), border[index])
    return edges


def find_spaces(places: Doubles, edge: Doubles) -> Iterator[Space]:
    """Find the spaces for products in a row (k, 4), left to right, up to the shelf's edge (2,)."""
    width = places[:, 2] - places[:, 0]
    reach = np.maximum.accumulate(places[:, 2])  # a wide product may reach behind the next one
    last = int(places[:, 2].argmax())
    if len(places) >= MIN_ROW:
        at_left = Space(float(edge[0]), float(places[0, 0]), _median(width[:FACING_SPAN]))
        if at_left.fits(MAX_END_FACINGS):
            yield at_left
    # No space is wide enough that does not take the row's narrowest product.
    least = GAP_FACINGS * width.min() + GAP_ALLOWANCE
    for index in np.flatnonzero(places[1:, 0] - reach[:-1] >= least).tolist():
        around = width[max(index + 1 - FACING_SPAN, 0) : index + 1 + FACING_SPAN]
        between = Space(float(reach[index]), float(places[index + 1, 0]), _median(around))
        if between.fits(MAX_GAP_FACINGS):
            yield between
    if len(places) >= MIN_ROW:
        at_right = Space(float(places[last, 2]), float(edge[1]), _median(width[-FACING_SPAN:]))
        if at_right.fits(MAX_END_FACINGS):
            yield at_right


def _median(values: Doubles) -> float:
    return float(median(values.tolist()))  # of a row's numbers, NumPy's takes ten times as long


def _gap_box(places: Doubles, space: Space) -> Doubles:
    """Give a space the height of what stands beside it, (4,): tallest top to lowest floor."""
    near = BESIDE_FACINGS * space.facing
    left, right = space.left - places[:, 2], places[:, 0] - space.right
    beside = places[((left >= 0) & (left <= near)) | ((right >= 0) & (right <= near))]
    return np.array((space.left, beside[:, 1].min(), space.right, beside[:, 3].max()))


def _is_free(box: Doubles, taken: Doubles) -> bool:
    """Tell whether no box (n, 4), of whatever row, stands in a gap's (4,)."""
    low, high = np.maximum(taken[:, :2], box[:2]), np.minimum(taken[:, 2:], box[2:])
    inside = np.maximum(high - low, 0)
    area = (inside[:, 0] * inside[:, 1]).sum()
    return bool(area <= MAX_OCCUPIED * (box[2] - box[0]) * (box[3] - box[1]))


def _fill_rate(places: Doubles, spaces: list[Space]) -> float:
    """Give the share of a row's width, its end gaps included, that is not empty."""
    left = min([space.left for space in spaces], default=np.inf)
    right = max([space.right for space in spaces], default=-np.inf)
    span = max(places[:, 2].max(), right) - min(places[0, 0], left)
    empty = sum(space.right - space.left for space in spaces)
    return float(1 - empty / span) if span > 0 else 1.0


def _corners(xyxy: npt.NDArray[np.floating[Any]]) -> tuple[float, float, float, float]:
    left, top, right, bottom = xyxy.tolist()
    return left, top, right, bottom


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
            "facings": round(gap.facings, 1),
        }
        for gap in audit.gaps
    ]
