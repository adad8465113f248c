"""Small shelves against references: what is missing, extra, moved, by row."""

import copy

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


def planogram(xyxy: Boxes, **fields: list[object]) -> dict[str, object]:
    slots = [{"xyxy": [edge / SIZE for edge in box]} for box in xyxy]
    for name, values in fields.items():
        for slot, value in zip(slots, values, strict=True):
            slot[name] = value  # type: ignore[assignment]
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
    told = compare(detections(products), NAMES, reference, SIZE, SIZE)
    assert told["rate"] == rate
    assert [slot["row"] for slot in told["missing"]] == missing
    assert [slot["row"] for slot in told["moved"]] == moved
    assert [slot["row"] for slot in told["extra"]] == extra
    assert told["expected"] == told["in_place"] + len(missing) + len(moved)
    for row in told["rows"]:
        index = row["index"]
        assert row["missing"] == missing.count(index)
        assert row["extra"] == extra.count(index)
        assert row["count"] - row["expected"] == row["extra"] - row["missing"]


def test_a_nudge_is_told_in_pixels_and_slots_move_with_it() -> None:
    told = compare(
        detections(by(FULL[1:], dx=40, dy=-30)), NAMES, read_reference(planogram(FULL)), SIZE, SIZE
    )
    assert told["shift"] == [40.0, -30.0]
    assert told["missing"] == [{"row": 0, "xyxy": [140.0, 170.0, 240.0, 370.0]}]


def test_an_earlier_result_is_a_reference_whatever_its_size() -> None:
    earlier = {
        "image": {"width": 2 * SIZE, "height": 2 * SIZE},
        "detections": [{"xyxy": [2 * edge for edge in box], "label": "product"} for box in FULL],
    }
    told = compare(detections(FULL[1:]), NAMES, read_reference(earlier), SIZE, SIZE)
    assert (told["expected"], told["in_place"]) == (10, 9)
    assert [row["count"] - row["expected"] for row in told["rows"]] == [-1, 0]


@pytest.mark.parametrize(
    ("names", "rate"),
    [
        pytest.param({0: "cola", 1: "water"}, 0.5, id="a-model-that-knows-the-labels"),
        pytest.param({0: "product"}, 1.0, id="a-model-of-one-class"),
    ],
)
def test_a_slot_takes_only_its_label(names: dict[int, str], rate: float) -> None:
    labels: list[object] = ["water", "cola", "", "cola"]
    reference = read_reference(planogram(FULL[:4], label=labels))
    ids = [0, 1, 1, 0] if len(names) > 1 else [0] * 4
    told = compare(detections(FULL[:4], ids), names, reference, SIZE, SIZE)
    assert told["rate"] == rate


def test_rows_may_be_given() -> None:
    rows: list[object] = [3] * 5 + [4] * 5
    reference = read_reference(planogram(FULL, row=rows))
    told = compare(detections(FULL[:9]), NAMES, reference, SIZE, SIZE)
    assert [slot["row"] for slot in told["missing"]] == [4]
    assert [row["expected"] for row in told["rows"]] == [0, 0, 0, 5, 5]


GOOD = planogram(FULL[:1])


def broken(**fields: object) -> dict[str, object]:
    data = copy.deepcopy(GOOD)
    data["slots"][0].update(fields)  # type: ignore[index]
    return data


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (None, "must be a JSON object"),
        ([], "must be a JSON object"),
        ({}, "must have slots or detections"),
        ({"slots": {}}, "slots"),
        ({"slots": [1]}, "Slot 0"),
        ({"slots": [{"xyxy": [0, 0, 1, 1]}] * (MAX_SLOTS + 1)}, str(MAX_SLOTS)),
        ({"detections": []}, "must have a width and a height"),
        ({"detections": [], "image": {"width": 0, "height": 1}}, "must have a width and a height"),
        (broken(xyxy=None), "must be left, top, right, bottom, got None"),
        (broken(xyxy=[0, 0, 1]), "xyxy"),
        (broken(xyxy=[0, 0, 1, "1"]), "xyxy"),
        (broken(xyxy=[0, 0, True, 1]), "xyxy"),
        (broken(xyxy=[0, 0, 1, float("nan")]), "xyxy"),
        (broken(xyxy=[0.5, 0, 0.5, 1]), "xyxy"),
        (broken(xyxy=[0, 0, 200, 300]), "shares"),
        (broken(row=-1), "`row` of slot 0 must be a number from 0, got -1"),
        (broken(row="top"), "`row` of slot 0 must be a number from 0, got 'top'"),
        (broken(label=7), "`label` of slot 0 must be a text of at most 100 characters, got 7"),
    ],
)
def test_a_broken_reference_is_refused_and_named(data: object, named: str) -> None:
    with pytest.raises(InvalidReference, match=named):
        read_reference(data)
