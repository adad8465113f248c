"""The container of an image, walked before a decoder sees it: what decoding needs, and no more.

A JPEG is a list of segments, a PNG and a WebP are lists of chunks. One bounded pass over them keeps
the picture and leaves out text, comments, profiles, previews and whatever follows the end: nothing
in them can cost memory, and no checksum in them is a reason to refuse a photo. Pure; no IO.

JPEG: ITU-T T.81, annexes B and G. PNG: https://www.w3.org/TR/png-3/. WebP: RFC 9649.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

import numpy as np

from function.errors import ImageCorrupt, ImageTooLarge, ImageUnsupported
from function.exif import Exif, read_exif

# What cameras, phones and browsers send; each further decoder is attack surface.
FORMATS = ("JPEG", "PNG", "WEBP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")  # of their files, in capitals, too
# A sensor of 50 megapixels; decoded to RGB it takes 151 MB.
MAX_WIDTH_AND_HEIGHT = (8192, 6144)
MAX_IMAGE_PIXELS = MAX_WIDTH_AND_HEIGHT[0] * MAX_WIDTH_AND_HEIGHT[1]
# As a JPEG's. Each row takes memory of its own: 50 million of one pixel, 600 MB.
MAX_SIDE = 65_535
# Cameras write a dozen segments, libpng a chunk every 8 KiB: 2 560 in the largest body.
MAX_PARTS = 5000
# Encoders write ten; each is a pass over the whole picture, so that large ones may have fewer.
MAX_SCANS = 100
MAX_SCANNED_PIXELS = 20 * MAX_IMAGE_PIXELS
MAX_TABLES = 64  # segments of quantisation tables before the first scan; each has four at most
LONGEST_TABLES = 4 * (1 + 2 * 64)
# An upload in parts may lack one, and a file its pages: there are zeros from one sector's border to
# another's, and a byte or two beside them may be zero by itself. Whole data has runs of them, too,
# where a picture is of one colour, but hardly from border to border. Of pictures flat, half flat,
# framed and drawn, in each quality and by each method, no run is longer than half the limits.
HOLE, SECTOR, BESIDE = 4096, 512, 2
ZERO_RUN = re.compile(rb"\0*")
JPEG_BITS_A_BLOCK, PROGRESSIVE_BITS_A_BLOCK = 6, 3
# Preallocated uploads end in zeros. So does a WebP whose picture ends in one colour, such as a
# margin: of 1 000 made with every quality and method, lossy data had up to 9 bytes of them for each
# block of it, lossless data 3 bits for a pixel.
ZEROS = 32
WEBP_BLOCK = 16
BYTES_A_BLOCK, BYTES_A_PIXEL = 12, 1

EXIF = b"Exif\0\0"  # what stands before Exif data in a JPEG, and in some WebPs
MAX_EXIF = 64 * 1024  # bytes, as in a JPEG

# Of what is no still of these formats: how to recognise it, its name, and how to get a JPEG.
APPLE = "on an iPhone choose Settings > Camera > Formats > Most Compatible, or export it as JPEG"
EXPORT = "export it as JPEG"
BRANDS = {
    b"heic": ("HEIC", APPLE),
    b"heix": ("HEIC", APPLE),
    b"heim": ("HEIC", APPLE),
    b"heis": ("HEIC", APPLE),
    b"hevc": ("HEIC", APPLE),
    b"mif1": ("HEIC", APPLE),
    b"msf1": ("HEIC", APPLE),
    b"avif": ("AVIF", EXPORT),
    b"avis": ("AVIF", EXPORT),
    b"qt  ": ("QuickTime film", "send a photo"),
    b"isom": ("MP4 film", "send a photo"),
    b"mp42": ("MP4 film", "send a photo"),
}
SIGNATURES = {
    b"II*\0": ("TIFF or a camera's raw file", "choose JPEG in the camera, or export it as JPEG"),
    b"MM\0*": ("TIFF or a camera's raw file", "choose JPEG in the camera, or export it as JPEG"),
    b"GIF8": ("GIF", EXPORT),
    b"BM": ("BMP", EXPORT),
    b"%PDF": ("PDF", "send the photo in it as JPEG"),
    b"<": ("HTML, SVG or other text", "send the photo itself"),
    b"{": ("JSON", "send the photo itself"),
    b"PK": ("a ZIP archive", "send the photos in it one by one"),
    b"\0\0\0\0": ("zeros", "its upload has not begun: send it again"),
    b"\xff\x0a": ("JPEG XL", EXPORT),
    b"\0\0\0\x0cJXL ": ("JPEG XL", EXPORT),
    b"\0\0\0\x0cjP  ": ("JPEG 2000", EXPORT),
}

EOI, SOS, DQT, DNL, DRI = 0xD9, 0xDA, 0xDB, 0xDC, 0xDD
STANDALONE = (0x01, 0xD8, EOI)  # markers without a length that are no restart marker
BASELINE, EXTENDED, PROGRESSIVE = 0xC0, 0xC1, 0xC2
FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
JFIF, EXIF_SEGMENT, ADOBE = 0xE0, 0xE1, 0xEE
APPLICATION = 0xE0  # from here on segments are not about decoding
# Within a scan 0xff is followed by 0, or by a restart marker, or it is no part of the scan.
SEGMENT_STARTS = frozenset(bytes([code]) for code in (*range(1, 0xD0), *range(0xD8, 0xFF)))
IS_MARKER = np.array([bytes([code]) in SEGMENT_STARTS for code in range(256)])
RESTARTS = range(0xD0, 0xD8)
BLOCK, COEFFICIENTS = 8, 64
SHORTEST_BAND, LONGEST_BAND = 64, 128 * 1024  # bytes that are searched at a time

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")

WEBP_ALPHA = 0x10  # the flag of a VP8X chunk that there is transparency

HALF_SCANS = "The JPEG image did not arrive whole: scans that refine it are missing"

Bytes = bytes | memoryview


@dataclass(frozen=True, kw_only=True)
class Container:
    """An image as its container describes it; nothing is decoded yet."""

    format: str
    data: bytes  # all that decoding needs; a JPEG of several scans lacks its end marker
    width: int  # as it is stored
    height: int
    exif: Exif
    scans: int = 1
    coefficients: int = 0  # that the decoder of a JPEG of several scans keeps until the last one
    bits: int = 8  # a sample
    # What must be of one colour at the picture's end, or it did not arrive: left, top.
    plain_from: tuple[int, int] | None = None


@dataclass
class _Frame:
    """What a JPEG's frame header says, and which bits of it the scans have brought."""

    progressive: bool
    width: int
    height: int
    sampling: dict[int, tuple[int, int]]  # component to (horizontal, vertical)
    missing: dict[int, list[int]]  # bits left, of each coefficient
    interval: int = 0  # units between restart markers
    units: int = 0  # blocks, or groups of them, in the scan that was taken last
    blocks: int = 0  # in that scan

    @property
    def coefficients(self) -> int:
        across, down = self._most
        share = sum(h * v for h, v in self.sampling.values()) / (across * down)
        return int(self.width * self.height * share)

    @property
    def _most(self) -> tuple[int, int]:
        return max(h for h, _ in self.sampling.values()), max(v for _, v in self.sampling.values())

    def lacks_restarts(self, scan: Bytes) -> bool:
        """Tell whether the data of the scan taken last has fewer restart markers than it needs."""
        if not self.interval:
            return False
        data = bytes(scan)
        found = sum(data.count(bytes([0xFF, code])) for code in RESTARTS)
        return found < -(-self.units // self.interval) - 1

    def take(self, scan: Bytes) -> None:
        """Note what a scan brings, by its header."""
        count = scan[0] if scan else 0
        if len(scan) != 4 + 2 * count or not 1 <= count <= 4:
            raise _damaged("JPEG", "a scan's header")
        first, last, low = scan[-3], scan[-2], scan[-1] & 15
        components = bytes(scan[1:-3:2])
        if not set(components) <= set(self.sampling) or not first <= last < COEFFICIENTS:
            raise _damaged("JPEG", "a scan's header")
        across, down = self._most
        if count == 1:  # alone it has no blocks for the sake of the others
            h, v = self.sampling[components[0]]
            width, height = -(-self.width * h // across), -(-self.height * v // down)
            self.units = self.blocks = -(-width // BLOCK) * -(-height // BLOCK)
        else:
            self.units = -(-self.width // (BLOCK * across)) * -(-self.height // (BLOCK * down))
            sampling = (self.sampling[component] for component in components)
            self.blocks = self.units * sum(h * v for h, v in sampling)
        for component in components:
            left = self.missing[component]
            if self.progressive:
                left[first : last + 1] = [low] * (last + 1 - first)
            else:
                left[:] = [0] * COEFFICIENTS

    @property
    def whole(self) -> bool:
        return not any(any(left) for left in self.missing.values())


def read_container(data: bytes) -> Container:
    """Walk the container of a JPEG, PNG or WebP still.

    Raises `ImageUnsupported` for another format, `ImageTooLarge` for too many pixels, parts or
    scans, and `ImageCorrupt` for what cannot be walked or does not hold the whole picture.
    """
    if data.startswith(b"\xff\xd8\xff"):
        container = _read_jpeg(data)
    elif data.startswith(PNG_SIGNATURE):
        container = _read_png(data)
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        container = _read_webp(data)
    else:
        raise ImageUnsupported(_other_format(data))
    return container


def _other_format(data: bytes) -> str:
    must_be = f"The image must be one of {', '.join(FORMATS)}"
    if data[4:8] == b"ftyp" and data[8:12] in BRANDS:
        name, advice = BRANDS[data[8:12]]
    else:
        known = [about for head, about in SIGNATURES.items() if data.startswith(head)]
        if not known:
            return f"{must_be}, got a file of another kind"
        name, advice = known[0]
    return f"{must_be}, got {name}; {advice}"


def _damaged(kind: str, where: str) -> ImageCorrupt:
    return ImageCorrupt(f"The {kind} image cannot be decoded: {where} is truncated or damaged")


def _check_size(width: int, height: int) -> None:
    if max(width, height) > MAX_SIDE:
        msg = f"The image's sides must have at most {MAX_SIDE} pixels, got {width} x {height}"
        raise ImageTooLarge(msg)
    if width * height > MAX_IMAGE_PIXELS:
        msg = f"The image must have at most {MAX_IMAGE_PIXELS} pixels, got {width} x {height}"
        raise ImageTooLarge(msg)


def _check_parts(parts: int, kind: str) -> None:
    if parts > MAX_PARTS:
        msg = f"The {kind} image must have at most {MAX_PARTS} segments or chunks, got more"
        raise ImageTooLarge(msg)


def _check_holes(data: bytes, start: int, end: int, most: float, kind: str) -> None:
    """Refuse a picture's data with zeros in place of a part: too many, or whole sectors of them."""
    hole = bytes(HOLE)
    at = data.find(hole, start, end)
    while at >= 0:
        run = ZERO_RUN.match(data, at, end)
        stop = run.end() if run else end
        if stop - at > most or max(-at % SECTOR, stop % SECTOR) <= BESIDE:
            msg = f"The {kind} image did not arrive whole: {stop - at} bytes of it are missing"
            raise ImageCorrupt(msg)
        at = data.find(hole, stop, end)


def _still(kind: str) -> ImageUnsupported:
    return ImageUnsupported(f"The {kind} image must be a still, and is animated")


# --- JPEG ---


def _read_jpeg(data: bytes) -> Container:
    kept: list[Bytes] = [data[:2]]
    colour: dict[int, Bytes] = {}  # the segments that say what the components are
    frame: _Frame | None = None
    exif: Exif | None = None
    interval, tables, at = 0, 0, 2
    for _ in range(MAX_PARTS):
        marker, start, at = _segment(data, at)
        segment = memoryview(data)[start:at]
        body = segment[4:]
        if marker in FRAMES and not frame:
            frame = _read_frame(marker, body)
            kept += [*colour.values(), segment]
        elif marker == SOS and frame:
            frame.interval = interval
            frame.take(body)
            interleaved = body[0] == len(frame.sampling)
            kept.append(segment)
            scans = _read_scans(data, at, frame, kept)
            buffered = frame.progressive or not interleaved
            return Container(
                format="JPEG",
                data=b"".join(kept),
                width=frame.width,
                height=frame.height,
                exif=exif or Exif(),
                scans=scans,
                coefficients=frame.coefficients if buffered else 0,
            )
        elif marker == JFIF and bytes(body[:5]) == b"JFIF\0" and len(body) >= 14:
            colour[JFIF] = segment
        elif marker == ADOBE and bytes(body[:5]) == b"Adobe" and len(body) >= 12:
            colour[ADOBE] = segment
        elif marker == EXIF_SEGMENT and not exif and bytes(body[:6]) == EXIF:
            exif = read_exif(bytes(body[6:]))
        elif marker == DQT:
            tables += 1
            if tables > MAX_TABLES:
                msg = f"The JPEG image must have at most {MAX_TABLES} segments of tables, got more"
                raise ImageTooLarge(msg)
            if len(body) > LONGEST_TABLES:
                break
            kept.append(segment)
        elif marker in STANDALONE or marker in FRAMES or marker == SOS:
            break
        elif marker == DRI:
            interval = _interval(bytes(segment))
            kept.append(segment)
        elif marker < APPLICATION:
            kept.append(segment)
    else:
        _check_parts(MAX_PARTS + 1, "JPEG")
    raise _damaged("JPEG", "its header")


def _interval(segment: bytes) -> int:
    return int.from_bytes(segment[4:6])


def _segment(data: bytes, at: int) -> tuple[int, int, int]:
    """Find the next segment: its marker (EOI where there is none), its start and end."""
    start = _marker(data, at)
    if start < 0:
        return EOI, len(data), len(data)
    marker, end = data[start + 1], start + 2
    if marker in STANDALONE:
        return marker, start, end
    length = int.from_bytes(data[end : end + 2])
    if length < 2 or end + length > len(data):
        return EOI, start, end
    return marker, start, end + length


def _marker(data: bytes, at: int) -> int:
    """Find the next marker, -1 where there is none.

    In bands, as one search keeps all other threads waiting; in short ones first, as garbage
    between segments is mostly short.
    """
    if data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] in SEGMENT_STARTS:
        return at
    length = SHORTEST_BAND
    while at < len(data):
        band = np.frombuffer(data, np.uint8, min(length + 1, len(data) - at), at)
        starts = np.flatnonzero(band[:-1] == 0xFF)
        starts = starts[IS_MARKER[band[starts + 1]]]
        if len(starts):
            return at + int(starts[0])
        at, length = at + length, min(2 * length, LONGEST_BAND)
    return -1


def _read_frame(marker: int, body: memoryview) -> _Frame:
    if len(body) < 6 or len(body) != 6 + 3 * body[5]:
        raise _damaged("JPEG", "its header")
    if marker not in (BASELINE, EXTENDED, PROGRESSIVE) or body[0] != 8:
        must_be = "baseline or progressive, Huffman-coded, of 8 bits a sample"
        msg = f"The JPEG image must be {must_be}, got SOF{marker - BASELINE} of {body[0]} bits"
        raise ImageUnsupported(msg)
    height, width = struct.unpack(">HH", body[1:5])
    sampling = {body[i]: (body[i + 1] >> 4, body[i + 1] & 15) for i in range(6, len(body), 3)}
    factors = [factor for pair in sampling.values() for factor in pair]
    if not (width and height and sampling) or len(sampling) != body[5]:
        raise _damaged("JPEG", "its header")
    if not all(1 <= factor <= 4 for factor in factors):
        raise _damaged("JPEG", "its header")
    _check_size(width, height)
    missing = {component: [16] * COEFFICIENTS for component in sampling}
    return _Frame(marker == PROGRESSIVE, width, height, sampling, missing)


def _read_scans(data: bytes, at: int, frame: _Frame, kept: list[Bytes]) -> int:
    """Keep the data of the scan at `at`, and the scans after it; count them."""
    scans, parts = 1, 0
    while True:
        marker, start, end = _segment(data, at)
        scan = _scan_data(data, at, start)
        kept.append(scan)
        bits = PROGRESSIVE_BITS_A_BLOCK if frame.progressive else JPEG_BITS_A_BLOCK
        _check_holes(data, at, at + len(scan), bits / 8 * frame.blocks, "JPEG")
        if frame.whole and not frame.progressive and scans == 1:
            return scans  # the decoder tells whether it is whole
        if frame.lacks_restarts(scan):
            raise ImageCorrupt(HALF_SCANS)
        while marker != SOS:
            parts += 1
            _check_parts(parts, "JPEG")
            if marker in STANDALONE or marker in FRAMES:
                if frame.whole:
                    return scans
                raise ImageCorrupt(HALF_SCANS)
            if marker == DRI:
                frame.interval = _interval(data[start:end])
            if marker < APPLICATION and marker != DNL:
                kept.append(memoryview(data)[start:end])
            marker, start, end = _segment(data, end)
        scans += 1
        if scans > MAX_SCANS or scans * frame.width * frame.height > MAX_SCANNED_PIXELS:
            size = f"{frame.width} x {frame.height}"
            msg = f"The JPEG image must have fewer scans for its {size} pixels, got {scans} or more"
            raise ImageTooLarge(msg)
        kept.append(memoryview(data)[start:end])
        frame.take(memoryview(data)[start + 4 : end])
        at = end


def _scan_data(data: bytes, start: int, end: int) -> Bytes:
    """Give the data of a scan, without the zeros that a preallocated file ends in."""
    if end < len(data) or data[end - 1 : end] != b"\0":
        return memoryview(data)[start:end]
    return data[start:end].rstrip(b"\0")


# --- PNG ---


def _read_png(data: bytes) -> Container:
    kept: list[Bytes] = [data[:8]]
    header = data[8:33]
    if header[:8] != b"\0\0\0\x0dIHDR" or len(header) < 25:
        raise _damaged("PNG", "its header")
    width, height, bits = struct.unpack_from(">IIB", header, 8)
    if not width or not height:
        raise _damaged("PNG", "its header")
    _check_size(width, height)
    exif, at, dropped, last = Exif(), 8, False, (0, 0)
    for _ in range(MAX_PARTS):
        length = int.from_bytes(data[at : at + 4])
        name, end = data[at + 4 : at + 8], at + 12 + length
        if name == b"acTL" and int.from_bytes(data[at + 8 : at + 12]) > 1:
            raise _still("PNG")
        if name == b"eXIf":
            exif = read_exif(data[at + 8 : min(end - 4, at + 8 + MAX_EXIF)])
        if name == b"IEND" or len(name) < 4 or not name.isalpha():
            break
        if end > len(data):
            if name == b"IDAT":
                kept.append(_png_chunk(name, data[at + 8 : at + 8 + length]))
            dropped = True
            break
        if name == b"IHDR" and at > 8:  # the decoder would take the size of the last one
            raise _damaged("PNG", "its header")
        if name in PNG_KEPT:
            kept.append(memoryview(data)[at:end])
            if name == b"IDAT":
                last = at, end
        else:
            dropped = True
        at = end
    else:
        _check_parts(MAX_PARTS + 1, "PNG")
    # Decoders do not ask whether the bytes were right that gave the last rows.
    if any(last) and zlib.crc32(memoryview(data)[last[0] + 4 : last[1] - 4]) != _png_crc(
        data, last[1]
    ):
        raise _damaged("PNG", "its data")
    # As it came where nothing was left out: that saves the copy.
    as_it_is = not dropped and data[at + 4 : at + 8] == b"IEND"
    whole = data if as_it_is else b"".join([*kept, _png_chunk(b"IEND", b"")])
    return Container(format="PNG", data=whole, width=width, height=height, exif=exif, bits=bits)


def _png_crc(data: bytes, end: int) -> int:
    return int.from_bytes(data[end - 4 : end])


def _png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


# --- WebP ---


def _read_webp(data: bytes) -> Container:
    chunks: dict[bytes, list[Bytes]] = {}
    exif, at, begins, parts, dropped = Exif(), 12, 0, 0, False
    while at + 8 <= len(data):
        parts += 1
        _check_parts(parts, "WEBP")
        name, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + length
        if name in (b"VP8 ", b"VP8L", b"ALPH", b"VP8X", b"ANIM", b"ANMF"):
            if end > len(data):
                share = (len(data) - at) / (end - at)
                msg = f"The WEBP image did not arrive whole: its data ends after {share:.0%}"
                raise ImageCorrupt(msg)
            chunks.setdefault(name, []).append(memoryview(data)[at + 8 : end])
            begins = at + 8 if name in (b"VP8 ", b"VP8L") else begins
        else:
            dropped = True
            if name == b"EXIF" and end <= len(data):
                exif = read_exif(data[at + 8 : min(end, at + 8 + MAX_EXIF)].removeprefix(EXIF))
            if not name.strip(b"\0"):
                break  # zeros that a preallocated file ends in
        at = end + length % 2
    return _webp_still(data, chunks, begins, exif, dropped)


def _webp_still(
    data: bytes, chunks: dict[bytes, list[Bytes]], begins: int, exif: Exif, dropped: bool
) -> Container:
    if b"ANMF" in chunks or b"ANIM" in chunks:
        raise _still("WEBP")
    pictures = [*chunks.get(b"VP8 ", []), *chunks.get(b"VP8L", [])]
    if len(pictures) != 1 or any(len(bodies) > 1 for bodies in chunks.values()):
        raise _damaged("WEBP", "its list of chunks")
    name = b"VP8L" if b"VP8L" in chunks else b"VP8 "
    picture = pictures[0]
    width, height = _webp_size(bytes(picture[:10]), name)
    extended = bytes(chunks[b"VP8X"][0][:10]) if b"VP8X" in chunks else b""
    if extended and _canvas(extended) != (width, height):
        raise _damaged("WEBP", "its header")
    _check_size(width, height)
    side, size = (WEBP_BLOCK, BYTES_A_BLOCK) if name == b"VP8 " else (1, BYTES_A_PIXEL)
    across, down = -(-width // side), -(-height // side)
    _check_holes(data, begins, begins + len(picture), size * across * down, "WEBP")
    return Container(
        format="WEBP",
        data=_webp(chunks, extended, name) if dropped else data,
        width=width,
        height=height,
        exif=exif,
        plain_from=_plain_from(picture, (across, down), side, size),
    )


def _webp_size(picture: bytes, name: bytes) -> tuple[int, int]:
    """Read the picture's own size, which the canvas has to have, too."""
    if name == b"VP8L" and len(picture) >= 5 and picture[0] == 0x2F:
        bits = int.from_bytes(picture[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if name == b"VP8 " and len(picture) == 10 and picture[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<HH", picture[6:])
        if width & 0x3FFF and height & 0x3FFF:
            return width & 0x3FFF, height & 0x3FFF
    raise _damaged("WEBP", "its header")


def _canvas(extended: bytes) -> tuple[int, int]:
    width, height = extended[4:7], extended[7:10]
    return int.from_bytes(width, "little") + 1, int.from_bytes(height, "little") + 1


def _plain_from(
    picture: Bytes, units: tuple[int, int], side: int, size: int
) -> tuple[int, int] | None:
    """Tell where the part begins that the zeros stand for in which the data ends, left and top.

    Its units, of so many pixels a side and bytes at most, are stored row by row; of a last row
    alone it is what is furthest right.
    """
    if bytes(picture[-ZEROS:]).strip(b"\0"):
        return None
    zeros = len(picture) - len(bytes(picture).rstrip(b"\0"))
    across, down = units
    rows, beside = divmod(zeros // size, across)
    if not rows:
        return side * (across - beside), side * (down - 1)
    return 0, side * max(down - rows, 0)


def _webp(chunks: dict[bytes, list[Bytes]], extended: bytes, name: bytes) -> bytes:
    """Write a file of the picture, and its transparency where it is kept apart."""
    parts: list[Bytes] = []
    if extended:
        parts += _webp_chunk(b"VP8X", bytes([extended[0] & WEBP_ALPHA]) + extended[1:])
    for kept in (b"ALPH", name):
        if kept in chunks:
            parts += _webp_chunk(kept, chunks[kept][0])
    size = 4 + sum(map(len, parts))
    return b"".join([b"RIFF", struct.pack("<I", size), b"WEBP", *parts])


def _webp_chunk(name: bytes, body: Bytes) -> list[Bytes]:
    return [name, struct.pack("<I", len(body)), body, b"\0" * (len(body) % 2)]
