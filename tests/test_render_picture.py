"""The annotated picture: an image and its audit in, an image out, at any size."""

import io
import json
from typing import Any

import numpy as np
import PIL.Image
import pytest
from conftest import GOOD_SAMPLE, SAMPLES
from flask.testing import FlaskClient

from function.render import GAP, PRODUCT, draw_audit, encode
from function.result import Result

GREY = 100


def result(width: int, height: int, **found: Any) -> Result:
    """Build an audit of a picture; `found` has boxes for detections, rows and gaps."""
    boxes = {name: list(found.get(name, ())) for name in ("detections", "rows", "gaps")}
    return {  # type: ignore[typeddict-item]  # only what is drawn
        "image": {"uri": "", "width": width, "height": height},
        "detections": [{"xyxy": xyxy} for xyxy in boxes["detections"]],
        "rows": [
            {"index": n, "xyxy": xyxy, "count": 3, "fill_rate": 0.9}
            for n, xyxy in enumerate(boxes["rows"])
        ],
        "gaps": [{"row": 0, "xyxy": xyxy, "facings": 1.0} for xyxy in boxes["gaps"]],
    }


def drawn(audit: Result) -> np.ndarray:
    size = (audit["image"]["height"], audit["image"]["width"], 3)
    return np.asarray(draw_audit(PIL.Image.fromarray(np.full(size, GREY, np.uint8)), audit))


def test_nothing_found_leaves_the_picture_as_it_is() -> None:
    assert (drawn(result(40, 30)) == GREY).all()


@pytest.mark.parametrize("side", [40, 500, 1000, 3000])
def test_a_box_is_a_sharp_line_on_its_edges_at_any_size(side: int) -> None:
    line = max(1, round(side / 500))
    left, top, right, bottom = (round(side * share) for share in (0.2, 0.25, 0.6, 0.8))
    pixels = drawn(result(side, side, detections=[[left, top, right, bottom]]))
    coloured = (pixels == PRODUCT[:3]).all(axis=2)
    middle = (top + bottom) // 2
    across = np.flatnonzero(coloured[middle])
    expected = [*range(left, left + line), *range(right - line, right)]
    assert across.tolist() == expected
    assert not coloured[:top].any()
    assert not coloured[bottom:].any()


def test_gaps_are_filled_and_outlined() -> None:
    pixels = drawn(result(400, 400, gaps=[[100, 100, 200, 200]]))
    assert (pixels[100, 150] == GAP[:3]).all()
    red, green, blue = pixels[150, 150].astype(int)
    assert red > green > blue
    assert (pixels[50, 50] == GREY).all()


def test_a_row_is_a_light_band_with_its_label() -> None:
    pixels = drawn(result(600, 400, rows=[[100, 100, 500, 300]])).astype(int)
    assert (pixels[250, 450] > GREY).all()
    assert (pixels[50, 50] == GREY).all()
    label = pixels[100:115, 100:200]
    assert label.min() < 60
    assert label.max() > 200


@pytest.mark.parametrize(
    "xyxy", [[0, 0, 1, 1], [0, 0, 40, 30], [39.6, 29.6, 40, 30], [5, 5, 5.2, 5.1]]
)
def test_the_smallest_and_the_largest_box_can_be_drawn(xyxy: list[float]) -> None:
    audit = result(40, 30, detections=[xyxy], rows=[xyxy], gaps=[xyxy])
    assert drawn(audit).shape == (30, 40, 3)
    assert drawn(result(1, 1, detections=[[0, 0, 1, 1]], rows=[[0, 0, 1, 1]])).shape == (1, 1, 3)


@pytest.mark.parametrize(("media_type", "kind"), [("image/jpeg", "JPEG"), ("image/png", "PNG")])
def test_the_picture_is_written_as_asked(media_type: str, kind: str) -> None:
    with PIL.Image.open(io.BytesIO(encode(PIL.Image.new("RGB", (9, 7)), media_type))) as picture:
        assert (picture.format, picture.size) == (kind, (9, 7))


@pytest.mark.parametrize("media_type", ["image/jpeg", "image/png"])
def test_predict_answers_the_picture_turned_and_whole(client: FlaskClient, media_type: str) -> None:
    """Not the reduced one that the detector saw, and upright as its boxes are."""
    sample = SAMPLES / "store-17" / "aisle-7" / "turned-by-exif.jpg"
    response = client.post(
        "/predict",
        data=sample.read_bytes(),
        content_type="image/jpeg",
        headers={"Accept": media_type},
    )
    assert response.status_code == 200
    assert response.content_type == media_type
    with PIL.Image.open(io.BytesIO(response.data)) as picture:
        assert picture.size == (810, 1080)
        assert not picture.getexif()


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("text/html", "application/json"),
        ("application/json, image/png;q=0.5", "application/json"),
        ("application/json;q=0.5, image/png", "image/png"),
        ("image/*", "image/jpeg"),
        ("image/webp", "application/json"),
        ("image/png;q=0", "application/json"),
        (";;;", "application/json"),
    ],
)
def test_accept_chooses_between_json_and_the_picture(
    client: FlaskClient, accept: str | None, content_type: str
) -> None:
    response = client.post(
        "/predict",
        data=GOOD_SAMPLE.read_bytes(),
        content_type="image/jpeg",
        headers={"Accept": accept} if accept is not None else {},
    )
    assert (response.status_code, response.content_type) == (200, content_type)


def test_an_error_is_a_problem_also_where_a_picture_was_wanted(client: FlaskClient) -> None:
    response = client.post(
        "/predict", data=b"x", content_type="image/jpeg", headers={"Accept": "image/png"}
    )
    assert response.status_code == 415
    assert json.loads(response.data)["status"] == 415
