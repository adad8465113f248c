"""A second look: where it looks, and that what it finds is one shelf again."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest

from function.audit import audit_image
from function.boxes import Floats, box_area, shared_area
from function.detections import Detail, Detections, Thresholds
from function.detector import Detector
from function.metrics import Metrics
from function.tiles import (
    MAX_TILES,
    MAX_TIMES,
    SMALL,
    TIMES_FOR_NOTHING,
    SecondLook,
    Sight,
    Tile,
    closer_size,
    merge,
    merge_far,
    plan_second_look,
)
from model.render import render_shelf

INPUT = (800, 800)


def found(xyxy: list[list[float]], gaps: list[list[float]] | None = None) -> Detections:
    boxes = np.array(xyxy, np.float32).reshape(-1, 4)
    empty = np.array(gaps or [], np.float32).reshape(-1, 4)
    return Detections(
        xyxy=boxes,
        confidence=np.linspace(0.9, 0.5, len(boxes), dtype=np.float32),
        class_id=np.zeros(len(boxes), np.int64),
        sees_gaps=True,
        gap_xyxy=empty,
        gap_confidence=np.full(len(empty), 0.8, np.float32),
    )


NONE = found([])


@pytest.mark.parametrize(
    ("width", "height", "detail", "side", "tiles"),
    [
        pytest.param(600, 800, "fine", 40, 0, id="all-of-it-is-seen-at-once"),
        pytest.param(1600, 1200, "auto", 40, 0, id="ordinary"),
        pytest.param(1600, 1200, "fast", 10, 0, id="small-products-but-fast"),
        pytest.param(1600, 1200, "auto", 20, 6, id="small-products"),
        pytest.param(1800, 1200, "auto", 35, 2, id="smaller-products-on-a-broad-one"),
        pytest.param(1800, 1200, "auto", 45, 0, id="a-broad-one"),
        pytest.param(1600, 1200, "fine", 40, 6, id="fine"),
        pytest.param(1200, 1200, "fine", 40, 4, id="a-square"),
        pytest.param(3600, 1200, "auto", 80, 4, id="a-panorama"),
        pytest.param(3600, 1200, "fast", 80, 0, id="a-panorama-but-fast"),
        pytest.param(3600, 1200, "auto", 82, 0, id="a-strip-of-ordinary-products"),
        pytest.param(1200, 3600, "auto", 80, 4, id="upright"),
        pytest.param(50_000, 1000, "auto", 40, 6, id="endless"),
    ],
)
def test_a_second_look_goes_where_the_first_sees_too_little(
    width: int, height: int, detail: Detail, side: float, tiles: int
) -> None:
    first = found([[0, 0, side, side]] * 5)
    planned = plan_second_look(width, height, INPUT, detail, first).tiles
    assert len(planned) == tiles <= MAX_TILES
    if planned:
        seen = np.zeros((10, 1000), np.bool_)  # every part of the picture
        for tile in planned:
            x = slice(tile.left * 1000 // width, -(-tile.right * 1000 // width))
            y = slice(tile.top * 10 // height, -(-tile.bottom * 10 // height))
            seen[y, x] = True
        assert seen.all()
        assert {tile.right for tile in planned if tile.right >= width} == {width}


@pytest.mark.parametrize(
    ("detail", "first", "usual", "times"),
    [
        pytest.param("auto", NONE, 20, TIMES_FOR_NOTHING, id="nothing"),
        pytest.param("fast", NONE, 20, 1, id="but-fast"),
        pytest.param("auto", NONE, math.inf, 1, id="a-model-that-does-not-say"),
        pytest.param("auto", found([], [[5, 5, 99, 99]]), 20, 1, id="an-empty-shelf"),
        pytest.param(
            "auto",
            replace(
                NONE,
                faint=np.array([[5, 5, 30, 30]], np.float32),
                faint_confidence=np.array([0.5], np.float32),
            ),
            20,
            1,
            id="less-sure-than-was-asked-for",
        ),
    ],
)
def test_where_nothing_is_seen_it_may_be_too_close(
    detail: Detail, first: Detections, usual: float, times: float
) -> None:
    second = plan_second_look(1600, 1200, INPUT, detail, first, usual)
    assert second == SecondLook(times=times)


@pytest.mark.parametrize(
    ("detail", "side", "usual", "times"),
    [
        pytest.param("auto", 39, 20, 1, id="ordinary"),
        pytest.param("auto", 40, 20, 2, id="twice-as-large"),
        pytest.param("auto", 60, 20, 3, id="larger"),
        pytest.param("auto", 700, 20, MAX_TIMES, id="as-large-as-the-picture"),
        pytest.param("fine", 60, 20, 3, id="fine"),
        pytest.param("auto", 60, 30, 2, id="the-least"),
        pytest.param("fast", 60, 20, 1, id="but-fast"),
        pytest.param("auto", 700, math.inf, 1, id="a-model-that-does-not-say"),
    ],
)
def test_a_close_up_is_looked_at_from_further_off(
    detail: Detail, side: float, usual: float, times: float
) -> None:
    first = found([[0, 0, side, side]] * 5)
    second = plan_second_look(800, 600, INPUT, detail, first, usual)
    assert (second, second.looks) == (SecondLook(times=times), int(times > 1))


@pytest.mark.parametrize("detail", ["auto", "fine"])
def test_a_close_up_is_cut_into_no_tiles(detail: Detail) -> None:
    first = replace(found([[0, 0, 200, 200]] * 3), confidence=np.full(3, 0.3, np.float32))
    assert plan_second_look(4000, 1600, INPUT, detail, first) == plan_second_look(
        4000, 1600, INPUT, detail, first, usual=30
    )
    second = plan_second_look(4000, 1600, INPUT, detail, first, usual=20)
    assert second == SecondLook(times=2)


def test_a_wide_picture_of_which_nothing_is_seen_gets_both() -> None:
    second = plan_second_look(3600, 1200, INPUT, "auto", NONE, usual=20)
    assert (len(second.tiles), second.times, second.looks) == (4, TIMES_FOR_NOTHING, 5)


@pytest.mark.parametrize(
    ("width", "confidence", "strip"),
    [
        pytest.param(1900, [], True, id="nothing-found"),
        pytest.param(1900, [0.3, 0.4, 0.9], True, id="unsure"),
        pytest.param(1900, [0.3, 0.6, 0.9], False, id="sure"),
        pytest.param(1800, [0.3, 0.4, 0.9], False, id="not-so-wide"),
    ],
)
def test_a_wide_picture_of_which_little_is_seen_is_a_strip(
    width: int, confidence: list[float], strip: bool
) -> None:
    first = found([[0, 0, 99, 99]] * len(confidence))
    first = replace(first, confidence=np.array(confidence, np.float32))
    for across, down in ((width, 1000), (1000, width)):
        assert Sight.of(across, down, INPUT, first).is_strip == strip


def test_tiles_of_a_panorama_want_its_height_at_the_size_of_the_input() -> None:
    assert closer_size(3600, 1200, INPUT) == (2400, 2400)
    assert closer_size(1200, 1200, INPUT) == (1440, 1440)


LEFT = Tile(left=0, top=0, right=100, bottom=100)
RIGHT = Tile(left=80, top=0, right=180, bottom=100)
SIZE = (180, 100)


def joined(
    first: Detections, left: Detections, right: Detections, large: float = math.inf
) -> Floats:
    merged = merge(first, [(LEFT, left), (RIGHT, right)], SIZE, Thresholds(), large)
    return merged.xyxy[np.argsort(merged.xyxy[:, 0])]


@pytest.mark.parametrize(
    ("first", "left", "right", "expected"),
    [
        pytest.param([], [], [], [], id="nothing"),
        pytest.param([], [[85, 10, 95, 30]], [[85, 10, 95, 30]], [85], id="seen-by-both"),
        pytest.param([], [[90, 10, 100, 30]], [[90, 10, 110, 30]], [90], id="cut-by-one"),
        pytest.param([], [[0, 10, 10, 30]], [[170, 0, 180, 20]], [0, 170], id="at-the-border"),
        pytest.param([[70, 0, 120, 90]], [], [], [70], id="wider-than-the-seam"),
        pytest.param(
            [[20, 10, 40, 30]], [[20, 10, 30, 30], [30, 10, 40, 30]], [], [20, 30], id="two-for-one"
        ),
        pytest.param([], [[20, 10, 60, 50], [21, 11, 59, 30]], [], [20], id="a-part-of-another"),
    ],
)
def test_nothing_is_counted_twice_at_a_seam(
    first: list[list[float]],
    left: list[list[float]],
    right: list[list[float]],
    expected: list[float],
) -> None:
    assert joined(found(first), found(left), found(right))[:, 0].tolist() == expected


@pytest.mark.parametrize(
    ("first", "left", "expected"),
    [
        pytest.param([], [], [], id="nothing"),
        pytest.param([[20, 10, 32, 50]], [[20, 10, 32, 29], [20, 31, 32, 50]], [20], id="halves"),
        pytest.param([[20, 10, 32, 50]], [[20, 10, 29, 50]], [20], id="a-narrower-one"),
        pytest.param([[20, 10, 32, 50]], [[22, 20, 27, 26]], [20], id="a-letter-on-it"),
        pytest.param([[20, 10, 32, 50]], [[60, 10, 69, 20]], [20, 60], id="a-small-one-elsewhere"),
        pytest.param([], [[60, 10, 70, 20]], [], id="a-large-one-that-it-did-not-see"),
        pytest.param(
            [[20, 10, 29, 50]],
            [[20, 10, 29, 29], [20, 31, 29, 50]],
            [20, 20],
            id="two-for-a-small-one",
        ),
        pytest.param([[20, 10, 29, 50]], [], [20], id="a-small-one-that-no-tile-shows"),
        pytest.param(
            [[20, 10, 32, 50], [30, 10, 42, 50]], [], [20, 30], id="neighbours-that-overlap"
        ),
    ],
)
def test_what_was_seen_well_stands_and_small_things_are_added(
    first: list[list[float]], left: list[list[float]], expected: list[float]
) -> None:
    assert joined(found(first), found(left), NONE, large=10)[:, 0].tolist() == expected


def test_gaps_and_faint_boxes_stand_by_their_size_too() -> None:
    def look(*boxes: list[float]) -> Detections:
        xyxy = np.array(boxes, np.float32)
        sure = np.full(len(xyxy), 0.2, np.float32)
        return replace(NONE, faint=xyxy, faint_confidence=sure, gap_xyxy=xyxy, gap_confidence=sure)

    small, large, larger = [5.0, 5, 10, 10], [20.0, 5, 40, 25], [50.0, 5, 80, 35]
    merged = merge(look(small, large), [(LEFT, look(small, larger))], SIZE, Thresholds(), large=10)
    assert sorted(merged.faint.tolist()) == sorted(merged.gap_xyxy.tolist()) == [small, large]


@pytest.mark.parametrize(
    ("width", "height", "side", "large"),
    [
        pytest.param(1600, 1600, 100, 2 * SMALL, id="ordinary"),
        pytest.param(1600, 1600, 2 * SMALL - 1, math.inf, id="small-products"),
        pytest.param(3600, 1200, 80, math.inf, id="wide"),
        pytest.param(3600, 1200, 200, 4.5 * SMALL, id="wide-with-large-products"),
    ],
)
def test_a_first_look_sees_well_what_is_as_large_as_products_should_be(
    width: int, height: int, side: float, large: float
) -> None:
    assert Sight.of(width, height, INPUT, found([[0, 0, side, side]])).well == large


def test_a_gap_at_a_seam_is_one() -> None:
    one = found([], [[82, 10, 97, 30]])
    merged = merge(one, [(LEFT, one), (RIGHT, one)], SIZE, Thresholds())
    assert merged.gap_xyxy.tolist() == [[82, 10, 97, 30]]
    assert merged.sees_gaps


@pytest.mark.parametrize(
    ("first", "far", "expected"),
    [
        pytest.param([], [], [], id="nothing"),
        pytest.param([[20, 10, 35, 50]], [], [20], id="a-small-one-that-was-too-far-off"),
        pytest.param([[20, 10, 45, 50]], [], [], id="a-large-one"),
        pytest.param([[20, 10, 35, 50], [60, 10, 75, 50]], [], [20, 60], id="two"),
        pytest.param([[20, 10, 35, 50], [36, 10, 51, 50]], [[20, 10, 51, 50]], [20], id="halves"),
        pytest.param([[60, 10, 75, 50]], [[20, 10, 51, 50]], [20, 60], id="a-small-one-beside"),
    ],
)
def test_from_further_off_small_products_are_not_lost(
    first: list[list[float]], far: list[list[float]], expected: list[float]
) -> None:
    merged = merge_far(found(first), found(far), Thresholds(), small=20)
    assert sorted(merged.xyxy[:, 0].tolist()) == expected


def test_the_cap_holds_from_further_off_too() -> None:
    one, other = found([[5, 5, 15, 15]]), found([[50, 5, 90, 45]])
    merged = merge_far(one, other, Thresholds(max_detections=1), small=20)
    assert (len(merged), merged.truncated) == (1, True)


def test_faint_boxes_keep_their_confidence() -> None:
    faint = np.array([[90, 10, 100, 30], [5, 5, 15, 15]], np.float32)  # the first one is cut
    sure = np.array([0.2, 0.15], np.float32)
    left = replace(NONE, faint=faint, faint_confidence=sure)
    merged = merge(NONE, [(LEFT, left), (RIGHT, NONE)], SIZE, Thresholds())
    assert (merged.faint.tolist(), merged.faint_confidence.tolist()) == (
        faint[1:].tolist(),
        sure[1:].tolist(),
    )


def test_the_cap_holds_over_all_tiles() -> None:
    tiles = [(LEFT, found([[5, 5, 15, 15]])), (RIGHT, found([[150, 5, 160, 15]]))]
    merged = merge(NONE, tiles, SIZE, Thresholds(max_detections=1))
    assert (len(merged), merged.truncated) == (1, True)


def jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


@pytest.fixture(scope="module")
def bay() -> npt.NDArray[np.uint8]:
    return render_shelf(5, width=900, height=1200, rows=6, gap_rate=0.1).image


def test_a_panorama_of_one_bay_counts_that_often(
    bay: npt.NDArray[np.uint8], detector: Detector
) -> None:
    counts = [
        audit_image(jpeg(np.concatenate([bay] * times, axis=1)), detector, Thresholds(), Metrics())[
            "count"
        ]
        for times in (1, 2, 3, 4)
    ]
    assert counts == pytest.approx([counts[0] * times for times in (1, 2, 3, 4)], rel=0.05)


def test_a_second_look_at_an_ordinary_photo_counts_no_parts(detector: Detector) -> None:
    shelf = render_shelf(9, width=900, height=1200, rows=6, gap_rate=0.1)
    large = PIL.Image.fromarray(shelf.image).resize((1800, 2400), PIL.Image.Resampling.BICUBIC)
    details: tuple[Detail, ...] = ("fast", "fine")
    fast, fine = (
        audit_image(jpeg(np.asarray(large)), detector, Thresholds(detail=detail), Metrics())
        for detail in details
    )
    assert (fast["looks"], fine["looks"]) == (1, 7)
    assert fine["count"] == pytest.approx(fast["count"], rel=0.02)
    assert len(fine["gaps"]) == len(fast["gaps"])


@pytest.mark.parametrize(
    ("seed", "left", "top", "right", "bottom", "looks"),
    [
        pytest.param(7, 0, 400, 900, 700, 1, id="two-boards-wide"),
        pytest.param(9, 150, 200, 750, 1000, 2, id="close-up"),
        pytest.param(6, 150, 200, 750, 1000, 2, id="another"),
        pytest.param(5, 300, 400, 500, 650, 2, id="two-products"),
    ],
)
def test_a_part_of_a_bay_counts_what_is_on_it(
    seed: int, left: int, top: int, right: int, bottom: int, looks: int, detector: Detector
) -> None:
    shelf = render_shelf(seed, width=900, height=1200, rows=6, gap_rate=0.1)
    part = PIL.Image.fromarray(shelf.image).crop((left, top, right, bottom))
    large = part.resize((part.width * 2, part.height * 2), PIL.Image.Resampling.BICUBIC)
    inside = shared_area(shelf.xyxy, np.array([left, top, right, bottom], np.float32))
    result = audit_image(jpeg(np.asarray(large)), detector, Thresholds(), Metrics())
    assert result["looks"] == looks
    true = int((inside >= box_area(shelf.xyxy) / 2).sum())
    assert result["count"] == pytest.approx(true, abs=2)


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(Thresholds(confidence=0.6), id="sure"),
        pytest.param(Thresholds(confidence=0.9), id="surer"),
        pytest.param(Thresholds(max_detections=5), id="five"),
        pytest.param(Thresholds(classes=(0,)), id="a-class"),
    ],
)
@pytest.mark.parametrize(
    "times",
    [
        pytest.param(1, id="ordinary"),
        pytest.param(4, id="panorama"),
        pytest.param(0.5, id="close-up"),
    ],
)
def test_a_box_is_the_same_whatever_is_asked_for(
    asked: Thresholds, times: float, bay: npt.NDArray[np.uint8], detector: Detector
) -> None:
    picture = np.concatenate([bay] * int(times), axis=1) if times >= 1 else bay[300:700, 200:550]
    photo = jpeg(picture)
    whole = audit_image(photo, detector, Thresholds(), Metrics())
    some = audit_image(photo, detector, asked, Metrics())
    sure = [one for one in whole["detections"] if one["confidence"] >= asked.confidence]
    kept = sure[: asked.max_detections]
    assert some["looks"] == whole["looks"]
    assert [one["xyxy"] for one in some["detections"]] == [one["xyxy"] for one in kept]
    assert some["truncated"] == (len(kept) < len(sure))


def test_the_size_of_an_upload_does_not_change_its_gaps(
    bay: npt.NDArray[np.uint8], detector: Detector
) -> None:
    large = PIL.Image.fromarray(bay).resize((1800, 2400), PIL.Image.Resampling.BICUBIC)
    sizes = [large.resize((large.width // by, large.height // by)) for by in (1, 2, 3)]
    gaps = [
        len(audit_image(jpeg(np.asarray(size)), detector, Thresholds(), Metrics())["gaps"])
        for size in sizes
    ]
    assert max(gaps) - min(gaps) <= 1
    assert min(gaps) > 0
