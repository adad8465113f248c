"""Whole or not: every format, cut at every place, whatever follows; and what is left out."""

import io
from typing import Any

import numpy as np
import PIL.Image
import pytest
from conftest import GOOD_SAMPLE

from function.container import (
    HOLE,
    MAX_SCANS,
    read_container,
)
from function.errors import ImageCorrupt, ImageTooLarge, ImageUnsupported
from function.image import read_image

SHELF = PIL.Image.open(GOOD_SAMPLE).convert("RGB").resize((540, 405))


def encoded(kind: str, picture: PIL.Image.Image = SHELF, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "baseline": ("JPEG", {}),
    "baseline-restarts": ("JPEG", {"restart_marker_rows": 1}),
    "progressive": ("JPEG", {"progressive": True}),
    "progressive-restarts": ("JPEG", {"progressive": True, "restart_marker_blocks": 7}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {}),
    "webp-lossless": ("WEBP", {"lossless": True, "method": 0}),
}
END = {"JPEG": b"\xff\xd9", "PNG": b"\0\0\0\0IEND\xaeB`\x82", "WEBP": b""}
ROW = 120  # bytes that the last row of blocks takes, at least
FOLLOWING = {
    "nothing": lambda cut, length, end: cut,
    "zeros": lambda cut, length, end: cut + bytes(length - len(cut)),
    "an-end": lambda cut, length, end: cut + end,
    "a-trailer": lambda cut, length, end: cut + b"a camera's trailer" * 9,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_picture_passes_whatever_follows_or_lacks(kind: str) -> None:
    name, options = KINDS[kind]
    data, end = encoded(name, **options), END[name]
    expected = np.asarray(PIL.Image.open(io.BytesIO(data)).convert("RGB"))
    for whole in (
        data,
        data + bytes(64),
        data + bytes(100_000),
        data + b"a camera's trailer" * 9,
        data[: len(data) - len(end)],
        data[: len(data) - len(end)] + bytes(64),
    ):
        assert np.array_equal(read_image(whole).pixels, expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("colour", ["white", "black"])
@pytest.mark.parametrize(
    "box", [(0, 397, 540, 405), (0, 200, 540, 405), (340, 385, 540, 405)], ids=str
)
def test_a_whole_picture_may_end_in_one_colour(
    kind: str, colour: str, box: tuple[int, int, int, int]
) -> None:
    """As one that was made square does; its encoder may end in zeros."""
    name, options = KINDS[kind]
    picture = SHELF.copy()
    picture.paste(colour, box)
    data = encoded(name, picture, **options)
    expected = np.asarray(PIL.Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(read_image(data).pixels, expected)


@pytest.mark.parametrize("following", FOLLOWING)
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95, "last-row"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_did_not_arrive_whole_is_corrupt(
    kind: str, share: float | str, following: str
) -> None:
    name, options = KINDS[kind]
    data, end = encoded(name, **options), END[name]
    kept = len(data) - len(end) - ROW if isinstance(share, str) else int(len(data) * share)
    cut = FOLLOWING[following](data[:kept], len(data), end)
    for size in (None, (160, 160)):
        with pytest.raises(ImageCorrupt):
            read_image(cut, size)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.7])
@pytest.mark.parametrize(
    ("kind", "align", "hole"),
    [
        *((kind, 512, HOLE) for kind in KINDS),
        # Without loss a picture of one colour may take more than this one has.
        *((kind, 1, 12_000) for kind in KINDS if kind != "webp-lossless"),
    ],
)
def test_a_hole_in_the_data_is_corrupt(kind: str, share: float, align: int, hole: int) -> None:
    """As an upload in parts leaves it that lacks one."""
    name, options = KINDS[kind]
    data = encoded(name, **options)
    at = int(len(data) * share) // align * align
    with pytest.raises(ImageCorrupt):
        read_image(data[:at] + bytes(hole) + data[at + hole :])


@pytest.mark.parametrize("kind", [*KINDS, "baseline-fitted", "webp-fast"])
@pytest.mark.parametrize("colour", ["white", "black", (120, 90, 40)], ids=str)
@pytest.mark.parametrize("height", [0, 20, 100, 405])
def test_data_may_hold_the_zeros_of_a_picture_of_one_colour(
    kind: str, colour: Any, height: int
) -> None:
    more = {
        "baseline-fitted": ("JPEG", {"optimize": True, "subsampling": 0}),
        "webp-fast": ("WEBP", {"method": 0, "quality": 95}),
    }
    name, options = (KINDS | more)[kind]
    picture = PIL.Image.new("RGB", SHELF.size, colour)
    picture.paste(SHELF.crop((0, 0, 540, height)), (0, 405 - height))
    assert read_image(encoded(name, picture, **options)).width == 540


def test_a_baseline_jpeg_says_where_its_data_ends() -> None:
    data = encoded("JPEG")
    with pytest.raises(ImageCorrupt, match=r"its data ends at (4|5)\d% of the height"):
        read_image(data[: len(data) // 2])


def test_metadata_is_left_out_and_the_picture_stays() -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 3
    for kind in ("JPEG", "PNG", "WEBP"):
        bare = encoded(kind)
        full = encoded(kind, exif=exif, icc_profile=b"profile" * 3000, comment=b"comment" * 999)
        container = read_container(full)
        assert container.exif.orientation == 3
        assert len(container.data) < len(bare) + 100
        assert np.array_equal(read_image(full).pixels, read_image(bare).pixels[::-1, ::-1])


def test_scans_are_counted_and_their_coefficients_too() -> None:
    baseline, progressive = encoded("JPEG"), encoded("JPEG", progressive=True)
    assert read_container(baseline).scans == 1
    assert read_container(baseline).coefficients == 0
    found = read_container(progressive)
    assert found.scans == 10
    assert found.coefficients == 1.5 * 540 * 405  # the colours at half the width and height
    last = progressive.rindex(b"\xff\xda")
    with pytest.raises(ImageTooLarge, match="fewer scans"):
        read_container(progressive[:-2] + progressive[last:-2] * MAX_SCANS)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\0\0\0\x18ftypheic" + bytes(20), "got HEIC; on an iPhone"),
        (b"\0\0\0\x18ftypavif" + bytes(20), "got AVIF"),
        (b"II*\0" + bytes(20), "got TIFF or a camera's raw file"),
        (b"GIF89a" + bytes(20), "got GIF"),
        (b"%PDF-1.7", "got PDF"),
        (b"hello", "must be one of JPEG, PNG, WEBP, got a file of another kind$"),
    ],
)
def test_another_format_is_named_with_the_way_to_a_jpeg(data: bytes, words: str) -> None:
    with pytest.raises(ImageUnsupported, match=words):
        read_container(data)
