"""Small shelves against references: what is missing, extra, moved, by row."""

import copy
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from function.detections import Detections
from function.errors import InvalidReference
from function.reference import MAX_SLOTS, compare, read_reference

NAMES = {0: "product"}
SIZE = 1000
Boxes = list[list[float]]


def shelf(rows: int = 2, facings: int = 5) -> Boxes:
    return [
        [100 + 110 * column, 200 + 300 * row, 200 + 110 * column, 400 + 300 * row]
        for row in range(rows)
        for column in range(facings)
    ]


def detections(xyxy: Boxes, class_id: list[int] | None = None) -> Detections:
    boxes = np.array(xyxy, np.float32).reshape(-1, 4)
    ids = np.array(class_id or [0] * len(boxes), np.int64)
    return Detections(xyxy=boxes, confidence=np.ones(len(boxes), np.float32), class_id=ids)


def planogram(xyxy: Boxes, **fields: Sequence[object]) -> dict[str, Any]:
    slots: list[dict[str, object]] = [{"xyxy": [edge / SIZE for edge in box]} for box in xyxy]
    for name, values in fields.items():
        for slot, value in zip(slots, values, strict=True):
            slot[name] = value
    return {"slots": slots}


def by(boxes: Boxes, dx: float = 0, dy: float = 0) -> Boxes:
    return [[x1 + dx, y1 + dy, x2 + dx, y2 + dy] for x1, y1, x2, y2 in boxes]


FULL = shelf()
# (expected slots, products found) -> rate, rows of the missing, extra and moved
COMPARISONS = [
    pytest.param([], [], None, [], [], [], id="empty"),
    pytest.param([], FULL[:1], None, [], [0], [], id="no-slots"),
    pytest.param(FULL, [], 0.0, [0] * 5 + [1] * 5, [], [], id="no-products"),
    pytest.param(FULL, FULL, 1.0, [], [], [], id="as-planned"),
    pytest.param(FULL, FULL[::-1], 1.0, [], [], [], id="order-does-not-matter"),
    pytest.param(FULL, FULL[:3] + FULL[4:9], 0.8, [0, 1], [], [], id="two-missing"),
    pytest.param(FULL[:9], FULL, 1.0, [], [1], [], id="one-extra"),
    pytest.param(
        FULL, FULL[:9] + by(FULL[9:], dx=80), 0.9, [], [], [1], id="one-pushed-to-the-side"
    ),
    pytest.param(
        FULL, FULL[:9] + by(FULL[9:], dx=180), 0.9, [1], [1], [], id="too-far-to-be-the-same"
    ),
    pytest.param(FULL, by(FULL, dx=40, dy=-30), 1.0, [], [], [], id="the-camera-was-nudged"),
    pytest.param(FULL, by(FULL[1:], dx=40, dy=-30), 0.9, [0], [], [], id="nudged-and-one-missing"),
    pytest.param(
        FULL, [[100, 200, 150, 300], *FULL[1:]], 0.9, [], [], [0], id="another-size-in-its-place"
    ),
]


@pytest.mark.parametrize(("slots", "products", "rate", "missing", "extra", "moved"), COMPARISONS)
def test_what_is_missing_extra_and_moved_is_told_by_row(
    slots: Boxes,
    products: Boxes,
    rate: float | None,
    missing: list[int],
    extra: list[int],
    moved: list[int],
) -> None:
    reference = read_reference(planogram(slots))
    compliance = compare(detections(products), NAMES, reference, SIZE, SIZE)
    assert compliance["rate"] == rate
    assert [slot["row"] for slot in compliance["missing"]] == missing
    assert [slot["row"] for slot in compliance["moved"]] == moved
    assert [slot["row"] for slot in compliance["extra"]] == extra
    assert compliance["expected"] == compliance["in_place"] + len(missing) + len(moved)
    for row in compliance["rows"]:
        index = row["index"]
        assert row["missing"] == missing.count(index)
        assert row["extra"] == extra.count(index)
        assert row["count"] - row["expected"] == row["extra"] - row["missing"]


def test_a_nudge_is_told_in_pixels_and_slots_move_with_it() -> None:
    compliance = compare(
        detections(by(FULL[1:], dx=40, dy=-30)), NAMES, read_reference(planogram(FULL)), SIZE, SIZE
    )
    assert compliance["shift"] == [40.0, -30.0]
    assert compliance["missing"] == [{"row": 0, "xyxy": [140.0, 170.0, 240.0, 370.0]}]


@pytest.mark.parametrize(
    "wrapped",
    [
        pytest.param(lambda earlier: earlier, id="bare"),
        pytest.param(lambda earlier: {"specversion": "1.0", "data": earlier}, id="event"),
        pytest.param(lambda earlier: {"name": "a.jpg", "result": earlier}, id="outcome"),
        pytest.param(lambda earlier: {**earlier, "data": 1, "result": 2}, id="beside-others"),
    ],
)
def test_an_earlier_result_is_a_reference_whatever_its_size(
    wrapped: Callable[[dict[str, object]], dict[str, object]],
) -> None:
    earlier: dict[str, object] = {
        "image": {"width": 2 * SIZE, "height": 2 * SIZE},
        "detections": [{"xyxy": [2 * edge for edge in box], "label": "product"} for box in FULL],
    }
    reference = read_reference(wrapped(earlier))
    compliance = compare(detections(FULL[1:]), NAMES, reference, SIZE, SIZE)
    assert (compliance["expected"], compliance["in_place"]) == (10, 9)
    assert [row["count"] - row["expected"] for row in compliance["rows"]] == [-1, 0]


BAY = [[x1 + 650, y1, x2 + 650, y2] for x1, y1, x2, y2 in shelf(3, 2)]


@pytest.mark.parametrize(
    ("products", "counts"),
    [
        pytest.param(FULL[:5], [5, 0, 0], id="still-empty"),
        pytest.param(FULL, [5, 5, 0], id="filled"),
        pytest.param(by(FULL, dx=40, dy=-30), [5, 5, 0], id="filled-and-nudged"),
        pytest.param(FULL[:5] + BAY[2:4], [5, 0, 2], id="another-bay"),
    ],
)
def test_products_on_a_board_that_was_empty_are_extra_on_its_row(
    products: Boxes, counts: list[int]
) -> None:
    earlier = {
        "image": {"width": SIZE, "height": SIZE},
        "detections": [{"xyxy": box, "row": 0} for box in FULL[:5]]
        + [{"xyxy": box, "row": 2} for box in BAY[4:]],
        "rows": [
            {"xyxy": [100, 200, 640, 400], "count": 5},
            {"xyxy": [100, 500, 640, 700], "count": 0},
            {"xyxy": [750, 800, 960, 1000], "count": 2},
        ],
    }
    compliance = compare(detections(products), NAMES, read_reference(earlier), SIZE, SIZE)
    assert [row["count"] for row in compliance["rows"]] == counts
    assert [row["expected"] for row in compliance["rows"]] == [5, 0, 2]


@pytest.mark.parametrize(
    ("names", "rate"),
    [
        pytest.param({0: "cola", 1: "water"}, 0.5, id="a-model-that-knows-the-labels"),
        pytest.param({0: "product"}, 1.0, id="a-model-of-one-class"),
    ],
)
def test_a_slot_takes_only_its_label(names: dict[int, str], rate: float) -> None:
    labels = ["water", "cola", "", "cola"]
    reference = read_reference(planogram(FULL[:4], label=labels))
    ids = [0, 1, 1, 0] if len(names) > 1 else [0] * 4
    compliance = compare(detections(FULL[:4], ids), names, reference, SIZE, SIZE)
    assert compliance["rate"] == rate


def test_rows_may_be_given() -> None:
    rows = [3] * 5 + [4] * 5
    reference = read_reference(planogram(FULL, row=rows))
    compliance = compare(detections(FULL[:9]), NAMES, reference, SIZE, SIZE)
    assert [slot["row"] for slot in compliance["missing"]] == [4]
    assert [row["expected"] for row in compliance["rows"]] == [0, 0, 0, 5, 5]


GOOD = planogram(FULL[:1])
EMPTY = {"detections": [], "image": {"width": SIZE, "height": SIZE}}


def broken(**fields: object) -> dict[str, Any]:
    data = copy.deepcopy(GOOD)
    data["slots"][0].update(fields)
    return data


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (None, "must be a JSON object"),
        ([], "must be a JSON object"),
        ({}, "must have slots, detections or positions"),
        ({"result": [1]}, "The reference's result must be a JSON object"),
        ({"status": 422, "problem": {}}, "must have slots, detections or positions"),
        ({"slots": {}}, "slots"),
        ({"slots": [1]}, "Slot 0"),
        ({"slots": [{"xyxy": [0, 0, 1, 1]}] * (MAX_SLOTS + 1)}, str(MAX_SLOTS)),
        ({"detections": []}, "must have a width and a height"),
        ({"detections": [], "image": {"width": 0, "height": 1}}, "must have a width and a height"),
        ({"detections": [], "image": {"width": 10**400, "height": 1}}, "must have a width and a"),
        ({"detections": [], "image": {"width": True, "height": 1}}, "must have a width and a"),
        (
            {**EMPTY, "rows": [{"count": 0, "xyxy": [0, 0]}]},
            "`xyxy` of row 0 must be left, top, right, bottom, got",
        ),
        ({**EMPTY, "rows": {}}, "rows must be a list"),
        (broken(xyxy=None), "must be left, top, right, bottom, got None"),
        (broken(xyxy=[0, 0, 1]), "xyxy"),
        (broken(xyxy=[0, 0, 1, "1"]), "xyxy"),
        (broken(xyxy=[0, 0, True, 1]), "xyxy"),
        (broken(xyxy=[0, 0, 1, float("nan")]), "xyxy"),
        (broken(xyxy=[0.5, 0, 0.5, 1]), "xyxy"),
        (broken(xyxy=[0, 0, 10**20, 1]), "xyxy"),
        (broken(xyxy=[0, 0, 10**400, 1]), "xyxy"),
        (broken(xyxy=[0, 0, 200, 300]), "shares"),
        (broken(row=-1), "`row` of slot 0 must be a number from 0, got -1"),
        (broken(row="top"), "`row` of slot 0 must be a number from 0, got 'top'"),
        (broken(label=7), "`label` of slot 0 must be a text of at most 100 characters, got 7"),
    ],
)
def test_a_broken_reference_is_refused_and_named(data: object, named: str) -> None:
    with pytest.raises(InvalidReference, match=named):
        read_reference(data)


CM = 0.1  # pixels of `FULL` to the planogram's own unit
OFFSET = 5.0  # what of the planogram lies around the products


def azure(boxes: Boxes = FULL, boards: bool = True) -> dict[str, Any]:
    """The planogram of shelves whose products are 10 wide and 20 high, in its own units."""
    low = np.array(boxes).min(axis=0) if boxes else np.zeros(4)
    places = [
        ((left - low[0]) * CM + OFFSET, (top - low[1]) * CM + OFFSET) for left, top, *_ in boxes
    ]
    tops = sorted({y for _, y in places})
    fixtures = [
        {"id": f"board {i}", "x": 0, "y": y + 20, "w": 70, "h": 2} for i, y in enumerate(tops)
    ]
    bay = [{"id": "bay", "x": 0, "y": 0, "w": 70, "h": 70}]
    return {
        "width": 80.0,
        "height": 70.0,
        "products": [{"id": "sku", "name": "cola", "w": 10, "h": 20}],
        "fixtures": fixtures if boards else bay,
        "positions": [
            {
                "id": f"p{i}",
                "productId": "sku",
                "fixtureId": f"board {tops.index(y)}" if boards else "bay",
                "x": x,
                "y": y,
            }
            for i, (x, y) in enumerate(places)
        ],
    }


@pytest.mark.parametrize("boards", [True, False], ids=["fixtures-are-boards", "a-fixture-is-a-bay"])
def test_a_planogram_lies_over_the_products_and_is_answered_by_position(boards: bool) -> None:
    """Neither its unit nor its margins are the photo's."""
    reference = read_reference({"planogram": azure(boards=boards)})
    assert reference.in_rows().row.tolist() == [0] * 5 + [1] * 5
    found = FULL[:3] + FULL[4:9] + by(FULL[9:], dx=60)
    compliance = compare(detections(found), NAMES, reference, SIZE, SIZE)
    states = {position["id"]: position["state"] for position in compliance["positions"]}
    assert states == {f"p{i}": "in_place" for i in range(10)} | {"p3": "missing", "p9": "moved"}
    assert [slot["row"] for slot in compliance["missing"]] == [0]
    by_id = {position["id"]: position for position in compliance["positions"]}
    assert by_id["p0"]["product"] == [float(edge) for edge in FULL[0]]
    assert "product" not in by_id["p3"]
    assert np.allclose(by_id["p3"]["xyxy"], FULL[3], atol=3)
    assert by_id["p3"]["label"] == "cola"


def test_a_planogram_whose_outer_products_are_gone_still_fits_as_it_is_drawn() -> None:
    boxes = [[x1 * 0.8, y1 * 0.7, x2 * 0.8, y2 * 0.7] for x1, y1, x2, y2 in FULL]
    drawn = azure()
    drawn["positions"] = [
        {**position, "x": box[0] / 10, "y": box[1] / 10}
        for position, box in zip(drawn["positions"], boxes, strict=True)
    ]
    drawn["products"] = [{"id": "sku", "w": 8, "h": 14}]
    gone = [box for i, box in enumerate(FULL) if i not in (0, 5, 4)]
    compliance = compare(detections(gone), NAMES, read_reference(drawn), SIZE, SIZE)
    assert [p["id"] for p in compliance["positions"] if p["state"] == "missing"] == [
        "p0",
        "p4",
        "p5",
    ]


def test_a_planogram_without_positions_or_products_in_the_photo_compares() -> None:
    empty = compare(detections(FULL), NAMES, read_reference(azure([])), SIZE, SIZE)
    assert (empty["rate"], empty["positions"], len(empty["extra"])) == (None, [], 10)
    bare = compare(detections([]), NAMES, read_reference(azure()), SIZE, SIZE)
    assert (bare["rate"], len(bare["missing"])) == (0.0, 10)


def odd_planogram(**changes: object) -> dict[str, object]:
    return {**azure(FULL[:1]), **changes}


POSITION = {"id": "p", "productId": "sku", "fixtureId": "board 0", "x": 0, "y": 0}


@pytest.mark.parametrize(
    ("planogram", "words"),
    [
        ({"positions": []}, "`width` of the planogram must be a number, got None"),
        ({"planogram": []}, "planogram must be a JSON object"),
        (odd_planogram(height=True), "`height` of the planogram must be a number, got True"),
        (odd_planogram(width=0), "wider and higher than 0"),
        (odd_planogram(width=float("nan")), "must be a number, got nan"),
        (odd_planogram(width=10**400), "`width` of the planogram must be a number, got 1000"),
        (odd_planogram(width=1e-300), "wider and higher than 0"),
        (odd_planogram(width=1e-30), "must lie in it, got 5 in one of 1e-30 x 70"),
        (odd_planogram(products=[{"id": "sku", "w": 1e-300, "h": 1}]), "wider and higher than 0"),
        (odd_planogram(products=None), "products must be a list"),
        (odd_planogram(products=[{"id": "sku", "w": 0, "h": 1}]), "wider and higher than 0"),
        (odd_planogram(products=[{"w": 1, "h": 1}]), "Item 0 of the planogram's products"),
        (odd_planogram(positions=[POSITION, POSITION]), "Item 1 of the planogram's positions"),
        (
            odd_planogram(positions=[{**POSITION, "x": "1"}]),
            "`x` of 'p' in `positions` must be a number, got '1'",
        ),
        (
            odd_planogram(positions=[{**POSITION, "productId": "no"}]),
            "`productId` of position 'p' must be the id",
        ),
        (
            odd_planogram(positions=[{**POSITION, "fixtureId": 3}]),
            "`fixtureId` of position 'p' must be the id",
        ),
    ],
)
def test_what_is_wrong_with_a_planogram_is_named(planogram: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidReference, match=re.escape(words)):
        read_reference(planogram)
