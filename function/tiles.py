"""A second look: at parts of a picture in more of its own pixels, or at all of it from further off.
Where to look, and how the parts become one again. Pure; nothing here does IO.

A model has learned products of some size. The first look sees the whole picture at the size of the
model's input: a panorama is a thin strip there, and the products of a whole aisle are a few pixels
wide. Tiles show them as the model knows them. Of larger ones it takes parts for products, in a
close-up as in a tile: so a close-up is looked at again at a smaller scale, and tiles of a picture
in which products are neither small nor large leave to the first look what it saw well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from function.boxes import (
    SHARED_BLOCK,
    Floats,
    box_area,
    non_max_suppression,
    shared_area,
    shared_with_better,
)
from function.detections import Detail, Detections, Thresholds

# An inference each: six take half a second of a processor.
MAX_TILES = 6
# The median of the products' shorter sides, in input pixels, below which a second look counts
# better. Of 264 labelled photos of 1280 px it did so up to 11 px and did not from 13 on, where it
# counts what stands behind as well; a somewhat wide picture is only cut across, which does not.
# A second look at other pictures is left what is smaller than that: with all that the tiles hold,
# the count of those 264 was off by 26 % in place of 12 (9 at one look).
SMALL = 12.0
BROAD, SMALL_WHERE_BROAD = 1.4, 18.0
# A picture may be so wide that the first look sees next to nothing, and that at any size: half of
# those products have a confidence below this. In strips cut out of photos it was 0.57 and more.
WIDE, SURE = 1.9, 0.5
# The metadata that tells the median of the products' shorter sides on the photos that a model has
# learned from, in pixels of its input (`model.calibrate`). Where a picture's median is twice that,
# a look from further off counts better: on 476 parts of 209 labelled photos F1 of products was 0.84
# in place of 0.67, that of gaps 0.73 in place of 0.54. Below that, whole photos gained nothing.
SIDE, CLOSE = "product_side", 2.0
MAX_TIMES = 4.0  # smaller; more was not measured
# Where the first look saw nothing at all, products may fill the picture: of 208 parts of photos, a
# fifth to a tenth as wide, that held 802 products, a look as far off found 862. Of 102 parts of
# floors and ceilings it took 10 for a product.
TIMES_FOR_NOTHING = 3.0
# Sure products that would be smaller than that from further off, in input pixels, stay.
TOO_FAR = 16.0
# Tiles of a close-up find less: where the first look saw nothing, the one from further off counts.
FEW = 10
# Neighbours share a fifth of a tile: more than a product is wide.
OVERLAP = 0.2
# A tile's edge cuts what lies across it. The neighbour sees it whole.
CUT = 0.005  # of the tile's longer side
# A box is there already when another holds three quarters of the smaller of the two; one of the
# first look, when those of the tiles cover a third of it.
SAME_SHARE, KNOWN_SHARE = 0.75, 0.33
# What the first look saw well also holds a box of the tiles that shares half of the smaller one.
HELD_SHARE = 0.5
SEAM_IOU = 0.45
SMALLEST = np.finfo(np.float32).tiny  # an area that is none


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A part of a picture, in its pixels."""

    left: int
    top: int
    right: int
    bottom: int


def may_look_closer(width: int, height: int, size: tuple[int, int], detail: Detail) -> bool:
    """Tell whether a picture may get a second look: never one that fits into the first.

    Takes the picture's size and the model's input (width, height).
    """
    return detail != "fast" and max(width / size[0], height / size[1]) > 1


def closer_size(width: int, height: int, size: tuple[int, int]) -> tuple[int, int]:
    """Say how large a picture's decoding must be for the tiles of a second look."""
    aspect = max(width, height) / min(width, height)
    times = max(aspect if aspect >= BROAD else 0, 2 - OVERLAP)
    return math.ceil(size[0] * times), math.ceil(size[1] * times)


@dataclass(frozen=True, kw_only=True)
class Sight:
    """How large products were to a look, by their sides, and whether its picture is too wide."""

    scale: float  # pixels of the model's input that a pixel of the photo became
    own_side: float  # the median of the shorter ones, in the photo's pixels; infinite without any
    is_strip: bool  # so wide (or high) that its longer side makes products too small

    @classmethod
    def of(cls, width: int, height: int, size: tuple[int, int], look: Detections) -> Sight:
        """Measure a look at a picture; takes its size and the model's input (width, height)."""
        scale = input_scale(width, height, size)
        xyxy, confidence = look.by_default
        own_side = float(np.median(shorter_sides(xyxy))) if len(xyxy) else math.inf
        aspect = max(width, height) / min(width, height)
        is_strip = (aspect >= BROAD and own_side * scale < SMALL_WHERE_BROAD) or (
            aspect >= WIDE and (not len(xyxy) or float(np.median(confidence)) < SURE)
        )
        return cls(scale=scale, own_side=own_side, is_strip=is_strip)

    @property
    def side(self) -> float:
        """The median of the products' shorter sides in pixels of the model's input."""
        return self.own_side * self.scale

    @property
    def well(self) -> float:
        """From which shorter side on, in the photo's pixels, things were seen well.

        Infinite where the picture is a strip or its products are small: tiles show all of it
        better.
        """
        return math.inf if self.is_strip or self.side < SMALL else SMALL / self.scale


@dataclass(frozen=True, kw_only=True)
class SecondLook:
    """What a second look goes to: tiles, all of the picture `times` smaller, both or nothing."""

    tiles: tuple[Tile, ...] = ()
    times: float = 1.0

    @property
    def looks(self) -> int:
        """How often the model looks."""
        return len(self.tiles) + (self.times > 1)


def plan_second_look(
    width: int,
    height: int,
    size: tuple[int, int],
    detail: Detail,
    first: Detections,
    usual: float = math.inf,
) -> SecondLook:
    """Choose what to look at again; nothing where the first look will do.

    Takes the picture's size and the model's input (width, height), and the `usual` side of products
    there.
    """
    sight = Sight.of(width, height, size, first)
    looks_far = detail != "fast" and usual < math.inf
    if looks_far and CLOSE * usual <= sight.side < math.inf:  # before tiles: they would show parts
        return SecondLook(times=min(sight.side / usual, MAX_TIMES))
    seen = sight.side < math.inf or first.gap_confidence.max(initial=0) >= SURE
    return SecondLook(
        tiles=tuple(_plan_tiles(width, height, size, detail, sight)),
        times=TIMES_FOR_NOTHING if looks_far and not seen else 1.0,
    )


def _plan_tiles(
    width: int, height: int, size: tuple[int, int], detail: Detail, sight: Sight
) -> list[Tile]:
    """Choose at most `MAX_TILES` tiles; none where the first look will do."""
    if not may_look_closer(width, height, size, detail):
        return []
    if detail != "fine" and sight.well < math.inf:
        return []
    shorter = min(width, height)
    # A strip is cut across; else the shorter side is halved, for twice the pixels a product.
    side = shorter if sight.is_strip else math.ceil(shorter / (2 - OVERLAP))
    columns, rows = (_steps(length, side) for length in (width, height))
    while columns * rows > MAX_TILES:
        side = math.ceil(side * 1.05)
        columns, rows = (_steps(length, side) for length in (width, height))
    return [
        Tile(left=left, top=top, right=right, bottom=bottom)
        for top, bottom in _spans(height, rows)
        for left, right in _spans(width, columns)
    ]


def shorter_sides(xyxy: Floats) -> Floats:
    """Measure the shorter sides (n,) of boxes (n, 4)."""
    return np.asarray((xyxy[:, 2:] - xyxy[:, :2]).min(axis=1))


def input_scale(width: float, height: float, size: tuple[int, int]) -> float:
    """Say how many pixels of the model's input (width, height) a pixel of the photo becomes."""
    return min(size[0] / width, size[1] / height)


def _steps(length: int, side: int) -> int:
    return 1 + max(math.ceil((length - side) / (side * (1 - OVERLAP))), 0)


def _spans(length: int, count: int) -> list[tuple[int, int]]:
    """Spread `count` overlapping spans over a length."""
    span = length / (1 + (count - 1) * (1 - OVERLAP))
    step = span * (1 - OVERLAP)
    starts = [round(index * step) for index in range(count)]
    return [(start, min(math.ceil(start + span), length)) for start in starts]


def merge(
    first: Detections,
    tiles: list[tuple[Tile, Detections]],
    size: tuple[int, int],
    thresholds: Thresholds,
    large: float = math.inf,
) -> Detections:
    """Join what two looks found, best first; nothing is counted twice at a seam.

    `tiles` hold boxes in the picture's pixels, `size` is its width and height. What is as `large`
    is as the first look saw it (`Sight.well`).
    """
    added = [_only(look, partial(_adds, tile=tile, size=size, large=large)) for tile, look in tiles]
    own = _only(first, lambda xyxy: shorter_sides(xyxy) >= large)
    gaps = np.concatenate([first.gap_xyxy, *(look.gap_xyxy for look in added)])
    sure = np.concatenate([first.gap_confidence, *(look.gap_confidence for look in added)])
    best = non_max_suppression(gaps, sure, np.zeros(len(gaps), np.int64), SEAM_IOU, len(gaps))
    xyxy = np.concatenate([look.xyxy for look in added])
    confidence = np.concatenate([look.confidence for look in added])
    class_id = np.concatenate([look.class_id for look in added])
    kept = non_max_suppression(xyxy, confidence, class_id, SEAM_IOU, len(xyxy))
    kept = kept[~_held_by_better(xyxy[kept])]
    kept = kept[~_held_by(own.xyxy, xyxy[kept])]
    seen = Detections(
        xyxy=xyxy[kept],
        confidence=confidence[kept],
        class_id=class_id[kept],
        truncated=any(look.truncated for look in (own, *added)),
        faint=np.concatenate([look.faint for look in (own, *added)]),
        faint_confidence=np.concatenate([look.faint_confidence for look in (own, *added)]),
        sees_gaps=first.sees_gaps,
        gap_xyxy=gaps[best],
        gap_confidence=sure[best],
    )
    return _complete(seen, first, thresholds, large)


def merge_far(
    first: Detections, far: Detections, thresholds: Thresholds, small: float
) -> Detections:
    """Join what a look from further off found with products that were too `small` for it.

    What only the first look saw, and was sure of, counts below that many of the picture's pixels:
    above it is a part.
    """
    kept = (shorter_sides(first.xyxy) < small) & (first.confidence >= SURE)
    own = replace(
        first,
        xyxy=first.xyxy[kept],
        confidence=first.confidence[kept],
        class_id=first.class_id[kept],
    )
    return _complete(far, own, thresholds, math.inf)


def _complete(
    look: Detections, first: Detections, thresholds: Thresholds, large: float
) -> Detections:
    """Add products of the first look: those that are `large`, or that the other does not cover."""
    covered = [area for _, areas in _shared(first.xyxy, look.xyxy) for area in areas.sum(axis=1)]
    added = np.array(covered) < KNOWN_SHARE * box_area(first.xyxy)
    added |= shorter_sides(first.xyxy) >= large
    xyxy = np.concatenate((look.xyxy, first.xyxy[added]))
    confidence = np.concatenate((look.confidence, first.confidence[added]))
    class_id = np.concatenate((look.class_id, first.class_id[added]))
    order = np.argsort(-confidence, kind="stable")
    kept = order[: thresholds.max_detections]
    return replace(
        look,
        xyxy=xyxy[kept],
        confidence=confidence[kept],
        class_id=class_id[kept],
        truncated=look.truncated or len(order) > len(kept),
    )


def _shared(xyxy: Floats, others: Floats) -> Iterator[tuple[Floats, Floats]]:
    """Yield blocks (b, 4) of boxes (n, 4), and the areas (b, m) they share with others (m, 4)."""
    for start in range(0, len(xyxy), SHARED_BLOCK):
        block = xyxy[start : start + SHARED_BLOCK]
        yield block, shared_area(block[:, None], others)


def _held_by(large: Floats, xyxy: Floats) -> npt.NDArray[np.bool_]:
    """Tell which boxes (n, 4) share half of the smaller one with one of the large ones (m, 4)."""
    held = [np.zeros(0, np.bool_)]
    for block, shared in _shared(xyxy, large):
        smaller = np.minimum(box_area(block)[:, None], box_area(large))
        held.append(np.any(shared >= HELD_SHARE * np.maximum(smaller, SMALLEST), axis=1))
    return np.concatenate(held)


def _held_by_better(xyxy: Floats) -> npt.NDArray[np.bool_]:
    """Tell which boxes (n, 4), best first, share most of the smaller one with a better one."""
    area = box_area(xyxy)
    held: list[npt.NDArray[np.bool_]] = [np.zeros(0, np.bool_)]
    for block, shared in shared_with_better(xyxy):
        least = np.maximum(np.minimum(area[block, None], area[: block.stop]), SMALLEST)
        held.append(np.any(shared >= SAME_SHARE * least, axis=1))
    return np.concatenate(held)


def _only(look: Detections, chosen: Callable[[Floats], npt.NDArray[np.bool_]]) -> Detections:
    """Keep the boxes of a look that are chosen."""
    products, faint, gaps = (chosen(xyxy) for xyxy in (look.xyxy, look.faint, look.gap_xyxy))
    return replace(
        look,
        xyxy=look.xyxy[products],
        confidence=look.confidence[products],
        class_id=look.class_id[products],
        faint=look.faint[faint],
        faint_confidence=look.faint_confidence[faint],
        gap_xyxy=look.gap_xyxy[gaps],
        gap_confidence=look.gap_confidence[gaps],
    )


def _adds(
    xyxy: Floats, *, tile: Tile, size: tuple[int, int], large: float
) -> npt.NDArray[np.bool_]:
    """Choose boxes (n, 4) that are small, and that no edge of the tile cuts inside the picture."""
    width, height = size
    margin = CUT * max(tile.right - tile.left, tile.bottom - tile.top)
    left, top, right, bottom = xyxy.T
    return np.asarray(
        (shorter_sides(xyxy) < large)
        & ((left > tile.left + margin) | (tile.left <= 0))
        & ((top > tile.top + margin) | (tile.top <= 0))
        & ((right < tile.right - margin) | (tile.right >= width))
        & ((bottom < tile.bottom - margin) | (tile.bottom >= height))
    )
