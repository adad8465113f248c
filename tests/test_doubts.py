"""Warnings: set for what makes a count doubtful, and for nothing else."""

import io
import json
from dataclasses import replace

import numpy as np
import PIL.Image
import PIL.ImageFilter
import pytest
from conftest import GOOD_SAMPLE, ROOT
from flask.testing import FlaskClient

from function.detections import Detections
from function.doubts import Look, find_doubts, measure

SHELF = PIL.Image.open(GOOD_SAMPLE).convert("RGB")
GOOD = Look(light=220, burnt=0.01, sharpness=0.5, noise=0.005)
INPUT = (800, 800)


def found(
    count: int = 20, side: float = 40, truncated: bool = False, faint: int = 0, unsure: int = 0
) -> Detections:
    """Lay products side by side, of which some are `unsure` and some `faint`."""
    left = np.arange(count) * side
    boxes = np.stack([left, 0 * left, left + side, 0 * left + side], axis=1).astype(np.float32)
    confidence = np.repeat([1, 0.49, 0.24], [count - unsure - faint, unsure, faint])
    return Detections(
        xyxy=boxes,
        confidence=confidence.astype(np.float32),
        class_id=np.zeros(count, np.int64),
        truncated=truncated,
    )


def at(confidence: float, one: Detections) -> Detections:
    """Find the same where a caller asks for another confidence."""
    sure = one.confidence >= confidence
    return replace(
        one,
        xyxy=one.xyxy[sure],
        confidence=one.confidence[sure],
        class_id=one.class_id[sure],
        faint=one.xyxy[~sure],
        faint_confidence=one.confidence[~sure],
    )


@pytest.mark.parametrize(
    ("look", "detections", "image", "looks", "codes"),
    [
        (GOOD, found(), (800, 600), 1, []),
        (GOOD, found(0), (800, 600), 1, ["nothing_found"]),
        (replace(GOOD, sharpness=0.26), found(), (800, 600), 1, ["blurred"]),
        (replace(GOOD, light=20), found(), (800, 600), 1, ["dark"]),
        (replace(GOOD, burnt=0.5), found(), (800, 600), 1, ["overexposed"]),
        (replace(GOOD, noise=0.1), found(), (800, 600), 1, ["noisy"]),
        (GOOD, found(), (1600, 600), 1, []),
        (GOOD, found(side=30), (1600, 600), 1, ["wide"]),
        (GOOD, found(side=30), (1600, 600), 4, []),
        (GOOD, found(side=99, unsure=18), (1600, 600), 1, ["wide", "unsure"]),
        (GOOD, found(side=99, unsure=18), (800, 300), 1, ["unsure"]),
        (GOOD, found(side=16), (1600, 1200), 1, ["small_products"]),
        (GOOD, found(side=16), (1600, 1200), 5, []),
        (GOOD, found(side=9), (400, 300), 1, ["small_products"]),  # 18 px once enlarged
        (GOOD, found(side=9), (6400, 4800), 5, ["small_products"]),
        (GOOD, found(unsure=6), (800, 600), 1, []),
        (GOOD, found(unsure=7), (800, 600), 1, ["unsure"]),
        (GOOD, found(unsure=6, faint=9), (800, 600), 1, ["unsure"]),  # only a caller counts those
        (GOOD, found(unsure=3, faint=9), (800, 600), 1, []),
        (GOOD, found(faint=20), (800, 600), 1, []),
        (GOOD, at(0.3, found(unsure=7)), (800, 600), 1, ["unsure"]),
        (GOOD, at(0.6, found(unsure=7)), (800, 600), 1, ["unsure"]),
        (GOOD, at(0.6, found(unsure=6, faint=9)), (800, 600), 1, ["unsure"]),
        (GOOD, at(0.6, found(unsure=6)), (800, 600), 1, []),
        (GOOD, found(count=1, unsure=1), (800, 600), 1, []),
        (GOOD, found(count=9, unsure=9), (800, 600), 1, []),
        (GOOD, found(count=10, unsure=4), (800, 600), 1, ["unsure"]),
        (GOOD, found(truncated=True), (800, 600), 1, ["truncated"]),
        (replace(GOOD, light=20, noise=0.1), found(), (800, 600), 1, ["dark", "noisy"]),
    ],
)
def test_each_doubt_has_its_code_and_a_good_photo_has_none(
    look: Look, detections: Detections, image: tuple[int, int], looks: int, codes: list[str]
) -> None:
    warnings = find_doubts(look, detections, image, INPUT, looks)
    assert [warning["code"] for warning in warnings] == codes
    assert all(warning["detail"] for warning in warnings)


def scaled(factor: float, noise: float = 0) -> PIL.Image.Image:
    pixels = np.asarray(SHELF).astype(float) * factor
    if noise:
        pixels += np.random.default_rng(0).normal(0, noise, (*pixels.shape[:2], 1))
    return PIL.Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("picture", "code"),
    [
        (SHELF, None),
        (SHELF.resize((320, 240)), None),
        (SHELF.filter(PIL.ImageFilter.GaussianBlur(5)), "blurred"),
        (scaled(0.1), "dark"),
        (scaled(6), "overexposed"),
        (scaled(1, 60), "noisy"),
        (scaled(0.3, 20), "noisy"),
        (PIL.Image.new("RGB", (640, 480), "grey"), None),
        (PIL.Image.new("RGB", (1, 1)), "dark"),
        (PIL.Image.new("RGB", (1, 5000), "grey"), None),
        (PIL.Image.new("RGB", (5000, 1), "grey"), None),
    ],
)
def test_a_look_tells_what_was_done_to_a_photo(picture: PIL.Image.Image, code: str | None) -> None:
    warnings = find_doubts(measure(picture), found(), (800, 600), INPUT, 1)
    assert [warning["code"] for warning in warnings] == ([code] if code else [])


def test_a_result_carries_its_warnings(client: FlaskClient) -> None:
    good = client.post("/predict", data=GOOD_SAMPLE.read_bytes(), content_type="image/jpeg")
    assert json.loads(good.data)["warnings"] == []


def test_the_example_in_the_docs_is_what_the_service_says(client: FlaskClient) -> None:
    file = io.BytesIO()
    SHELF.filter(PIL.ImageFilter.GaussianBlur(3)).save(file, "JPEG")
    answer = client.post("/predict", data=file.getvalue(), content_type="image/jpeg")
    assert f"\n{json.loads(answer.data)['warnings']}\n" in (ROOT / "docs" / "http.md").read_text()
