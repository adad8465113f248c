"""Exif data: which way up a photo is, and when it was taken. Pure; two lists of tags are read.

https://www.cipa.jp/std/documents/download_e.html?DC-008-Translation-2023-E
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from datetime import datetime

ORIENTATION = 0x0112
PHOTO = 0x8769  # where the list of the photo's tags begins
# When the photo was taken and the clock's offset from UTC, by the camera or by the last program.
TAKEN, TAKEN_OFFSET = 0x9003, 0x9011
CHANGED, CHANGED_OFFSET = 0x0132, 0x9010
# TIFF's types, as far as they are read.
ASCII, SHORT, LONG = 2, 3, 4
ENTRY = 12
MAX_ENTRIES = 1000  # cameras write sixty
MAX_TEXT = 32  # characters of a time
OFFSET = re.compile(r"[+-]\d\d:?\d\d|Z", re.ASCII)  # RFC 3339 knows no seconds of it


@dataclass(frozen=True)
class Exif:
    """What decoding and the result need of it."""

    orientation: int = 0  # 1 to 8; 0 where there is none that browsers would honour
    taken: datetime | None = None  # with its offset; None where either is missing or odd


def read_exif(tiff: bytes) -> Exif:
    """Read Exif data, given without a JPEG's prefix; an odd value counts as absent.

    An orientation counts as browsers take it: one SHORT from 1 to 8.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if not order or len(tiff) < 8:
        return Exif()
    tags = _tags(tiff, order, struct.unpack_from(order + "I", tiff, 4)[0])
    photo = tags.get(PHOTO)
    photo_tags = _tags(tiff, order, photo) if isinstance(photo, int) else {}
    orientation = tags.get(ORIENTATION)
    known = isinstance(orientation, int) and 1 <= orientation <= 8
    taken = _time(photo_tags.get(TAKEN), photo_tags.get(TAKEN_OFFSET))
    changed = _time(tags.get(CHANGED), photo_tags.get(CHANGED_OFFSET))
    return Exif(int(orientation) if known and orientation else 0, taken or changed)


def _tags(tiff: bytes, order: str, at: int) -> dict[int, int | str]:
    """Read the list of tags at `at`: texts, and single numbers."""
    if at + 2 > len(tiff):
        return {}
    (count,) = struct.unpack_from(order + "H", tiff, at)
    found: dict[int, int | str] = {}
    for entry in range(at + 2, at + 2 + ENTRY * min(count, MAX_ENTRIES), ENTRY):
        if entry + ENTRY > len(tiff):
            break
        tag, kind, many = struct.unpack_from(order + "HHI", tiff, entry)
        if tag in found:
            continue
        if kind == ASCII and many <= MAX_TEXT:
            inline = many <= 4
            start = entry + 8 if inline else struct.unpack_from(order + "I", tiff, entry + 8)[0]
            found[tag] = tiff[start : start + many].split(b"\0")[0].decode("ascii", "replace")
        elif many == 1 and (kind == SHORT or (kind == LONG and tag == PHOTO)):
            (found[tag],) = struct.unpack_from(
                order + ("H" if kind == SHORT else "I"), tiff, entry + 8
            )
    return found


def _time(text: int | str | None, offset: int | str | None) -> datetime | None:
    if not OFFSET.fullmatch(str(offset)):
        return None
    try:
        return datetime.strptime(f"{text} {offset}", "%Y:%m:%d %H:%M:%S %z")
    except ValueError:
        return None
