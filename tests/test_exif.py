"""Exif data: an orientation as browsers take it, whatever stands there instead."""

import struct

import pytest

from function.exif import read_exif


def tiff(order: str, *entries: tuple[int, int, int, int]) -> bytes:
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, 8)
    body = b"".join(struct.pack(order + "HHIHH", *entry, 0) for entry in entries)
    return head + struct.pack(order + "H", len(entries)) + body + bytes(4)


@pytest.mark.parametrize(
    ("data", "orientation"),
    [
        (b"", 0),
        (b"II*\0", 0),
        (tiff("<"), 0),
        (tiff("<", (0x0112, 3, 1, 6)), 6),
        (tiff(">", (0x010F, 3, 1, 1), (0x0112, 3, 1, 8)), 8),
        (tiff(">", (0x0112, 4, 1, 6)), 0),
        (tiff("<", (0x0112, 3, 2, 6)), 0),
        (tiff("<", (0x0112, 3, 1, 0)), 0),
        (tiff("<", (0x0112, 3, 1, 9)), 0),
        (tiff("<", (0x0112, 3, 1, 6))[:-8], 0),
        (b"XX" + tiff("<", (0x0112, 3, 1, 6))[2:], 0),
        (b"II*\0\xff\xff\xff\xff" + bytes(20), 0),
    ],
)
def test_an_orientation_is_one_short_from_1_to_8(data: bytes, orientation: int) -> None:
    assert read_exif(data).orientation == orientation
