"""Frozen values, and what they refuse."""

import math
from typing import Any

import numpy as np
import pytest

from function.detections import Detections, Thresholds
from function.errors import InvalidParameter


def test_arrays_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"xyxy \(1, 4\)"):
        Detections(
            xyxy=np.zeros((1, 4), np.float32),
            confidence=np.zeros(2, np.float32),
            class_id=np.zeros(1, np.int64),
        )


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
def test_a_threshold_out_of_bounds_is_named(field: str, value: Any) -> None:
    with pytest.raises(InvalidParameter, match=f"`{field}` must be .*, got {value!r}"):
        Thresholds(**{field: value})
