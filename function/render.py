"""The annotated picture: an image and its audit in, an image out. Pure; Pillow alone."""

from __future__ import annotations

import io
from typing import Final

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from function.result import Result, RowJson

Colour = tuple[int, int, int, int]  # red, green, blue, alpha

# As on the page: teal products on a dark halo, amber gaps, white bands.
PRODUCT: Final[Colour] = (46, 230, 197, 255)
GAP: Final[Colour] = (255, 176, 32, 255)
GAP_FILL: Final[Colour] = (255, 176, 32, 80)
ROW_FILL: Final[Colour] = (255, 255, 255, 28)
ROW_EDGE: Final[Colour] = (255, 255, 255, 176)
HALO: Final[Colour] = (4, 24, 24, 160)
LABEL: Final[Colour] = (6, 32, 31, 217)
TEXT: Final[Colour] = (255, 255, 255, 255)
# A picture is looked at as a whole, so lines and letters grow with its shorter side.
LINE_SHARE, TEXT_SHARE = 1 / 500, 1 / 45
SMALLEST_TEXT = 10  # pixels; below it the letters of Pillow's own font close up
JPEG_QUALITY = 90


def draw_audit(picture: PIL.Image.Image, result: Result) -> PIL.Image.Image:
    """Draw rows, gaps and products of a result over its RGB picture, and return that."""
    pen = PIL.ImageDraw.Draw(picture, "RGBA")
    shorter = min(picture.size)
    line = max(1, round(shorter * LINE_SHARE))
    for row in result["rows"]:
        _band(pen, row["xyxy"], line)
    for gap in result["gaps"]:
        pen.rectangle(_corners(gap["xyxy"]), GAP_FILL)
        _outline(pen, gap["xyxy"], GAP, line)
    for product in result["detections"]:
        _outline(pen, product["xyxy"], PRODUCT, line)
    for row in result["rows"]:
        _label(pen, row, max(SMALLEST_TEXT, round(shorter * TEXT_SHARE)))
    return picture


def encode(picture: PIL.Image.Image, media_type: str) -> bytes:
    """Write a picture as image/jpeg or image/png."""
    file = io.BytesIO()
    if media_type == "image/png":
        picture.save(file, "PNG", compress_level=1)  # a third of the time for a tenth more bytes
    else:
        picture.save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def _corners(xyxy: list[float]) -> tuple[int, int, int, int]:
    """Round to whole pixels, so that lines are sharp; the right and lower pixel are drawn too."""
    left, top, right, bottom = (round(edge) for edge in xyxy)
    return left, top, max(left, right - 1), max(top, bottom - 1)


def _outline(pen: PIL.ImageDraw.ImageDraw, xyxy: list[float], colour: Colour, line: int) -> None:
    """Draw a box in its colour, and a halo inside that keeps it visible on bright packs."""
    left, top, right, bottom = _corners(xyxy)
    pen.rectangle((left, top, right, bottom), outline=colour, width=line)
    if right - left > 4 * line and bottom - top > 4 * line:
        inner = (left + line, top + line, right - line, bottom - line)
        pen.rectangle(inner, outline=HALO, width=max(1, line // 2))


def _band(pen: PIL.ImageDraw.ImageDraw, xyxy: list[float], line: int) -> None:
    left, top, right, bottom = _corners(xyxy)
    pen.rectangle((left, top, right, bottom), ROW_FILL)
    for y in (top, max(top, bottom - line + 1)):
        pen.rectangle((left, y, right, min(bottom, y + line - 1)), ROW_EDGE)


def _label(pen: PIL.ImageDraw.ImageDraw, row: RowJson, size: int) -> None:
    """Write a row's number, count and fill rate into its upper left corner."""
    text = f"Row {row['index'] + 1}: {row['count']}, {row['fill_rate']:.0%} full"
    font = PIL.ImageFont.load_default(size)  # Pillow brings it; no font file is needed
    left, top, *_ = _corners(row["xyxy"])
    pad = size // 4
    width = round(pen.textlength(text, font))
    pen.rectangle((left, top, left + width + 2 * pad, top + size + 2 * pad), LABEL)
    pen.text((left + pad, top + pad), text, TEXT, font, anchor="lt")
