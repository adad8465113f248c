"""Bytes to pixels: what is read, and what is refused with which error."""

import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import PIL.Image
import pytest

import function.image
from function.errors import (
    ImageCorrupt,
    ImageEmpty,
    ImageTooLarge,
    ImageUnsupported,
)
from function.exif import ORIENTATION
from function.image import MAX_IMAGE_BYTES, Image, captured_at, read_header, read_image


def corners(turn: int | None = None) -> bytes:
    """A 96 x 48 JPEG, red in its stored top left corner, with an EXIF orientation."""
    picture = PIL.Image.new("RGB", (96, 48), "white")
    picture.paste("red", (0, 0, 24, 24))
    exif = PIL.Image.Exif()
    if turn is not None:
        exif[ORIENTATION] = turn
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=95, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize(
    ("turn", "size", "corner", "applied"),
    [
        (None, (96, 48), "top left", 1),
        (1, (96, 48), "top left", 1),
        (2, (96, 48), "top right", 2),
        (3, (96, 48), "bottom right", 3),
        (4, (96, 48), "bottom left", 4),
        (5, (48, 96), "top left", 5),
        (6, (48, 96), "top right", 6),
        (7, (48, 96), "bottom right", 7),
        (8, (48, 96), "bottom left", 8),
        (9, (96, 48), "top left", 1),
    ],
)
def test_exif_is_applied_once(
    turn: int | None, size: tuple[int, int], corner: str, applied: int
) -> None:
    image = read_image(corners(turn))
    assert (image.width, image.height, image.orientation) == (*size, applied)
    assert image.pixels.shape == (size[1], size[0], 3)
    y = 4 if "top" in corner else size[1] - 4
    x = 4 if "left" in corner else size[0] - 4
    red, green, _ = image.pixels[y, x]
    assert red > 200
    assert green < 60


@pytest.mark.parametrize("simd", [True, False])
@pytest.mark.parametrize(
    ("stored", "size"),
    [
        pytest.param((64, 48), (64, 48), id="as-it-is"),
        pytest.param((64, 48), (80, 60), id="enlarged"),
        pytest.param((101, 67), (80, 53), id="shrunk"),
        pytest.param((500, 3), (80, 1), id="line"),
        pytest.param((1, 1), (80, 80), id="one-pixel"),
    ],
)
def test_an_image_is_resized_as_pillow_does_it(
    monkeypatch: pytest.MonkeyPatch, stored: tuple[int, int], size: tuple[int, int], simd: bool
) -> None:
    if not simd:  # Linux on ARM
        monkeypatch.setattr(function.image, "simd", None)
    noise = np.random.default_rng(0).integers(0, 256, (stored[1], stored[0], 3), np.uint8)
    resized = Image.of(noise).resized(size)
    expected = np.asarray(PIL.Image.fromarray(noise).resize(size, PIL.Image.Resampling.BILINEAR))
    assert resized.shape == (size[1], size[0], 3)
    assert np.abs(resized.astype(int) - expected).max() <= (1 if simd else 0)


@pytest.mark.parametrize(
    ("kind", "mode", "color", "expected"),
    [
        pytest.param("PNG", "L", 100, 100, id="grey"),
        pytest.param("PNG", "1", 1, 255, id="one-bit"),
        pytest.param("PNG", "P", 0, 0, id="palette"),
        pytest.param("PNG", "LA", (100, 255), 100, id="grey-alpha"),
        pytest.param("PNG", "RGBA", (10, 10, 10, 0), 255, id="transparent-on-white"),
        pytest.param("PNG", "I;16", 32768, 128, id="16-bit-grey"),
        pytest.param("JPEG", "CMYK", (0, 0, 0, 0), 255, id="cmyk"),
        pytest.param("WEBP", "RGB", (100, 100, 100), 100, id="webp"),
    ],
)
def test_every_mode_becomes_rgb(
    make_image: Callable[..., bytes], kind: str, mode: str, color: object, expected: int
) -> None:
    pixels = read_image(make_image(kind, (8, 6), mode, color)).pixels
    assert pixels.shape == (6, 8, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - expected).max() <= 2


def animated() -> bytes:
    frames = [PIL.Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    file = io.BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:])
    return file.getvalue()


def bomb() -> bytes:
    """60 MP in a few kilobytes."""
    file = io.BytesIO()
    PIL.Image.new("1", (10_000, 6_000)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        pytest.param(lambda _: b"", ImageEmpty, "must have bytes", id="empty"),
        pytest.param(lambda _: b"<html>", ImageUnsupported, "one of JPEG, PNG", id="html"),
        pytest.param(lambda make: make("GIF"), ImageUnsupported, "one of", id="gif"),
        pytest.param(lambda _: animated(), ImageUnsupported, "animated", id="animated"),
        pytest.param(
            lambda _: b"\0" * (MAX_IMAGE_BYTES + 1), ImageTooLarge, "20971521", id="bytes"
        ),
        pytest.param(lambda _: bomb(), ImageTooLarge, "10000 x 6000", id="pixels"),
        pytest.param(
            lambda make: make("JPEG", (640, 480))[:700],
            ImageCorrupt,
            "truncated or damaged",
            id="jpeg-half",
        ),
        pytest.param(
            lambda make: make("PNG", (640, 480))[:-40], ImageCorrupt, "PNG image", id="png-cut"
        ),
        pytest.param(
            lambda make: make("WEBP", (640, 480))[:-8],
            ImageCorrupt,
            "did not arrive whole",
            id="webp-cut",
        ),
    ],
)
def test_what_is_no_image_is_refused_by_its_own_error(
    make_image: Callable[..., bytes],
    data: Callable[[Callable[..., bytes]], bytes],
    error: type[Exception],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        read_image(data(make_image))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("size", "decoded"),
    [
        pytest.param((1150, 840), (1150, 840), id="less-than-nine-fifths"),
        pytest.param((1152, 864), (576, 432), id="nine-fifths"),
        pytest.param((1280, 960), (640, 480), id="twice"),
        pytest.param((4000, 3000), (1000, 750), id="12-mp"),
        pytest.param((1283, 961), (642, 481), id="odd"),
    ],
)
def test_large_images_decode_at_reduced_scale(
    make_image: Callable[..., bytes], kind: str, size: tuple[int, int], decoded: tuple[int, int]
) -> None:
    image = read_image(make_image(kind, size), (640, 640))
    assert (image.width, image.height) == size
    assert image.pixels.shape == (decoded[1], decoded[0], 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "I;16", "RGB", "RGBA"])
def test_reduced_scale_shows_the_same_picture_in_every_mode(mode: str) -> None:
    """Palette numbers and 16-bit values are no colours that could be averaged."""
    ramp = PIL.Image.linear_gradient("L").resize((1280, 1280)).convert("RGB")
    if mode == "I;16":
        stored = PIL.Image.fromarray(np.asarray(ramp.convert("L")).astype(np.uint16) * 257)
    else:
        stored = ramp.convert(mode)
    file = io.BytesIO()
    stored.save(file, "PNG")
    pixels = read_image(file.getvalue(), (640, 640)).pixels
    expected = np.asarray(ramp.reduce(2)).astype(int)
    assert pixels.shape == (640, 640, 3)
    blocks = (pixels.astype(int) - expected).reshape(8, 80, 8, 80, 3).mean(axis=(1, 3))
    assert np.abs(blocks).max() < 12


def test_a_header_is_read_without_decoding(make_image: Callable[..., bytes]) -> None:
    header = read_header(make_image("PNG", (2000, 1500)), (640, 640))
    assert (header.width, header.height) == (2000, 1500)
    assert 12 * 2000 * 1500 <= header.memory() < 13 * 2000 * 1500


def test_a_baseline_jpeg_takes_memory_for_its_reduced_scale_alone(
    make_image: Callable[..., bytes],
) -> None:
    baseline = read_header(make_image("JPEG", (4000, 3000)), (640, 640))
    progressive = read_header(make_image("JPEG", (4000, 3000), progressive=True), (640, 640))
    assert 8 * 1000 * 750 <= baseline.memory() < 9 * 1000 * 750
    coefficients = 2 * 1.5 * 4000 * 3000  # half as wide and half as high for two colours
    assert coefficients + 8 * 1000 * 750 <= progressive.memory() < coefficients + 9 * 1000 * 750


def with_time(make_image: Callable[..., bytes], **tags: str) -> bytes:
    """A JPEG whose EXIF says when it was taken."""
    exif = PIL.Image.Exif()
    photo = exif.get_ifd(0x8769)
    for name, tag in (("original", 0x9003), ("offset", 0x9011), ("file_offset", 0x9010)):
        if name in tags:
            photo[tag] = tags[name]
    if "file" in tags:
        exif[0x0132] = tags["file"]
    return make_image("JPEG", exif=exif)


NOON = "2026:11:20 12:00:00"


@pytest.mark.parametrize(
    ("tags", "taken"),
    [
        ({}, None),
        ({"original": NOON}, None),  # of which zone?
        ({"offset": "+01:00"}, None),
        ({"original": NOON, "offset": "+01:00"}, "2026-11-20T12:00:00+01:00"),
        ({"original": NOON, "offset": "Z"}, "2026-11-20T12:00:00+00:00"),
        ({"file": NOON, "file_offset": "-05:30"}, "2026-11-20T12:00:00-05:30"),
        ({"original": "0000:00:00 00:00:00", "offset": "+01:00"}, None),
        ({"original": "noon", "offset": "+01:00"}, None),
        ({"original": NOON, "offset": "+01:30:15"}, None),  # no time of JSON has such an offset
        ({"original": NOON, "offset": "+0130"}, "2026-11-20T12:00:00+01:30"),
    ],
)
def test_when_a_photo_was_taken_is_read_where_exif_names_its_offset(
    make_image: Callable[..., bytes], tags: dict[str, str], taken: str | None
) -> None:
    image = read_image(with_time(make_image, **tags))
    assert (image.taken.isoformat() if image.taken else None) == taken


@pytest.mark.parametrize(
    ("hours", "believed"),
    [(0, True), (-1, True), (-48, True), (-48.1, False), (1 / 60, True), (0.1, False)],
)
def test_a_time_in_the_future_or_two_days_old_is_not_believed(hours: float, believed: bool) -> None:
    uploaded = datetime(2026, 11, 20, 12, tzinfo=UTC)
    taken = uploaded + timedelta(hours=hours)
    assert captured_at(taken, uploaded) == (taken if believed else uploaded)
    assert captured_at(None, uploaded) == uploaded


@pytest.mark.parametrize("year", [datetime.min, datetime.max])
def test_an_upload_at_the_end_of_time_has_a_time(year: datetime) -> None:
    uploaded = year.replace(tzinfo=UTC)
    assert captured_at(datetime(2026, 11, 20, tzinfo=UTC), uploaded) == uploaded
