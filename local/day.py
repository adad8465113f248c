"""A day at one shelf: what a camera sends every quarter of an hour, for the board to show."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from PIL import Image

FOLDER = "store-17/aisle-9"
SHELF = Path(__file__).parent / "samples" / "store-17" / "aisle-4" / "full.jpg"
QUARTER = timedelta(minutes=15)
# Facings of the third row that are gone, by number: left, top, right, bottom in pixels.
GONE = {2: (596, 293, 675, 371), 3: (596, 293, 712, 371)}
# From photo to photo: a gap opens and is refilled, and another is left open.
DAY = (0, 0, 0, 2, 2, 2, 2, 0, 0, 0, 3, 3)
WALL = 45, 105  # grey of the wall behind, in the board's shadow and where it meets the board
EXIF_PHOTO, TAKEN, OFFSET = 0x8769, 0x9003, 0x9011


def photos(until: datetime) -> Iterator[tuple[str, bytes]]:
    """Draw the day's photos, by key, the last one taken at `until`."""
    shelf = Image.open(SHELF)
    drawn = {count: _sold(shelf, count) for count in set(DAY)}
    first = until.astimezone(UTC) - QUARTER * (len(DAY) - 1)
    for index, count in enumerate(DAY):
        taken = first + QUARTER * index
        exif = Image.Exif()
        exif.get_ifd(EXIF_PHOTO)[TAKEN] = taken.strftime("%Y:%m:%d %H:%M:%S")
        exif.get_ifd(EXIF_PHOTO)[OFFSET] = "+00:00"
        out = io.BytesIO()
        drawn[count].save(out, "JPEG", quality=85, exif=exif)
        yield f"{FOLDER}/{taken:%Y-%m-%d-%H%M}.jpg", out.getvalue()


def _sold(shelf: Image.Image, count: int) -> Image.Image:
    """Take some facings away, and show the wall behind them."""
    return painted_over(shelf, GONE[count]) if count else shelf


def painted_over(shelf: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """Show the wall behind in a part of the picture: left, top, right, bottom in pixels."""
    picture = shelf.copy()
    left, top, right, bottom = box
    dark, light = WALL
    wall = Image.linear_gradient("L").resize((right - left, bottom - top))
    wall = wall.point([dark + (light - dark) * value // 255 for value in range(256)])
    picture.paste(wall.convert("RGB"), (left, top))
    return picture
