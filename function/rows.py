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

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from function.boxes import Floats, Ints, pairs_in_ranges

Doubles = npt.NDArray[np.float64]

# Neighbours' middles are at most two of the widest products apart (90th percentile).
REACH = 2.0
# A full shelf of 3 000 products has 180 boxes within that reach and 120 000 pairs. Boxes that lie
# all over each other would have every other for a neighbour: 4 500 000 pairs, 735 MiB, 17 s.
MAX_CANDIDATES, MAX_PAIRS = 600, 250_000
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
# A stack repeats itself: equal packs, or a flat one on each high one. A product says half as much
# whose height differs from that of what is below it by a third more, or less, than its neighbours'
# do: some bags in trays reach up to the trays above them, which are on another board.
ODD_STEP, ODD_VOTE = 0.3, 0.5  # of logarithms
# Flat packs of one size that lie on each other, edge on edge, are a column, which is judged as one
# product: beside it the next may lie deeper by a pack and more. Flat is under half the width. Edges
# lie within a fifth of the width, heights within three fifths, and one laps over the next by two
# fifths of it at most.
FLAT_PACK, EDGE_TOLERANCE, SIZE_TOLERANCE, LAP = 0.5, 0.2, 1.6, 0.4
# Between columns twice the space of single products is a touch: of many packs one box is a little
# off, and boards are thicker than that.
COLUMN_LOOSE = 2
# A row of columns is a part of a row of single products when four fifths of it are in there.
PART = 0.8
# Far ends of a row, levelled by an imperfect fit, agree less well than neighbours.
JOIN_TOLERANCE = 0.4
# A few odd boxes (a price card, a product lying down) inside a row's band belong to that row.
ODD_SEGMENT = 3
ODD_SHARE = 0.25  # of the longer row
ODD_OVERLAP = 0.5  # of the lower height
# The band of a row and its stacks, all but a tenth of its products at either end, and what a short
# row's middle may lie beyond it, in products of its own.
BAND_SHARE, BAND_MARGIN = 0.9, 0.25
# A row is long with half as many products as the median row, and four long ones tell how far apart
# boards are. Rows nearer than two fifths of that are of one board. So are a few flat boxes a little
# further away: what is left of a stack whose other boxes were not found. Flat is under a quarter of
# the way between boards: high products that stand back on a sparse board are no stack.
LONG_SHARE, PITCH_ROWS, MIN_PITCH, ODD_PITCH, FLAT = 0.5, 4, 0.4, 0.45, 0.25
# Rows that share less than a fifth of the shorter one's length stand beside each other: two bays.
SAME_BAY = 0.2
# Slopes: a fifth (11 degrees) and a convergence of a third are strong for a photo of a shelf; a
# prior of that width decides where there are too few boxes to say.
TILT_PRIOR, CONVERGENCE_PRIOR = 0.2, 0.3
PRIOR_WEIGHT = 0.01
SLOPE_NOISE = 0.06
SAME_HEIGHT = 0.3
FIT_STEPS = 5  # more change the slopes by less than the noise
MAX_CONVERGENCE = 0.9
JUMPS = 3  # a round, each to the label's label: eight products of a long row are one at once
# A tilted box is wider than what is in it, at most by as much again.
MIN_SHARE = 0.5
TINY = 1e-6


@dataclass(frozen=True, kw_only=True)
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
        left, top, right, bottom = ((xyxy - self.origin * 2) / self.size).T
        x, y, width, height = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
        shrink = 1 + self.convergence * x
        t = (y - self.tilt * x) / shrink
        lean, slope = abs(self.tilt), np.abs(self.tilt + self.convergence * t)
        both = 1 - lean * slope
        half_width = np.maximum((width - lean * height) / both, MIN_SHARE * width) / 2
        half_height = np.maximum((height - slope * width) / both, MIN_SHARE * height) / shrink / 2
        u = x + self.tilt * y
        return np.array((u - half_width, t - half_height, u + half_width, t + half_height)).T

    def across(self, pixel: float, t: Doubles) -> Doubles:
        """Tell where the picture's column `pixel` is, levelled, on boards of height t (r,)."""
        x = (pixel - self.origin[0]) / self.size
        y = t + (self.tilt + self.convergence * t) * x
        return np.asarray(x + self.tilt * y)

    def undo(self, boxes: Doubles) -> Doubles:
        """Turn levelled boxes (n, 4) into upright ones in pixels."""
        left, top, right, bottom = boxes.T
        u, t, width, height = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
        slope = self.tilt + self.convergence * t
        x = (u - self.tilt * t) / (1 + self.tilt * slope)
        y = t + slope * x
        high = height * (1 + self.convergence * x)
        half_width = (width + abs(self.tilt) * high) / 2
        half_height = (high + np.abs(slope) * width) / 2
        corners = np.array((x - half_width, y - half_height, x + half_width, y + half_height)).T
        return corners * self.size + self.origin * 2


def neighbours(boxes: Doubles) -> Ints:
    """Pair each box (n, 4) with those to its right within `REACH`, on its row or the next ones.

    Returns indices (2, p), what stands further left first.
    """
    left, top, right, bottom = boxes.T
    order = (left + right).argsort(kind="stable")
    x, y = ((left + right) / 2)[order], ((top + bottom) / 2)[order]
    reach, height = REACH * quantile(right - left, 0.9), (bottom - top)[order]
    start = np.arange(len(boxes)) + 1
    end = np.minimum(x.searchsorted(x + reach, side="right"), start + MAX_CANDIDATES)
    first, second = pairs_in_ranges(start, end)
    away, room = np.abs(y[first] - y[second]), height[first] + height[second]
    near = np.flatnonzero(away < room)
    if len(near) > MAX_PAIRS:  # boxes in a heap: no shelf, whatever is said of it
        near = near[:: -(-len(near) // MAX_PAIRS)]
    return np.asarray(order[np.array((first[near], second[near]))])


def quantile(values: Doubles, share: float) -> float:
    """Interpolate in values (n,), n > 0; of so few, `np.quantile` takes ten times as long."""
    at = share * (len(values) - 1)
    low, high = np.sort(values)[[math.floor(at), math.ceil(at)]].tolist()
    return float(low + (high - low) * (at % 1))


def beside_and_above(boxes: Doubles, pairs: Ints) -> tuple[Ints, Ints]:
    """Choose of pairs (2, p) those beside each other at one height, and those above each other."""
    first, second = boxes.T.take(pairs[0], axis=1), boxes.T.take(pairs[1], axis=1)
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    # What they share, of the narrower's width and of the lower's height; negative when apart.
    length = np.minimum(first[2:] - first[:2], second[2:] - second[:2])
    across, upright = (high - low) / np.maximum(length, TINY)
    above = across >= ABOVE_OVERLAP
    beside = ~above & (upright >= SIDE_OVERLAP)
    return pairs.compress(beside, axis=1), pairs.compress(above, axis=1)


def fit_level(xyxy: Doubles) -> tuple[Level, Ints]:
    """Fit the boards' tilt and convergence to boxes (n, 4); also return who is near whom (2, p)."""
    left, top, _, _ = xyxy.min(axis=0).tolist()
    _, _, right, bottom = xyxy.max(axis=0).tolist()
    origin = ((left + right) / 2, (top + bottom) / 2)
    size = max(right - left, bottom - top, TINY)
    boxes = Level(tilt=0.0, convergence=0.0, origin=origin, size=size).apply(xyxy)
    pairs = neighbours(boxes)
    tilt, convergence = _fit_slopes(boxes, beside_and_above(boxes, pairs)[0])
    level = Level(tilt=tilt, convergence=convergence, origin=origin, size=size)
    # Once levelled, more neighbours are seen to be neighbours.
    beside, _ = beside_and_above(level.apply(xyxy), pairs)
    tilt, convergence = _fit_slopes(boxes, beside)
    return Level(tilt=tilt, convergence=convergence, origin=origin, size=size), pairs


def _fit_slopes(boxes: Doubles, pairs: Ints) -> tuple[float, float]:
    """Fit slope = tilt + convergence * (y - slope * x), reweighted against outliers (Cauchy)."""
    first, second = boxes.T.take(pairs[0], axis=1), boxes.T.take(pairs[1], axis=1)
    step, height = second - first, np.minimum(first[3] - first[1], second[3] - second[1])
    # Only equals say where the board is: of a high and a low box one may be a stack or half hidden.
    alike = np.maximum(np.abs(step[1]), np.abs(step[3])) < SAME_HEIGHT * height
    run = (step[0] + step[2]) / 2
    alike &= run > TINY
    run, height = run[alike], height[alike]
    slope = step[3][alike] / run
    left, _, right, floor = ((first + second) / 2).compress(alike, axis=1)
    y = floor - slope * (left + right) / 2
    return _solve_slopes(slope, y, SLOPE_NOISE**2 * run / height)


def _solve_slopes(slope: Doubles, y: Doubles, trust: Doubles) -> tuple[float, float]:
    """Solve slope = tilt + convergence * y, (m,), by the normal equations of two unknowns."""
    facts = np.array((np.ones_like(y), y, y * y, slope, y * slope))
    tilt, convergence = quantile(slope, 0.5) if len(slope) else 0.0, 0.0
    for _ in range(FIT_STEPS):
        error = slope - (tilt + convergence * y)
        weight = trust / (SLOPE_NOISE**2 + error * error)
        one, of_y, of_yy, of_slope, of_both = (facts @ weight).tolist()
        one, of_yy = one + PRIOR_WEIGHT / TILT_PRIOR**2, of_yy + PRIOR_WEIGHT / CONVERGENCE_PRIOR**2
        whole = one * of_yy - of_y * of_y
        tilt = (of_yy * of_slope - of_y * of_both) / whole
        convergence = (one * of_both - of_y * of_slope) / whole
    return tilt, min(max(convergence, -MAX_CONVERGENCE), MAX_CONVERGENCE)


@dataclass(frozen=True)
class Segments:
    """Products that belong together, such as those side by side on one floor; parallel arrays."""

    of: Ints  # (n,) segment of each product
    count: Ints  # (s,)
    box: Doubles  # (s, 4) leftmost left, median top, rightmost right, median floor

    @classmethod
    def from_links(cls, boxes: Doubles, links: Ints) -> Segments:
        """Gather what is linked (2, p), directly or through others."""
        label = _components(len(boxes), links)
        of = ((label == np.arange(len(label))).cumsum() - 1)[label]
        count = np.bincount(of)
        left, top, right, floor = boxes.T
        order, start = of.argsort(kind="stable"), count.cumsum() - count
        leftmost = np.minimum.reduceat(left[order], start)
        rightmost = np.maximum.reduceat(right[order], start)
        box = np.array((leftmost, medians(top, of), rightmost, medians(floor, of))).T
        return cls(of, count, box)


def medians(values: Doubles, of: Ints) -> Doubles:
    """Give the median of each group's values (n,); `of` (n,) numbers the groups from 0."""
    count = np.bincount(of)
    start = count.cumsum() - count
    ordered = values[np.lexsort((values, of))]
    return np.asarray((ordered[start + count // 2] + ordered[start + (count - 1) // 2]) / 2)


def _components(count: int, links: Ints) -> Ints:
    """Label what is connected by links (2, p) by the smallest index in it, (count,)."""
    label = np.arange(count)
    while True:
        one, other = label[links]
        if (one == other).all():
            return label
        np.minimum.at(label, np.maximum(one, other), np.minimum(one, other))
        for _ in range(JUMPS):
            label = label[label]


def stacked_on(boxes: Doubles, above: Ints, segments: Segments, reach: Doubles) -> Ints:
    """Find the segment that each segment stands on, (s,), -1 for those on a board.

    Takes the pairs (2, p) of boxes above each other, and the height by which each touches, (n,).
    The votes of its products that touch one below must be half of their number: a whole board is
    rarely that close to the tops of the next one, where single products are.
    """
    _, top, _, floor = boxes.T
    upper, lower = _upper_first(boxes, above)
    # Of those that begin below its middle, the nearest one counts.
    below = top[lower] > ((top + floor) / 2)[upper]
    upper, lower = upper[below], lower[below]
    space, height = top[lower] - floor[upper], floor - top
    touches = space < STACK_TOLERANCE * np.minimum(reach[upper], reach[lower]) + NOISE
    nearest = np.full(len(boxes), -1)
    order = (-space).argsort(kind="stable")
    nearest[upper[order]] = np.where(touches, lower, -1)[order]
    standing = np.flatnonzero(nearest >= 0)
    over, on = segments.of[standing], nearest[standing]
    scale = np.log(np.maximum(height, TINY))
    step, (_, group) = scale[standing] - scale[on], np.unique(over, return_inverse=True)
    odd = np.abs(step - medians(step, group)[group]) > ODD_STEP
    return _elected(segments, over, segments.of[on], np.where(odd, ODD_VOTE, 1.0))


def _upper_first(boxes: Doubles, above: Ints) -> Ints:
    """Turn pairs (2, p) of boxes above each other so that the upper one comes first."""
    floor = boxes[:, 3]
    return np.where(np.greater(*floor[above]), above[::-1], above)


def _elected(segments: Segments, over: Ints, under: Ints, say: Doubles) -> Ints:
    """Choose what each segment stands on, (s,), by its products' votes: `over` for `under` (v,).

    A vote counts as much as `say` (v,), up to 1.
    """
    size, floor = len(segments.count), segments.box[:, 3]
    votes = np.bincount(over * size + under, say, size * size).reshape(size, size)
    votes[floor[:, None] >= floor] = 0  # never on what is not lower
    best = votes.argmax(axis=1)
    enough = (votes.sum(axis=1) >= segments.count / 2) & (votes.max(axis=1) > 0)
    return np.where(enough, best, -1)


def group_rows(xyxy: Floats) -> tuple[Ints, Level, Doubles]:
    """Number the shelf row of each box (n, 4) of pixels, 0 at the top.

    Returns row (n,), the level of the boards, and the levelled boxes (n, 4).
    """
    if not len(xyxy):
        return np.zeros(0, np.int64), Level(), np.zeros((0, 4))
    pixels = xyxy.astype(np.float64)
    level, pairs = fit_level(pixels)
    boxes = level.apply(pixels)
    beside, above = beside_and_above(boxes, pairs)
    height = boxes[:, 3] - boxes[:, 1]
    single = _rows(boxes, beside, above, height)
    columns = Segments.from_links(boxes, lying_on(boxes, above))
    if len(columns.count) == len(boxes):
        return single, level, boxes
    around = _around_columns(boxes, columns)
    beside, above = beside_and_above(around, neighbours(around))
    loose = np.where(columns.count > 1, COLUMN_LOOSE, 1)
    row = _rows(around, beside, above, loose * medians(height, columns.of))[columns.of]
    return _join_parts(row, single, boxes[:, 3]), level, boxes


def lying_on(boxes: Doubles, above: Ints) -> Ints:
    """Choose of pairs (2, p) above each other the flat packs of one size that lie on each other."""
    upper, lower = (boxes.T.take(side, axis=1) for side in _upper_first(boxes, above))
    width = np.minimum(upper[2] - upper[0], lower[2] - lower[0])
    heights = upper[3] - upper[1], lower[3] - lower[1]
    low, high = np.minimum(*heights), np.maximum(*heights)
    off = np.abs(upper - lower)
    edge_on_edge = np.maximum(off[0], off[2]) < EDGE_TOLERANCE * width
    space = lower[1] - upper[3]
    touch = (space < STACK_TOLERANCE * low + NOISE) & (space > -LAP * low)
    alike = (high < FLAT_PACK * width) & (high < SIZE_TOLERANCE * low)
    return above.compress(edge_on_edge & touch & alike, axis=1)


def _around_columns(boxes: Doubles, columns: Segments) -> Doubles:
    """Give the box of each column (c, 4), as wide as most in it and as high as all."""
    order, start = columns.of.argsort(kind="stable"), columns.count.cumsum() - columns.count
    left, top, right, floor = boxes.T
    highest = np.minimum.reduceat(top[order], start)
    lowest = np.maximum.reduceat(floor[order], start)
    return np.array((medians(left, columns.of), highest, medians(right, columns.of), lowest)).T


def _join_parts(row: Ints, single: Ints, floor: Doubles) -> Ints:
    """Join rows of columns (n,) that are parts of one row of `single` products (n,).

    A missed pack parts a column in two; what stands around it may still say that both are a stack.
    """
    shared = np.zeros((row.max() + 1, single.max() + 1), np.int64)
    np.add.at(shared, (row, single), 1)
    is_part = shared.max(axis=1) >= PART * shared.sum(axis=1)
    alone = single.max() + 1 + np.arange(len(shared))
    whole = np.where(is_part, shared.argmax(axis=1), alone)
    _, joined = np.unique(whole[row], return_inverse=True)
    rank = medians(floor, joined).argsort(kind="stable").argsort()
    return np.asarray(rank[joined])


def _rows(boxes: Doubles, beside: Ints, above: Ints, reach: Doubles) -> Ints:
    """Number the rows of levelled boxes, (n,), by who is beside and who is above whom (2, p).

    Takes the height by which each touches what it stands on, (n,).
    """
    segments = Segments.from_links(boxes, _on_one_floor(boxes, beside))
    under = stacked_on(boxes, above, segments, reach)
    row = _join(segments, np.flatnonzero(under < 0))
    from_floor_up = (-segments.box[:, 3]).argsort(kind="stable")
    for segment in from_floor_up[under[from_floor_up] >= 0].tolist():
        row[segment] = row[under[segment]]
    return _on_one_board(boxes, _within_stacks(boxes, row[segments.of]))


def _within_stacks(boxes: Doubles, row: Ints) -> Ints:
    """Give short rows that lie in the band of a longer one, its stacks included, to it, (n,).

    What leans or lies in a stack has its own floor, and would be a row of a product or two.
    """
    count = np.bincount(row)
    if len(count) == 1:
        return row
    _, top, _, floor = boxes.T
    by_top, by_floor = np.lexsort((top, row)), np.lexsort((floor, row))
    start = count.cumsum() - count
    last = np.ceil(BAND_SHARE * (count - 1)).astype(np.int64)
    band_top = top[by_top][start + count - 1 - last].tolist()
    band_floor = floor[by_floor][start + last].tolist()
    middle = (medians(top, row) + medians(floor, row)) / 2
    margin, size = (BAND_MARGIN * medians(floor - top, row)).tolist(), count.tolist()
    into = list(range(len(size)))
    for short in count.argsort(kind="stable").tolist():
        hosts = [
            (abs(floor_ - band_floor[short]), host)
            for host, (top_, floor_) in enumerate(zip(band_top, band_floor, strict=True))
            if into[host] == host != short
            and size[short] <= max(ODD_SEGMENT, ODD_SHARE * size[host])
            and size[short] < size[host]
            and top_ - margin[short] < middle[short] < floor_ + margin[short]
        ]
        if hosts:
            into[short] = min(hosts)[1]
            size[into[short]] += size[short]
    for index in range(len(into)):
        while into[index] != into[into[index]]:
            into[index] = into[into[index]]
    kept = np.array(into)
    rank = (kept == np.arange(len(kept))).cumsum() - 1
    return np.asarray(rank[kept[row]])


def _on_one_board(boxes: Doubles, row: Ints) -> Ints:
    """Join rows that are too close for boards, (n,); the distance of the long rows says how close.

    What stands deeper or leans has a floor of its own. Rows that are not above each other are two
    bays, whose boards may well be at different heights.
    """
    count = np.bincount(row)
    long = np.flatnonzero(count >= LONG_SHARE * np.median(count))
    floor = medians(boxes[:, 3], row)
    if len(long) < PITCH_ROWS:
        return row
    pitch = quantile(np.diff(floor[long]), 0.5)
    left, right = np.full(len(count), np.inf), np.full(len(count), -np.inf)
    np.minimum.at(left, row, boxes[:, 0])
    np.maximum.at(right, row, boxes[:, 2])
    across = np.minimum(right[:, None], right) - np.maximum(left[:, None], left)
    above = across >= SAME_BAY * np.minimum((right - left)[:, None], right - left)
    flat = medians(boxes[:, 3] - boxes[:, 1], row) < FLAT * pitch
    odd = (count[:, None] <= np.maximum(ODD_SEGMENT, ODD_SHARE * count)) & flat[:, None] & flat
    near = np.abs(floor[:, None] - floor) < np.where(odd, ODD_PITCH, MIN_PITCH) * pitch
    joins = near & above & (count[:, None] <= count)  # (short, host)
    np.fill_diagonal(joins, False)
    into = np.arange(len(count))
    short_first = count.argsort(kind="stable")
    for short in short_first[joins[short_first].any(axis=1)].tolist():
        hosts = np.flatnonzero((into == np.arange(len(into))) & joins[short])
        if len(hosts):
            into[into == short] = hosts[np.abs(floor[hosts] - floor[short]).argmin()]
    rank = (into == np.arange(len(into))).cumsum() - 1
    return np.asarray(rank[into[row]])


def _on_one_floor(boxes: Doubles, pairs: Ints) -> Ints:
    """Keep the pairs (2, p) whose bottoms are near each other for the height of the lower one."""
    (floor, other), height = boxes[:, 3][pairs], (boxes[:, 3] - boxes[:, 1])[pairs]
    near = np.abs(floor - other) < FLOOR_TOLERANCE * height.min(axis=0)
    return pairs.compress(near, axis=1)


def _join(segments: Segments, standing: Ints) -> Ints:
    """Number the rows of the segments that stand on boards, top first; -1 for the others."""
    box, count = segments.box[standing], segments.count[standing]
    row = _with_odd_ones(box, count, _rows_of_floors(box, count))
    longest = np.zeros(row.max() + 1, np.int64)  # of each row, the one to order it by
    order = count.argsort(kind="stable")
    longest[row[order]] = order
    rank = box[longest, 3].argsort(kind="stable").argsort()
    numbers = np.full(len(segments.count), -1)
    numbers[standing] = rank[row]
    return numbers


def _rows_of_floors(box: Doubles, count: Ints) -> Ints:
    """Join segments (s, 4) of one floor that are not above each other, the longest first."""
    left, top, right, floor = box.T
    height, width = np.maximum(floor - top, TINY), np.maximum(right - left, TINY)
    away = np.abs(floor[:, None] - floor) / np.minimum(height[:, None], height)
    across = np.minimum(right[:, None], right) - np.maximum(left[:, None], left)
    covers = np.maximum(across, 0) / width
    row = np.zeros(len(box), np.int64)
    rows = 0
    # Of every row: how far each segment is from its floor, infinitely where the row is above or
    # below it already; how much of each it covers.
    distance, cover = np.full(away.shape, np.inf), np.zeros(away.shape)
    for segment in np.lexsort((floor, -count)).tolist():
        best = int(distance[: rows + 1, segment].argmin())
        if distance[best, segment] >= JOIN_TOLERANCE:
            best, rows = rows, rows + 1
        row[segment] = best
        cover[best] += covers[segment]
        nearest = np.minimum(distance[best], away[segment])
        distance[best] = np.where(cover[best] < ABOVE_OVERLAP, nearest, np.inf)
    return row


def _with_odd_ones(box: Doubles, count: Ints, row: Ints) -> Ints:
    """Give short rows that lie in the band of a longer one to it; numbers rows anew, (s,)."""
    size, total = np.bincount(row), np.bincount(row, count)
    longest_first = (-total).argsort(kind="stable")
    rank = longest_first.argsort()
    odd = (rank[:, None] > rank) & (total[:, None] <= np.maximum(ODD_SEGMENT, ODD_SHARE * total))
    if not odd.any():
        return row
    _, top, _, floor = box[row.argsort(kind="stable")].T
    height, start = np.maximum(floor - top, TINY), size.cumsum() - size
    inside = np.minimum(floor[:, None], floor) - np.maximum(top[:, None], top)
    inside /= np.minimum(height[:, None], height)
    inside = np.maximum.reduceat(np.maximum.reduceat(inside, start, axis=0), start, axis=1)
    inside = np.where(odd, inside, 0)  # (rows, rows)
    host = np.arange(len(total))
    for short in longest_first[inside.max(axis=1)[longest_first] >= ODD_OVERLAP].tolist():
        best = int(inside[short].argmax())
        if inside[short, best] >= ODD_OVERLAP:
            host[short] = best
            inside[:, short] = 0  # what is taken in takes in no other
    rank = (host == np.arange(len(host))).cumsum() - 1
    return np.asarray(rank[host[row]])
