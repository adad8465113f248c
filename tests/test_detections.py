"""Frozen values, and the JSON they become."""

import json
import math

import numpy as np
import pytest

from function.detections import Detections, Thresholds, detections_json
from function.errors import InvalidParameter


def some(count: int) -> Detections:
    xyxy = np.array([[10.04, 20.06, 30, 40]] * count, np.float32).reshape(-1, 4)
    return Detections(xyxy, np.full(count, 0.912345, np.float32), np.zeros(count, np.int64))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_detections_become_plain_json(count: int) -> None:
    detections = some(count)
    expected = {
        "label": "product",
        "class_id": 0,
        "confidence": 0.9123,
        "xyxy": [10.0, 20.1, 30.0, 40.0],
        "row": 2,
    }
    rows = np.full(count, 2)
    told = detections_json(detections, rows, {0: "product"})
    assert json.loads(json.dumps(told)) == [expected] * count
    assert len(detections) == count


def test_a_class_without_a_name_is_called_by_its_number() -> None:
    assert detections_json(some(1), np.zeros(1, np.int64), {})[0]["label"] == "0"


def test_arrays_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"xyxy \(1, 4\)"):
        Detections(np.zeros((1, 4), np.float32), np.zeros(2, np.float32), np.zeros(1, np.int64))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("confidence", 0.0),
        ("confidence", 1.01),
        ("confidence", -1.0),
        ("confidence", math.nan),
        ("confidence", math.inf),
        ("iou", -0.1),
        ("iou", 1.1),
        ("max_detections", 0),
        ("max_detections", 3001),
    ],
)
def test_a_threshold_out_of_bounds_is_named(field: str, value: float) -> None:
    with pytest.raises(InvalidParameter, match=f"{field} is {value!r}"):
        Thresholds(**{field: value})
