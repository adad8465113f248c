"""The shelf audit from boxes alone: rows, counts, gaps, fill rate. Pure; nothing here does IO."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from function.boxes import Floats
from function.detections import Detections, GapJson, RowJson

# A product belongs to a row when it shares at least half of the lower one's height with it:
# products of one row stand on one board, those of the next row above or below it.
ROW_OVERLAP = 0.5
# Neighbours stand up to a fifth of a facing apart and boxes are a few pixels off, so a space counts
# as a gap from eight tenths of the row's median facing.
GAP_FACINGS = 0.8


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

    @property
    def fill_rate(self) -> float | None:
        """Weigh the rows' fill rates by width; None where there is no row."""
        widths = np.array([row.xyxy[2] - row.xyxy[0] for row in self.rows])
        if not widths.sum() > 0:
            return None
        return float(np.average([row.fill_rate for row in self.rows], weights=widths))


def audit_shelf(detections: Detections) -> ShelfAudit:
    """Group products into rows by vertical overlap and find the gaps between neighbours."""
    rows: list[Row] = []
    gaps: list[Gap] = []
    for index, members in enumerate(group_rows(detections.xyxy)):
        row_gaps = find_gaps(members, index)
        left, top = members[:, :2].min(axis=0).tolist()
        right, bottom = members[:, 2:].max(axis=0).tolist()
        empty = sum(gap.xyxy[2] - gap.xyxy[0] for gap in row_gaps)
        fill_rate = 1 - empty / (right - left) if right > left else 1.0
        rows.append(Row((left, top, right, bottom), len(members), fill_rate))
        gaps.extend(row_gaps)
    return ShelfAudit(tuple(rows), tuple(gaps))


def group_rows(xyxy: Floats) -> list[Floats]:
    """Split boxes (n, 4) into rows from the top down, each (k, 4) from left to right."""
    rows: list[list[Floats]] = []
    total = np.zeros(4, np.float32)  # of the lowest row's boxes: its band is their mean
    for box in xyxy[np.argsort((xyxy[:, 1] + xyxy[:, 3]) / 2, kind="stable")]:
        if rows and _vertical_overlap(total / np.float32(len(rows[-1])), box) >= ROW_OVERLAP:
            rows[-1].append(box)
            total += box
        else:
            rows.append([box])
            total = box.copy()
    return [members[np.argsort(members[:, 0], kind="stable")] for members in map(np.array, rows)]


def _vertical_overlap(band: Floats, box: Floats) -> float:
    """Compare the height two boxes share with the lower one's height."""
    shared = min(band[3], box[3]) - max(band[1], box[1])
    lower = min(band[3] - band[1], box[3] - box[1])
    return float(shared / lower) if lower > 0 else 0.0


def find_gaps(members: Floats, row: int) -> list[Gap]:
    """Find the spaces of at least `GAP_FACINGS` median facings in one row (k, 4), left to right."""
    facing = float(np.median(members[:, 2] - members[:, 0]))
    if not facing > 0:
        return []
    starts = np.maximum.accumulate(members[:-1, 2])  # a wide product may reach behind the next one
    ends = members[1:, 0]
    top, bottom = np.median(members[:, 1]), np.median(members[:, 3])
    return [
        Gap(row, (float(start), float(top), float(end), float(bottom)), float(end - start) / facing)
        for start, end in zip(starts, ends, strict=True)
        if end - start >= GAP_FACINGS * facing
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
            "facings": round(gap.facings, 1),
        }
        for gap in audit.gaps
    ]
