"""Which shelf row each product stands on, from boxes alone. Pure; nothing here does IO.

Boards are straight in the world, so in the picture they are lines through one vanishing point: a
line of height `t` at the middle runs as y = t + (tilt + convergence * t) * x. Both numbers are
fitted to the bottoms of neighbouring boxes (robust least squares). Levelled by them, the boxes of
a row share a floor; products side by side on one floor are a segment, segments that stand on the
tops of another are a stack, and segments of one floor make a row. Rows from neighbouring bottoms is
how planogram readers group facings too, e.g. Tonioni and Di Stefano, "Product recognition in store
shelves as a sub-graph isomorphism problem" (2017); the levelling replaces their frontal photos.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from function.boxes import Floats, Ints

Doubles = npt.NDArray[np.float64]
Pairs = tuple[Ints, Ints]

# Neighbours are looked for within three of the widest products (90th percentile).
REACH = 2.0
# Products side by side share half the height of the lower one, at least.
SIDE_OVERLAP = 0.5
# Two things are beside each other, not above, while they share less than half the narrower's width.
ABOVE_OVERLAP = 0.5
# Bottoms on one board differ by box noise and by depth (a product pushed back stands higher in the
# picture): up to a third of the lower product. The next board is a whole product away.
FLOOR_TOLERANCE = 0.35
# Stacked boxes touch. Boards and price rails part rows by more: SKU-110K's thinnest by a sixth of a
# product. Flat packages are a few pixels high, so noise gets an allowance: 2 pixels in 640.
STACK_TOLERANCE = 0.15
NOISE = 0.003
# Far ends of a row, levelled by an imperfect fit, agree less well than neighbours.
JOIN_TOLERANCE = 0.4
# A few odd boxes (a price card, a product lying down) inside a row's band belong to that row.
ODD_SEGMENT = 3
ODD_SHARE = 0.25  # of the longer row
ODD_OVERLAP = 0.5  # of the lower height
# Slopes: a fifth (11 degrees) and a convergence of a third are strong for a photo of a shelf; a
# prior of that width decides where there are too few boxes to say.
TILT_PRIOR, CONVERGENCE_PRIOR = 0.2, 0.3
PRIOR_WEIGHT = 0.01
SLOPE_NOISE = 0.06
SAME_HEIGHT = 0.3
FIT_STEPS = 5  # more change the slopes by less than the noise
MAX_CONVERGENCE = 0.9
# A tilted box is wider than what is in it, at most by as much again.
MIN_SHARE = 0.5
TINY = 1e-6


@dataclass(frozen=True)
class Level:
    """How shelf boards lie in the picture, and the way there and back.

    Levelled boxes are left, top, right, floor in shares of the shelf's longer side.
    """

    tilt: float = 0.0
    convergence: float = 0.0
    origin: tuple[float, float] = (0.0, 0.0)  # the middle of all boxes, in pixels
    size: float = 1.0  # the longer side of what they cover, in pixels

    def apply(self, xyxy: Doubles) -> Doubles:
        """Level boxes (n, 4) of pixels."""
        low, high = (xyxy[:, :2] - self.origin) / self.size, (xyxy[:, 2:] - self.origin) / self.size
        (x, y), (width, height) = ((low + high) / 2).T, (high - low).T
        shrink = 1 + self.convergence * x
        t = (y - self.tilt * x) / shrink
        lean, slope = abs(self.tilt), np.abs(self.tilt + self.convergence * t)
        both = 1 - lean * slope
        half_width = np.maximum((width - lean * height) / both, MIN_SHARE * width) / 2
        half_height = np.maximum((height - slope * width) / both, MIN_SHARE * height) / shrink / 2
        u = x + self.tilt * y
        return np.stack((u - half_width, t - half_height, u + half_width, t + half_height), axis=1)

    def across(self, pixel: float, t: Doubles) -> Doubles:
        """Tell where the picture's column `pixel` is, levelled, on boards of height t (r,)."""
        x = (pixel - self.origin[0]) / self.size
        y = t + (self.tilt + self.convergence * t) * x
        return np.asarray(x + self.tilt * y)

    def undo(self, boxes: Doubles) -> Doubles:
        """Turn levelled boxes (n, 4) into upright ones in pixels."""
        (u, t), (width, height) = (
            (boxes[:, :2] + boxes[:, 2:]).T / 2,
            (boxes[:, 2:] - boxes[:, :2]).T,
        )
        slope = self.tilt + self.convergence * t
        x = (u - self.tilt * t) / (1 + self.tilt * slope)
        y = t + slope * x
        high = height * (1 + self.convergence * x)
        middle = np.stack((x, y), axis=1)
        sides = np.stack((width + abs(self.tilt) * high, high + np.abs(slope) * width), axis=1) / 2
        corners = np.concatenate((middle - sides, middle + sides), axis=1)
        return corners * self.size + self.origin * 2


def neighbours(boxes: Doubles) -> Pairs:
    """Pair each box (n, 4) with those to its right within `REACH`, on its row or the next ones."""
    middle = (boxes[:, 0] + boxes[:, 2]) / 2
    order = np.argsort(middle, kind="stable")
    reach = REACH * np.quantile(boxes[:, 2] - boxes[:, 0], 0.9)
    end = np.searchsorted(middle[order], middle[order] + reach, side="right")
    here = np.arange(len(boxes))
    counts = end - here - 1
    first = np.repeat(here, counts)
    second = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts) + first + 1
    i, j = order[first], order[second]
    middle, height = (boxes[:, 1] + boxes[:, 3]) / 2, boxes[:, 3] - boxes[:, 1]
    near = np.abs(middle[i] - middle[j]) < height[i] + height[j]
    return i[near], j[near]


def shared(low: Doubles, high: Doubles, i: Ints, j: Ints) -> Doubles:
    """Measure what intervals i and j share, as a share of the shorter; negative when apart."""
    length = np.maximum(high - low, TINY)
    both = np.minimum(high[i], high[j]) - np.maximum(low[i], low[j])
    return np.asarray(both / np.minimum(length[i], length[j]))


def side_by_side(boxes: Doubles, pairs: Pairs) -> Pairs:
    """Keep the pairs of one height, beside each other."""
    i, j = pairs
    beside = shared(boxes[:, 1], boxes[:, 3], i, j) >= SIDE_OVERLAP
    i, j = i[beside], j[beside]
    apart = shared(boxes[:, 0], boxes[:, 2], i, j) < ABOVE_OVERLAP
    return i[apart], j[apart]


def fit_level(xyxy: Doubles) -> tuple[Level, Pairs]:
    """Fit the boards' tilt and convergence to boxes (n, 4); also return who is near whom."""
    low, high = xyxy[:, :2].min(axis=0), xyxy[:, 2:].max(axis=0)
    origin = (float(low[0] + high[0]) / 2, float(low[1] + high[1]) / 2)
    size = max(float((high - low).max()), TINY)
    level = Level(0.0, 0.0, origin, size)
    boxes = level.apply(xyxy)
    pairs = neighbours(boxes)
    for _ in range(2):  # once levelled, more neighbours are seen to be neighbours
        i, j = side_by_side(level.apply(xyxy), pairs)
        level = Level(*_fit_slopes(boxes[i], boxes[j]), origin, size)
    return level, pairs


def _fit_slopes(first: Doubles, second: Doubles) -> tuple[float, float]:
    """Fit slope = tilt + convergence * (y - slope * x), reweighted against outliers (Cauchy)."""
    height = np.minimum(first[:, 3] - first[:, 1], second[:, 3] - second[:, 1])
    step = second - first
    run, rise = (step[:, 0] + step[:, 2]) / 2, step[:, 3]
    # Only equals say where the board is: of a high and a low box one may be a stack or half hidden.
    alike = (np.abs(step[:, 1]) < SAME_HEIGHT * height) & (np.abs(rise) < SAME_HEIGHT * height)
    alike &= run > TINY
    run, height = run[alike], height[alike]
    slope = rise[alike] / run
    middle = (first[alike] + second[alike]) / 2
    across = middle[:, 3] - slope * (middle[:, 0] + middle[:, 2]) / 2
    facts = np.stack((np.ones_like(across), across), axis=1)
    prior = PRIOR_WEIGHT * np.diag((TILT_PRIOR**-2, CONVERGENCE_PRIOR**-2))
    found = np.array((np.median(slope) if len(slope) else 0.0, 0.0))
    for _ in range(FIT_STEPS):
        weight = run / height / (1 + ((slope - facts @ found) / SLOPE_NOISE) ** 2)
        found = np.linalg.solve((facts.T * weight) @ facts + prior, facts.T @ (weight * slope))
    return float(found[0]), float(np.clip(found[1], -MAX_CONVERGENCE, MAX_CONVERGENCE))


@dataclass(frozen=True)
class Segments:
    """Products side by side on one floor; parallel arrays over the segments."""

    of: Ints  # (n,) segment of each product
    count: Ints  # (s,)
    box: Doubles  # (s, 4) leftmost left, median top, rightmost right, median floor

    @classmethod
    def from_links(cls, boxes: Doubles, i: Ints, j: Ints) -> Segments:
        """Gather what is linked, directly or through others."""
        _, of, count = np.unique(
            _components(len(boxes), i, j), return_inverse=True, return_counts=True
        )
        start = np.concatenate(([0], np.cumsum(count)[:-1]))
        box, together = np.empty((len(count), 4)), boxes[np.argsort(of, kind="stable")]
        box[:, 0] = np.minimum.reduceat(together[:, 0], start)
        box[:, 2] = np.maximum.reduceat(together[:, 2], start)
        for edge in (1, 3):
            ordered = boxes[np.lexsort((boxes[:, edge], of)), edge]
            box[:, edge] = (ordered[start + count // 2] + ordered[start + (count - 1) // 2]) / 2
        return cls(of, count, box)


def _components(count: int, i: Ints, j: Ints) -> Ints:
    """Label what is connected by the smallest index in it, (count,)."""
    label = np.arange(count)
    while True:
        smaller = label.copy()
        np.minimum.at(smaller, i, label[j])
        np.minimum.at(smaller, j, label[i])
        smaller = smaller[smaller]
        if np.array_equal(smaller, label):
            return label
        label = smaller


def stacked_on(boxes: Doubles, pairs: Pairs, segments: Segments) -> Ints:
    """Find the segment that each segment stands on, (s,), -1 for those on a board.

    Half of a segment's products must touch one below: a whole board is rarely that close to the
    tops of the next one, where single products are.
    """
    i, j = pairs
    above = shared(boxes[:, 0], boxes[:, 2], i, j) >= ABOVE_OVERLAP
    i, j = i[above], j[above]
    swap = boxes[i, 3] > boxes[j, 3]
    upper, lower = np.where(swap, j, i), np.where(swap, i, j)
    space = boxes[lower, 1] - boxes[upper, 3]
    height = boxes[:, 3] - boxes[:, 1]
    room = STACK_TOLERANCE * np.minimum(height[upper], height[lower]) + NOISE
    # Of those that begin below its middle, the nearest one counts.
    below = boxes[lower, 1] > (boxes[upper, 1] + boxes[upper, 3]) / 2
    upper, lower, space, touches = upper[below], lower[below], space[below], (space < room)[below]
    nearest = np.full(len(boxes), -1)
    order = np.argsort(-space, kind="stable")
    nearest[upper[order]] = np.where(touches, lower, -1)[order]
    standing = np.flatnonzero(nearest >= 0)
    over, under = segments.of[standing], segments.of[nearest[standing]]
    votes = np.zeros((len(segments.count),) * 2, np.int64)
    np.add.at(votes, (over, under), 1)
    votes[segments.box[:, 3][:, None] >= segments.box[:, 3]] = 0  # never on what is not lower
    best = votes.argmax(axis=1)
    enough = (votes.sum(axis=1) >= segments.count / 2) & (votes.max(axis=1) > 0)
    return np.where(enough, best, -1)


def group_rows(xyxy: Floats) -> tuple[Ints, Level, Doubles]:
    """Number the shelf row of each box (n, 4) of pixels, 0 at the top.

    Returns row (n,), the level of the boards, and the levelled boxes (n, 4).
    """
    if not len(xyxy):
        return np.zeros(0, np.int64), Level(), np.zeros((0, 4))
    level, pairs = fit_level(xyxy.astype(np.float64))
    boxes = level.apply(xyxy.astype(np.float64))
    i, j = side_by_side(boxes, pairs)
    height = boxes[:, 3] - boxes[:, 1]
    level_pair = np.abs(boxes[i, 3] - boxes[j, 3]) < FLOOR_TOLERANCE * np.minimum(
        height[i], height[j]
    )
    segments = Segments.from_links(boxes, i[level_pair], j[level_pair])
    under = stacked_on(boxes, pairs, segments)
    row = _join(segments, np.flatnonzero(under < 0))
    for segment in np.argsort(-segments.box[:, 3], kind="stable"):  # from the floor up
        if under[segment] >= 0:
            row[segment] = row[under[segment]]
    return row[segments.of], level, boxes


def _join(segments: Segments, standing: Ints) -> Ints:
    """Number the rows of the segments that stand on boards, top first; -1 for the others."""
    box, count = segments.box[standing], segments.count[standing]
    row = _rows_of_floors(box, count)
    row = _with_odd_ones(box, count, row)
    longest = np.zeros(row.max() + 1, np.int64)  # of each row, the one to order it by
    order = np.argsort(count, kind="stable")
    longest[row[order]] = order
    rank = np.argsort(np.argsort(box[longest, 3], kind="stable"))
    numbers = np.full(len(segments.count), -1)
    numbers[standing] = rank[row]
    return numbers


def _rows_of_floors(box: Doubles, count: Ints) -> Ints:
    """Join segments (s, 4) of one floor that are not above each other, the longest first."""
    height = np.maximum(box[:, 3] - box[:, 1], TINY)
    away = np.abs(box[:, 3, None] - box[:, 3]) / np.minimum(height[:, None], height)
    width = np.maximum(box[:, 2] - box[:, 0], TINY)
    across = np.minimum(box[:, 2, None], box[:, 2]) - np.maximum(box[:, 0, None], box[:, 0])
    covered = np.maximum(across, 0) / width[:, None]
    row = np.zeros(len(box), np.int64)
    rows = 0
    # Of every row so far: how far each segment is from its floor, how much of each it covers.
    distance, cover = np.empty_like(away), np.empty_like(away)
    for segment in np.lexsort((box[:, 3], -count)).tolist():
        fits = np.where(cover[:rows, segment] < ABOVE_OVERLAP, distance[:rows, segment], np.inf)
        best = int(fits.argmin()) if rows else 0
        if rows and fits[best] < JOIN_TOLERANCE:
            distance[best] = np.minimum(distance[best], away[:, segment])
            cover[best] += covered[:, segment]
        else:
            best, rows = rows, rows + 1
            distance[best], cover[best] = away[:, segment], covered[:, segment]
        row[segment] = best
    return row


def _with_odd_ones(box: Doubles, count: Ints, row: Ints) -> Ints:
    """Give short rows that lie in the band of a longer one to it; numbers rows anew, (s,)."""
    height = np.maximum(box[:, 3] - box[:, 1], TINY)
    inside = np.minimum(box[:, 3, None], box[:, 3]) - np.maximum(box[:, 1, None], box[:, 1])
    inside /= np.minimum(height[:, None], height)
    order = np.argsort(row, kind="stable")
    start = np.searchsorted(row[order], np.arange(row.max() + 1))
    inside = np.maximum.reduceat(inside[np.ix_(order, order)], start, axis=0)
    inside = np.maximum.reduceat(inside, start, axis=1)  # (rows, rows)
    total = np.bincount(row, count)
    host = np.arange(len(total))
    for short in np.argsort(-total, kind="stable").tolist():
        longer = (total[short] <= np.maximum(ODD_SEGMENT, ODD_SHARE * total)) & (
            host == np.arange(len(total))
        )
        longer &= (total > total[short]) | (
            (total == total[short]) & (np.arange(len(total)) < short)
        )
        overlap = np.where(longer, inside[short], 0.0)
        if overlap.max() >= ODD_OVERLAP:
            host[short] = overlap.argmax()
    return np.unique(host[row], return_inverse=True)[1]
