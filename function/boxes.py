"""Box geometry in pure NumPy: letterbox, decode, IoU, NMS. Nothing here does IO."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
# Either kind of float, the same in as out.
Real = TypeVar("Real", npt.NDArray[np.float32], npt.NDArray[np.float64])

# Candidates that NMS judges at a time, fewer where they lie so close that the pairs among them are
# too many to keep: a full shelf has 1 500 candidates and 40 000 pairs, and then NumPy's calls cost
# more than the sums in them. 250 000 pairs take 15 MB.
NMS_BLOCK, LEAST_NMS_BLOCK = 2048, 64
MAX_PAIRS = 250_000
MAX_SHARE = 2.0  # of the input: boxes that reach no further are not in pixels of it
SHARED_BLOCK = 256  # boxes whose area shared with all others is measured at a time: 10 MB, not 1 GB
# A slot or label of a shelf overlaps a handful of boxes; one as large as the picture, all of them.
MAX_RIVALS = 50


@dataclass(frozen=True, kw_only=True)
class Letterbox:
    """Where an image of `width` x `height` lies inside the model's input, and the way back."""

    width: int
    height: int
    content: tuple[int, int]  # (width, height) of the resized image, in input pixels
    pad: tuple[int, int]  # (left, top), in input pixels
    size: tuple[int, int]  # (width, height) of the input

    def undo(self, xyxy: Floats) -> Floats:
        """Map boxes (n, 4) from input pixels to image pixels, clipped to the image."""
        scale = np.array([self.width / self.content[0], self.height / self.content[1]] * 2)
        boxes = (xyxy - np.array(self.pad * 2)) * scale
        limit = np.array([self.width, self.height] * 2)
        clipped: Floats = np.clip(boxes, 0, limit).astype(np.float32)
        return clipped


def letterbox(
    width: int, height: int, size: tuple[int, int], step: int = 0, times: float = 1.0
) -> Letterbox:
    """Fit an image into `size` (width, height), or `times` smaller, centred, its aspect ratio kept.

    With a `step` the input is no larger than the image needs, in multiples of it. Rounding as in
    Ultralytics' LetterBox, so that its exports see the pixels they were trained on.
    """
    scale = min(size[0] / width, size[1] / height) / times
    # A 5000 x 1 image would round to no rows at all.
    content = max(round(width * scale), 1), max(round(height * scale), 1)
    if step:
        size = -(-content[0] // step) * step, -(-content[1] // step) * step
    pad = round((size[0] - content[0]) / 2 - 0.1), round((size[1] - content[1]) / 2 - 0.1)
    return Letterbox(width=width, height=height, content=content, pad=pad, size=size)


def cxcywh_to_xyxy(cxcywh: Floats) -> Floats:
    """Turn centre boxes (n, 4) into corner boxes (n, 4)."""
    centre, half = cxcywh[:, :2], cxcywh[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def decode(
    output: Floats, classes: int, confidence_threshold: float, of: Sequence[int] = ()
) -> tuple[Floats, Floats, Ints]:
    """Read the candidates at or above `confidence_threshold` from one model output.

    Takes `(1, 4 + classes, n)`, its transpose, or the end-to-end `(1, k, 6)` of Ultralytics
    exports; `of` are the classes to look at, all unless given. Returns xyxy (m, 4) in input pixels,
    confidence (m,), class_id (m,). Raises `ValueError` for any other shape.
    """
    rows, end_to_end = _rows_of(output, classes)
    read = _from_end_to_end if end_to_end else _from_anchors
    return read(rows, confidence_threshold, of)


def check_output(output: Floats, classes: int) -> None:
    """Check on a first output that its boxes are what `decode` takes them for.

    Raises `ValueError` for those of other families, whose shapes may be the same.
    """
    rows, end_to_end = _rows_of(output, classes)
    if end_to_end and not _is_end_to_end(rows):
        must_be = "corners, a confidence and a whole class number a row"
        msg = f"The model's output {output.shape} must be {must_be}, got others"
        raise ValueError(msg)
    furthest = float(np.abs(rows[:4]).max(initial=0))
    if not end_to_end and 0 < furthest <= MAX_SHARE:
        msg = f"The model's boxes must be in pixels of its input, got {furthest:.2f} at most"
        raise ValueError(msg)


def _rows_of(output: Floats, classes: int) -> tuple[Floats, bool]:
    """Give the rows of anchors (4 + classes, n), or end-to-end ones (k, 6), and which it is."""
    if output.ndim == 3 and output.shape[0] == 1:
        rows, columns = output.shape[1:]
        if rows == 4 + classes and rows != columns:
            return output[0], False
        if columns == 4 + classes and not (columns == 6 and _is_end_to_end(output[0])):
            return output[0].T, False
        if columns == 6:
            return output[0], True
    msg = f"Model output has shape {output.shape}, not (1, {4 + classes}, n) or (1, k, 6)"
    raise ValueError(msg)


def _is_end_to_end(rows: Floats) -> bool:
    """Tell end-to-end rows (k, 6) from anchors: only they are corners and whole class numbers.

    Not each of them: a head that knows no least distance puts a few corners the wrong way round.
    """
    whole = np.all(rows[:, 5] == np.round(rows[:, 5]))
    in_order = np.all(rows[:, 2:4] >= rows[:, :2], axis=1)
    return bool(whole and 2 * np.count_nonzero(in_order) >= len(rows))


def _from_anchors(
    output: Floats, confidence_threshold: float, of: Sequence[int]
) -> tuple[Floats, Floats, Ints]:
    """Read (4 + classes, n) rows: cx, cy, w, h, then a score a class."""
    scores = output[4:]
    chosen = np.array(of, np.int64) if len(of) else np.arange(len(scores))
    scores = scores[chosen] if len(chosen) < len(scores) else scores
    confidence = scores.max(axis=0)
    above = np.flatnonzero(confidence >= confidence_threshold)
    class_id = chosen[scores[:, above].argmax(axis=0)]
    return cxcywh_to_xyxy(output[:4, above].T), confidence[above], class_id


def _from_end_to_end(
    output: Floats, confidence_threshold: float, of: Sequence[int]
) -> tuple[Floats, Floats, Ints]:
    """Read (k, 6) rows: x1, y1, x2, y2, confidence, class."""
    above = output[output[:, 4] >= confidence_threshold]
    if len(of):
        above = above[np.isin(above[:, 5], of)]
    return above[:, :4], above[:, 4], above[:, 5].astype(np.int64)


def box_iou(xyxy: Floats, others: Floats) -> Floats:
    """Compute the IoU of xyxy boxes (..., 4) with others (..., 4), broadcast; no area gives 0."""
    overlap, union = _overlap_and_union(np.moveaxis(xyxy, -1, 0), np.moveaxis(others, -1, 0))
    iou: Floats = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return iou


def shared_area(xyxy: Real, others: Real) -> Real:
    """Compute the area that xyxy boxes (..., 4) share with others (..., 4), broadcast."""
    return _overlap(np.moveaxis(xyxy, -1, 0), np.moveaxis(others, -1, 0))


def box_area(xyxy: Real) -> Real:
    """Compute the area (...) of xyxy boxes (..., 4)."""
    return _area(np.moveaxis(xyxy, -1, 0))


def _overlap_and_union(edges: Floats, others: Floats) -> tuple[Floats, Floats]:
    """Measure what boxes with edges (4, ...) share and cover together, in area, broadcast."""
    overlap = _overlap(edges, others)
    return overlap, _area(edges) + _area(others) - overlap


def _overlap(edges: Real, others: Real) -> Real:
    left, top, right, bottom = edges
    other_left, other_top, other_right, other_bottom = others
    width = np.minimum(right, other_right) - np.maximum(left, other_left)
    height = np.minimum(bottom, other_bottom) - np.maximum(top, other_top)
    overlap: Real = np.maximum(width, 0) * np.maximum(height, 0)
    return overlap


def _area(edges: Real) -> Real:
    area: Real = (edges[2] - edges[0]) * (edges[3] - edges[1])
    return area


def apart_by_class(xyxy: Floats, class_id: Ints) -> Floats:
    """Move boxes (n, 4) of each class apart by more than any box's extent: none share area."""
    extent = float(np.abs(xyxy).max(initial=0)) * 2 + 1
    apart: Floats = xyxy + (class_id[:, None] * extent).astype(np.float32)
    return apart


def shared_with_better(xyxy: Floats) -> Iterator[tuple[slice, Floats]]:
    """Yield blocks of boxes (n, 4), best first, and the area that each shares with all up to it.

    The areas (b, m) are 0 for a box itself and for worse ones.
    """
    for start in range(0, len(xyxy), SHARED_BLOCK):
        block = slice(start, start + SHARED_BLOCK)
        areas = shared_area(xyxy[block, None], xyxy[: block.stop])
        yield block, np.tril(areas, start - 1)


def pairwise_iou(xyxy: Floats, others: Floats) -> Floats:
    """Compute the IoU (n, m) of boxes (n, 4) with others (m, 4)."""
    rows = max(1, MAX_PAIRS // max(1, len(others)))  # at a time
    blocks = [box_iou(xyxy[i : i + rows, None], others) for i in range(0, len(xyxy), rows)]
    return np.concatenate(blocks) if blocks else np.zeros((0, len(others)), np.float32)


def match_one_to_one(score: Floats, least: float) -> list[tuple[int, int]]:
    """Match rows with columns of a score (n, m) one to one, greedily, down to `least`.

    Of a row with more than `MAX_RIVALS` columns to choose from, the best ones count.
    """
    good = score >= least
    if np.count_nonzero(good) > MAX_RIVALS * len(score):
        rivals = min(MAX_RIVALS, score.shape[1])
        good &= score >= np.partition(score, -rivals, axis=1)[:, -rivals, None]
    i, j = np.nonzero(good)
    order = np.argsort(-score[i, j], kind="stable")
    matches: list[tuple[int, int]] = []
    rows: set[int] = set()
    columns: set[int] = set()
    for row, column in zip(i[order].tolist(), j[order].tolist(), strict=True):
        if row not in rows and column not in columns:
            rows.add(row)
            columns.add(column)
            matches.append((row, column))
    return matches


def non_max_suppression(
    xyxy: Floats, confidence: Floats, class_id: Ints, iou_threshold: float, limit: int
) -> Ints:
    """Choose at most `limit` boxes, best first, none overlapping a better one of its class.

    Returns indices (k,) into the boxes (n, 4). Equal scores keep their order.
    """
    return suppress(xyxy, confidence, class_id, iou_threshold, limit)[0]


def suppress(
    xyxy: Floats,
    confidence: Floats,
    class_id: Ints,
    iou_threshold: float,
    limit: int,
    alike: float | None = None,
) -> tuple[Ints, Ints, Ints]:
    """Choose as `non_max_suppression` does, and list which boxes mean the same.

    Returns the indices (k,), and pairs (m,), (m,) of a chosen box and one that went for it, whose
    IoU is `alike` or more; none unless it is given.
    """
    apart = apart_by_class(xyxy, class_id)  # so that one pass serves all classes
    by_left = np.argsort(apart[:, 0], kind="stable")
    edges = np.ascontiguousarray(apart[by_left].T)  # left, top, right, bottom
    order = np.argsort(by_left)[np.argsort(-confidence, kind="stable")]
    kept, size = order[:0], NMS_BLOCK
    pairs = [(kept, kept)]
    while order.size and len(kept) < limit:
        # Those kept are better than all that follow, and overlap none of their own.
        block = np.concatenate([kept, order[:size]])
        rank = np.argsort(block)
        own = edges[:, block[rank]]
        low, high = _within_reach(own, iou_threshold)
        if (high - low).sum() > MAX_PAIRS and size > LEAST_NMS_BLOCK:
            size //= 2
            continue
        first, second = (rank[side] for side in _overlapping(own, low, high, iou_threshold))
        better, worse = np.minimum(first, second), np.maximum(first, second)
        best = _best_of(len(block), better, worse)
        if alike is not None:
            better, worse = (block[side[best[better]]] for side in (better, worse))
            overlap, union = _overlap_and_union(edges[:, better], edges[:, worse])
            same = overlap >= alike * union
            pairs.append((better[same], worse[same]))
        kept, order = block[best], order[size:]
    better, worse = (by_left[np.concatenate(side)] for side in zip(*pairs, strict=True))
    return by_left[kept[:limit]], better, worse


def _within_reach(edges: Floats, iou_threshold: float) -> tuple[Ints, Ints]:
    """Bound who further right may overlap each box by more than a threshold: low to high, (n,).

    Takes edges (4, n) sorted by the left one. The IoU of boxes is at most that of their widths.
    """
    left, _, right, _ = edges
    reach = np.maximum(right - left, 0) * (1 - iou_threshold)
    high = np.searchsorted(left, left + reach, side="right")
    low = np.minimum(np.arange(len(left)) + 1, high)
    return low, high


def _overlapping(edges: Floats, low: Ints, high: Ints, iou_threshold: float) -> tuple[Ints, Ints]:
    """List the pairs whose IoU is above a threshold, of each box with those from low to high.

    The IoU of boxes is at most that of their heights, so their tops lie less than most of the upper
    one's height apart. The highest box tells most pairs by one difference, the others by their own.
    """
    first, second = pairs_in_ranges(low, high)
    _, top, _, bottom = edges
    reach = np.maximum(bottom - top, 0) * (1 - iou_threshold)
    down = top[second] - top.repeat(high - low)
    near = np.abs(down) <= reach.max(initial=0)
    if 2 * np.count_nonzero(near) < near.size:
        first, second, down = first[near], second[near], down[near]
    near = (down <= reach[first]) & (-down <= reach[second])
    first, second = first[near], second[near]
    overlap, union = _overlap_and_union(edges[:, first], edges[:, second])
    above = (overlap > iou_threshold * union) & (overlap > 0)  # spares a division
    return first[above], second[above]


def _best_of(count: int, better: Ints, worse: Ints) -> npt.NDArray[np.bool_]:
    """Choose greedily from boxes, best first, given the pairs (m,) that overlap: (count,)."""
    left, chosen = np.ones(count, np.bool_), np.zeros(count, np.bool_)
    while better.size:
        # All at once whose rivals are gone: a handful of rounds instead of a step a box.
        rivalled = np.zeros(count, np.bool_)
        rivalled[worse] = True
        chosen |= left & ~rivalled
        left &= rivalled
        left[worse[chosen[better]]] = False
        open_ = left[better] & left[worse]
        better, worse = better[open_], worse[open_]
    return chosen | left


def pairs_in_ranges(low: Ints, high: Ints) -> tuple[Ints, Ints]:
    """Pair each index (n,) with those from its low up to, not to, its high: (m,), (m,)."""
    counts = high - low
    second = np.arange(counts.sum()) + (high - counts.cumsum()).repeat(counts)
    return np.arange(len(low)).repeat(counts), second
