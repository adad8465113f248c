"""What training sees of a photo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest

from model.crops import GREY, TrainingPhoto, crop, open_photo

SIDE = 96
BOXES = np.array([[20.0, 30, 60, 70], [100, 10, 130, 40], [150, 100, 190, 150]])
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))


def photo() -> PIL.Image.Image:
    """Draw three boxes of one colour each on black."""
    picture = PIL.Image.new("RGB", (200, 160))
    for box, colour in zip(BOXES.tolist(), COLOURS, strict=True):
        PIL.ImageDraw.Draw(picture).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=colour)
    return picture


def test_boxes_go_where_their_pixels_go() -> None:
    picture, seen = photo(), np.zeros(len(BOXES), np.int64)
    for seed in range(60):
        part = crop(picture, BOXES, 200, SIDE, np.random.default_rng(seed))
        assert part.pixels.shape == (SIDE, SIDE, 3)
        for box, which in zip(part.xyxy, part.kept.tolist(), strict=True):
            left, top, right, bottom = np.round(box).astype(int)
            inner = part.pixels[top + 2 : bottom - 2, left + 2 : right - 2].astype(int)
            assert (inner.argmax(axis=2) == which).all()
            outside = part.pixels.astype(int).copy()
            outside[max(top - 2, 0) : bottom + 2, max(left - 2, 0) : right + 2] = 0
            assert not ((outside.argmax(axis=2) == which) & (outside.max(axis=2) > 160)).any()
            seen[which] += 1
    assert (seen > 10).all()  # and not of the three the first alone


def save_turned(path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    photo().rotate(90, expand=True).save(path, exif=exif)


def save_16_bits(path: Path) -> None:
    grey = np.asarray(photo().convert("L")).astype(np.uint16)
    PIL.Image.fromarray(grey * 257).save(path)


def save_transparent(path: Path) -> None:
    picture = photo().convert("RGBA")
    picture.putalpha(
        PIL.Image.fromarray((np.asarray(photo()).max(axis=2) > 0).astype(np.uint8) * 255)
    )
    picture.save(path)


@pytest.mark.parametrize("save", [save_turned, save_16_bits, save_transparent])
def test_a_photo_is_trained_on_as_the_service_sees_it(
    tmp_path: Path, save: Callable[[Path], None]
) -> None:
    save(tmp_path / "a.png")
    middle, sides = (BOXES[:, :2] + BOXES[:, 2:]) / 2, BOXES[:, 2:] - BOXES[:, :2]
    labelled = TrainingPhoto(
        path=tmp_path / "a.png",
        cxcywh=np.hstack((middle, sides)) / (200, 160, 200, 160),
        class_id=np.zeros(len(BOXES), np.int64),
        labelled=frozenset({0}),
    )
    picture, corners = open_photo(labelled)
    np.testing.assert_allclose(corners, BOXES)
    seen = np.asarray(picture).astype(int)
    back = 255 if save is save_transparent else 0
    assert seen.shape == (160, 200, 3)
    assert (seen[0, 0] == back).all()
    for left, top, right, bottom in BOXES.astype(int):
        inner = seen[top + 2 : bottom - 2, left + 2 : right - 2]
        assert (inner == inner[0, 0]).all()  # nothing but the box's own colour
        assert inner[0, 0].tolist() not in ([0] * 3, [255] * 3)


def test_a_box_that_is_mostly_cut_off_is_not_labelled() -> None:
    for seed in range(40):
        part = crop(photo(), BOXES, 200, SIDE, np.random.default_rng(seed))
        assert (part.xyxy >= 0).all()
        assert (part.xyxy <= SIDE).all()
        shown = np.prod(part.xyxy[:, 2:] - part.xyxy[:, :2], axis=1)
        assert (shown > 4).all()


def test_a_photo_without_a_box_gives_a_crop_without_one() -> None:
    part = crop(photo(), np.zeros((0, 4)), 200, SIDE, np.random.default_rng(0))
    assert part.xyxy.shape == (0, 4)
    assert part.kept.shape == (0,)


def test_a_small_photo_lies_in_grey() -> None:
    white = PIL.Image.new("RGB", (200, 20), (255, 255, 255))
    part = crop(white, np.zeros((0, 4)), 200, SIDE, np.random.default_rng(0))
    rows = part.pixels.reshape(SIDE, -1).astype(int)
    light = rows.max()
    assert (np.abs(rows[0] - light * GREY / 255) < 4).all() or (rows[0] == rows[-1]).all()
    assert (rows.min(axis=1) > 0.9 * light).sum() in range(10, 50)
