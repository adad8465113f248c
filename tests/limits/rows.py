"""Hostile requests, each built by a few lines: what a stranger can send, kind by kind."""

from __future__ import annotations

import base64
import contextlib
import gzip
import io
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import PIL.Image
from urllib3.filepost import encode_multipart_formdata

from local.processes import HOST
from tests.limits.stage import Function, Prober

AT_ONCE = 8
MAX_PEAK = 1150  # MiB, nine tenths of the pod's
LARGEST = (8192, 6144)
SAMPLE = (Path(__file__).parents[2] / "local/samples/store-17/aisle-4/full.jpg").read_bytes()
PNG, JPEG, JSON = "image/png", "image/jpeg", "application/json"
FORM = "multipart/form-data; boundary=X"
MIB = 2**20


@dataclass(frozen=True)
class Row:
    """A hostile request: its kind, and how one client sends it."""

    kind: str
    name: str
    send: Callable[[Function], list[int]]  # returns the statuses of its answers
    quick: bool = False


@dataclass(frozen=True)
class Report:
    """What became of a row."""

    statuses: list[int]
    peak: int  # MiB
    seconds: float
    slowest_probe: float
    problems: list[str]


def run(function: Function, row: Row, clients: int) -> Report:
    """Run a row with so many clients at a time."""
    worker, kills = function.worker(), function.kills()
    function.forget_peak()
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.extend(row.send(function))) for _ in range(clients)
    ]
    started = time.monotonic()
    with Prober.probing(function.port) as prober:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    seconds, problems = time.monotonic() - started, []
    if function.worker() != worker:
        problems.append("the worker died")
    if function.kills() != kills:
        problems.append("the kernel killed it")
    odd = sorted({status for status in statuses if not (200 <= status < 500 or status == 503)})
    if odd:
        problems.append(f"answered {odd}")
    peak = function.peak()
    if peak > MAX_PEAK:
        problems.append(f"took {peak} MiB")
    return Report(statuses, peak, seconds, prober.slowest, problems)


# --- pictures ---


def saved(picture: PIL.Image.Image, kind: str, **options: object) -> bytes:
    """Encode a picture."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


BUILDING = threading.Lock()


@cache
def plain(kind: str, mode: str = "RGB", **options: object) -> bytes:
    """Encode one colour in the largest size."""
    return saved(
        PIL.Image.new(mode, LARGEST, 99 if mode in ("L", "P", "I;16") else None), kind, **options
    )


@cache
def noise(kind: str, side: int = 2000, **options: object) -> bytes:
    """Encode noise, which no encoder can make small."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    return saved(PIL.Image.fromarray(pixels), kind, **options)


def png_chunk(name: bytes, body: bytes) -> bytes:
    """Write one chunk of a PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


@cache
def png_with(*chunks: bytes) -> bytes:
    """Put chunks behind the header of a small PNG."""
    png = saved(PIL.Image.new("RGB", (64, 48)), "PNG")
    return png[:33] + b"".join(chunks) + png[33:]


def png_claim(width: int, height: int, bits: int = 8, colour: int = 2) -> bytes:
    """Claim a size that the data does not have."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            png_chunk(b"IHDR", header),
            png_chunk(b"IDAT", zlib.compress(bytes(999))),
            png_chunk(b"IEND", b""),
        ]
    )


@cache
def png_of_two_sizes() -> bytes:
    """Claim a small size, then a large one whose data is there."""
    small, side = png_claim(64, 48)[:33], 9000
    header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    data = png_chunk(b"IDAT", zlib.compress(bytes((4 * side + 1) * side), 1))
    return small + png_chunk(b"IHDR", header) + data + png_chunk(b"IEND", b"")


def webp_claim(width: int, height: int) -> bytes:
    """Claim a size in 38 bytes."""
    picture = b"\x2f" + struct.pack("<I", width - 1 | height - 1 << 14) + bytes(5)
    chunks = b"VP8L" + struct.pack("<I", len(picture)) + picture
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def segment(marker: int, body: bytes) -> bytes:
    """Write one segment of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


@cache
def jpeg_with(*segments: bytes, times: int = 1) -> bytes:
    """Put segments before the picture of the sample."""
    return SAMPLE[:2] + b"".join(segments) * times + SAMPLE[2:]


@cache
def one_scan_a_component() -> bytes:
    """A sequential JPEG of the largest size whose components come one after another."""
    return jpeg_of_scans([bytes([1, c, 0, 0, 63, 0]) for c in (1, 2, 3)], 0xC0)


@cache
def many_scans(count: int, size: tuple[int, int] = LARGEST) -> bytes:
    """A progressive JPEG that says the same again and again."""
    return jpeg_of_scans([bytes([1, 1, 0, 0, 0, 0])] * count, 0xC2, size)


def jpeg_of_scans(
    scans: list[bytes], frame: int, size: tuple[int, int] = LARGEST, data: bytes = bytes(64)
) -> bytes:
    """Write a JPEG by hand: its tables, a frame of three components, scans of a few zeros."""
    sof = struct.pack(">BHHB", 8, size[1], size[0], 3) + bytes([1, 17, 0, 2, 17, 0, 3, 17, 0])
    codes = bytes([1] + [0] * 15) + b"\0"
    head = segment(0xDB, b"\0" + b"\1" * 64) + segment(frame, sof)
    head += segment(0xC4, b"\0" + codes) + segment(0xC4, b"\x10" + codes)
    return b"\xff\xd8" + head + b"".join(segment(0xDA, s) + data for s in scans) + b"\xff\xd9"


def tiny_exif(times: int) -> bytes:
    """Exif in as many segments, which one library adds up."""
    return jpeg_with(segment(0xE1, b"Exif\0\0" + bytes(20)), times=times)


# --- requests ---


def built(make: Callable[[], bytes]) -> bytes:
    """Build a body, of those at once the first: the others find it in the cache."""
    with BUILDING:
        return make()


def image(
    data: Callable[[], bytes], accept: str = JSON, query: str = ""
) -> Callable[[Function], list[int]]:
    """Send an image as a body."""
    return lambda function: [
        function.post(built(data), "image/*", "/predict" + query, Accept=accept)
    ]


def form(*parts: tuple[str, Callable[[], bytes]]) -> Callable[[Function], list[int]]:
    """Send a form of files."""

    def send(function: Function) -> list[int]:
        files = [(name, (name, make())) for name, make in parts]
        body, content_type = encode_multipart_formdata(files)
        return [function.post(body, content_type)]

    return send


def text(
    body: Callable[[], bytes], path: str = "/predict", content_type: str = JSON
) -> Callable[[Function], list[int]]:
    """Send JSON, or what is to look like it."""
    return lambda function: [function.post(body(), content_type, path)]


def raw(data: Callable[[], bytes]) -> Callable[[Function], list[int]]:
    """Send bytes as they are."""

    def send(function: Function) -> list[int]:
        body = built(data)
        with socket.create_connection((HOST, function.port), timeout=120) as peer:
            with contextlib.suppress(ConnectionError):
                peer.sendall(body)
            words = peer.makefile("rb").readline().split()
            return [int(words[1]) if words else 0]

    return send


@cache
def one_byte_a_chunk() -> bytes:
    """Send a mebibyte in a million chunks."""
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * MIB + b"0\r\n\r\n"


@cache
def long_accept() -> bytes:
    """Send a small picture with all the headers that gunicorn takes."""
    accept = b"Accept: " + b"a/b;q=1," * 1000 + b"\r\n"
    body = saved(PIL.Image.new("RGB", (64, 48)), "PNG")
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    return head + accept * 90 + b"Content-Length: %d\r\n\r\n" % len(body) + body


@cache
def twenty(pattern: bytes) -> bytes:
    """Fill a body."""
    return pattern * (20 * MIB // len(pattern))


def slots(boxes: np.ndarray, **fields: object) -> bytes:
    """Write a planogram."""
    return json.dumps(
        {"slots": [{"xyxy": [round(edge, 4) for edge in box], **fields} for box in boxes.tolist()]}
    ).encode()


def equal_slots(count: int) -> bytes:
    """The same slot again and again."""
    return slots(np.tile([0.1, 0.1, 0.5, 0.5], (count, 1)))


def near_slots(count: int) -> bytes:
    """Slots that all overlap each other."""
    shift = np.random.default_rng(1).uniform(-0.05, 0.05, (count, 4))
    return slots(np.array([0.1, 0.1, 0.6, 0.6]) + shift)


def whole_slots(count: int) -> bytes:
    """Slots that take any product anywhere."""
    shift = np.random.default_rng(1).uniform(0, 0.01, (count, 4))
    return slots(np.array([0.0, 0.0, 0.98, 0.98]) + shift)


@cache
def with_reference(reference: bytes) -> tuple[bytes, str]:
    """Send the sample with a reference."""
    return encode_multipart_formdata(
        [("file", ("a.jpg", SAMPLE)), ("reference", ("r.json", reference))]
    )


def compared(reference: Callable[[], bytes]) -> Callable[[Function], list[int]]:
    """Send a reference along."""
    return lambda function: [function.post(*with_reference(reference()))]


def b64(data: bytes) -> bytes:
    """Write an image into JSON."""
    return b'{"image": {"b64": "' + base64.b64encode(data) + b'"}}'


@cache
def gzip_bomb() -> bytes:
    """Pack zeros: a thousand times their size."""
    return gzip.compress(bytes(512 * MIB), 9)


@cache
def profile_bomb() -> bytes:
    """Write a colour profile of zeros: a thousand times its size."""
    return png_with(png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(256 * MIB), 9)))


def part(head: bytes = b"", body: bytes = b"") -> Callable[[Function], list[int]]:
    """Send a form by hand: one part with some headers more, and its body."""
    name = b'Content-Disposition: form-data; name="file"\r\n'
    form = b"--X\r\n" + name + head + b"\r\n" + body + b"\r\n--X--\r\n"
    return text(lambda: form, content_type=FORM)


@cache
def restarts() -> bytes:
    """A progressive JPEG of restart markers, after as many units as there are none of."""
    return jpeg_of_scans([bytes([1, 1, 0, 0, 0, 0])], 0xC2, (64, 48), twenty(b"\xff\xd0")).replace(
        b"\xff\xda", segment(0xDD, b"\xff\xff") + b"\xff\xda", 1
    )


# --- slow ones ---


def connected(function: Function, count: int, first: bytes) -> list[socket.socket]:
    """Open connections that send so much and wait."""
    peers = []
    for _ in range(count):
        with contextlib.suppress(OSError):
            peer = socket.create_connection((HOST, function.port), timeout=10)
            peer.sendall(first)
            peers.append(peer)
    return peers


def held(
    count: int, first: bytes, seconds: float, drip: bytes = b""
) -> Callable[[Function], list[int]]:
    """Hold connections open, with a few bytes a second; each may be answered or closed."""

    def send(function: Function) -> list[int]:
        peers = connected(function, count // AT_ONCE, first)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.5)
            for peer in peers if drip else ():
                with contextlib.suppress(OSError):
                    peer.sendall(drip)
        for peer in peers:
            peer.close()
        return []

    return send


def slow_reader(data: Callable[[], bytes], seconds: float) -> Callable[[Function], list[int]]:
    """Ask for a drawn picture and take none of it."""

    def send(function: Function) -> list[int]:
        body = data()
        with socket.socket() as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.connect((HOST, function.port))
            peer.sendall(
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\nAccept: image/png\r\n"
                b"Content-Type: image/png\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
            time.sleep(seconds)
        return []

    return send


HEAD = (
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\n"
    b"Content-Length: 20000000\r\n"
)

ROWS = [
    Row(
        "drawn",
        "transparent WebP of 50 MP",
        image(lambda: plain("WEBP", "RGBA", lossless=True), PNG),
    ),
    Row("drawn", "opaque WebP of 50 MP", image(lambda: plain("WEBP"), JPEG)),
    Row("drawn", "transparent PNG of 50 MP", image(lambda: plain("PNG", "RGBA"), PNG)),
    Row("drawn", "grey PNG with alpha of 50 MP", image(lambda: plain("PNG", "LA"), PNG)),
    Row("drawn", "palette PNG of 50 MP", image(lambda: plain("PNG", "P"), JPEG)),
    Row("drawn", "CMYK JPEG of 50 MP", image(lambda: plain("JPEG", "CMYK"), JPEG)),
    Row("drawn", "progressive JPEG of 50 MP", image(lambda: plain("JPEG", progressive=True), PNG)),
    Row("drawn", "noise of 4 MP as PNG", image(lambda: noise("PNG"), PNG)),
    Row("slow reader", "of a drawn picture of 50 MP", slow_reader(lambda: plain("PNG"), 5)),
    Row("slow reader", "of drawn noise", slow_reader(lambda: noise("PNG"), 5)),
    Row("reference", "3 000 equal slots", compared(lambda: equal_slots(3000)), quick=True),
    Row("reference", "1 500 equal slots", compared(lambda: equal_slots(1500))),
    Row("reference", "1 500 slots on each other", compared(lambda: near_slots(1500))),
    Row("reference", "1 500 slots of the whole shelf", compared(lambda: whole_slots(1500))),
    Row(
        "reference",
        "long labels",
        compared(lambda: slots(np.tile([0.1, 0.1, 0.5, 0.5], (9, 1)), label="x" * 100_000)),
    ),
    Row("reference", "a mebibyte of brackets", compared(lambda: b"[" * (MIB - 9))),
    Row(
        "reference",
        "a mebibyte of slots",
        compared(lambda: b'{"slots":[' + b"{}," * 300_000 + b"{}]}"),
    ),
    Row(
        "boxes",
        "3 000 of one shelf, none suppressed",
        image(lambda: SAMPLE, query="?confidence=0.001&iou=1&max_detections=3000"),
    ),
    Row(
        "metadata",
        "PNG with 64 text bombs",
        image(
            lambda: png_with(
                png_chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(64 * MIB), 9)) * 64
            )
        ),
        quick=True,
    ),
    Row(
        "metadata",
        "PNG with a profile bomb",
        image(profile_bomb),
        quick=True,
    ),
    Row(
        "metadata",
        "PNG of 6 000 chunks",
        image(lambda: png_with(png_chunk(b"tEXt", b"a\0b") * 6000)),
    ),
    Row(
        "metadata",
        "JPEG of 4 000 segments",
        image(lambda: jpeg_with(segment(0xE5, b""), times=4000)),
    ),
    Row(
        "metadata",
        "JPEG of 4 million segments",
        image(lambda: jpeg_with(segment(0xE5, b""), times=4_000_000)),
    ),
    Row("metadata", "JPEG of 300 000 Exif segments", image(lambda: tiny_exif(300_000)), quick=True),
    Row(
        "metadata",
        "JPEG of 20 MiB of comments",
        image(lambda: jpeg_with(segment(0xFE, bytes(65_000)), times=300)),
    ),
    Row(
        "metadata",
        "JPEG of profiles",
        image(lambda: jpeg_with(segment(0xE2, b"ICC_PROFILE\0\1\1" + bytes(65_000)), times=300)),
    ),
    Row(
        "metadata",
        "JPEG of tables",
        image(lambda: jpeg_with(segment(0xDB, (b"\0" + b"\1" * 64) * 900), times=300)),
    ),
    Row(
        "metadata",
        "Exif of 5 000 tags",
        image(
            lambda: jpeg_with(
                segment(
                    0xE1,
                    b"Exif\0\0II*\0\x08\0\0\0\xff\xff"
                    + struct.pack("<HHII", 0x9286, 2, 60_000, 8) * 5000,
                )
            )
        ),
    ),
    Row("scans", "one a component, 50 MP", image(one_scan_a_component)),
    Row("scans", "one a component, drawn", image(one_scan_a_component, PNG)),
    Row("scans", "500 of 50 MP", image(lambda: many_scans(500)), quick=True),
    Row("scans", "100 of 1 MP", image(lambda: many_scans(100, (1024, 1024)))),
    Row("scans", "20 MiB of restart markers", image(restarts), quick=True),
    Row(
        "scans",
        "20 MiB of stuffed bytes",
        image(lambda: SAMPLE[:-2] + twenty(b"\xff\0") + b"\xff\xd9"),
    ),
    Row("scans", "progressive of 50 MP", image(lambda: plain("JPEG", progressive=True))),
    Row(
        "claims", "WebP of 268 MP in 38 bytes", image(lambda: webp_claim(16383, 16383)), quick=True
    ),
    Row("claims", "WebP of 50 MP in 38 bytes", image(lambda: webp_claim(*LARGEST))),
    Row("claims", "PNG of 64 x 48, then of 81 MP", image(png_of_two_sizes), quick=True),
    Row("claims", "PNG of 4 terapixels", image(lambda: png_claim(2**31 - 1, 2048)), quick=True),
    Row("claims", "PNG of 50 MP in 100 bytes", image(lambda: png_claim(*LARGEST))),
    Row(
        "claims",
        "16-bit PNG of 50 MP in 100 bytes",
        image(lambda: png_claim(*LARGEST, bits=16, colour=6)),
    ),
    Row(
        "claims", "PNG of 1 x 50 million", image(lambda: png_claim(1, 50_000_000, bits=1, colour=0))
    ),
    Row("pictures", "WebP of 50 MP", image(lambda: plain("WEBP"))),
    Row("pictures", "16-bit PNG of 50 MP", image(lambda: plain("PNG", "I;16"))),
    Row("JSON", '20 MiB of {"a":0}', text(lambda: b"[" + twenty(b'{"a":0},') + b"0]"), quick=True),
    Row("JSON", "20 MiB of long numbers", text(lambda: b"[" + twenty(b"9" * 600 + b",") + b"0]")),
    Row("JSON", "20 MiB of empty lists", text(lambda: b"[" + twenty(b"[],") + b"0]")),
    Row("JSON", "20 MiB of brackets", text(lambda: twenty(b"["))),
    Row(
        "JSON",
        "one text of 20 MiB",
        text(lambda: b'{"image": {"b64": "' + twenty(b"A")[:-50] + b'"}}'),
    ),
    Row("JSON", "an image of 15 MB in base64", text(lambda: b64(noise("PNG", 2200)))),
    Row(
        "JSON",
        "an image of 14 MB in lines of base64",
        text(
            lambda: json.dumps(
                {"image": {"b64": base64.encodebytes(noise("PNG", 2100)).decode()}}
            ).encode()
        ),
    ),
    Row(
        "v2",
        '20 MiB of {"a":0}',
        text(lambda: b"[" + twenty(b'{"a":0},') + b"0]", "/v2/models/shelf/infer"),
    ),
    Row(
        "events",
        '20 MiB of {"a":0}',
        text(lambda: b"[" + twenty(b'{"a":0},') + b"0]", "/", "application/cloudevents+json"),
    ),
    Row(
        "events",
        "20 MiB of a batch",
        text(lambda: b"[" + twenty(b"{},") + b"{}]", "/", "application/cloudevents-batch+json"),
    ),
    Row(
        "forms",
        "20 MiB with a WebP of 50 MP",
        form(("file", lambda: plain("WEBP") + bytes(19 * MIB))),
    ),
    Row("forms", "10 large pictures", form(*[("file", lambda: plain("JPEG", quality=10))] * 10)),
    Row("forms", "20 MiB in one part", form(("file", lambda: twenty(b"\xff\xd8\xff")))),
    Row("forms", "20 MiB of headers of a part", part(head=b"a:\r\n" * (5 * MIB)), quick=True),
    Row("forms", "20 MiB of names of a part", part(head=b"X" + b";a=b" * (5 * MIB) + b":\r\n")),
    Row("forms", "20 MiB of near boundaries", part(body=b"\r\n--" * (5 * MIB)), quick=True),
    Row("forms", "20 MiB before the first part", text(lambda: twenty(b"--X "), content_type=FORM)),
    Row("headers", "90 that say what is welcome", raw(long_accept)),
    Row("chunks", "a mebibyte, byte by byte", raw(one_byte_a_chunk)),
    Row(
        "compressed",
        "512 MiB in half a MiB of gzip",
        lambda f: [f.post(built(gzip_bomb), JPEG, Content_Encoding="gzip")],
        quick=True,
    ),
    Row("silent", "1 000 connections", held(1000, b"", 5), quick=True),
    Row("slow headers", "64 connections", held(64, b"POST /predict HTTP/1.1\r\nX: ", 8, b"x")),
    Row(
        "slow headers",
        "64 of long headers",
        held(64, b"POST /predict HTTP/1.1\r\nX: " + b"x" * 20_000, 8, b"x"),
    ),
    Row("slow bodies", "64 connections", held(64, HEAD + b"\r\n", 8, b"x")),
    Row(
        "slow bodies",
        "64 in chunks",
        held(
            64,
            HEAD.replace(b"Content-Length: 20000000", b"Transfer-Encoding: chunked") + b"\r\n",
            8,
            b"1\r\nx\r\n",
        ),
    ),
]
