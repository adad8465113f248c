"""What may come in over HTTP, as one table: each odd image and request has its own answer.

Real gunicorn, real sockets; one process for the module, which must be the same process at the end.
"""

import base64
import contextlib
import http.client
import io
import json
import os
import random
import socket
import struct
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.features
import PIL.Image
import pytest
import urllib3
from conftest import GOOD_SAMPLE, free_port
from urllib3.filepost import encode_multipart_formdata

from function.exif import ORIENTATION
from function.image import MAX_IMAGE_BYTES
from function.inputs import MAX_BODY_BYTES, MAX_FORM_PARTS
from function.session import available_threads
from local.aws import aws_env
from local.processes import Child
from local.stack import running_function

requests = pytest.importorskip("requests", reason="no requests in this environment")

SAMPLE = GOOD_SAMPLE.read_bytes()
JPEG = "image/jpeg"


@dataclass(frozen=True, kw_only=True)
class Service:
    """The function, as its callers see it."""

    url: str
    port: int
    child: Child
    pool: urllib3.PoolManager

    def post(
        self, body: bytes | Iterator[bytes], content_type: str = JPEG, query: str = ""
    ) -> urllib3.BaseHTTPResponse:
        headers = {"content-type": content_type} if content_type else {}
        return self.pool.request("POST", f"{self.url}/predict{query}", body=body, headers=headers)

    def send(self, data: bytes, seconds: float = 10) -> bytes:
        """Send bytes as they are, and return all that comes back until the other end closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as peer:
            peer.sendall(data)
            peer.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: peer.recv(65536), b""))

    def resident_bytes(self) -> int:
        """Sum the memory of gunicorn and its worker."""
        own = self.child.process.pid
        children = Path(f"/proc/{own}/task/{own}/children").read_text().split()
        fields = [Path(f"/proc/{pid}/statm").read_text().split() for pid in (own, *children)]
        return sum(int(field[1]) for field in fields) * 4096


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    port = free_port()
    logs = tmp_path_factory.mktemp("logs")
    with running_function(port, aws_env("http://127.0.0.1:9"), logs) as (url, child):
        if available_threads()[0] > 1:  # its second session would count as memory left behind
            log = logs / "function.log"
            child.wait_until(lambda: "model.ready_for_crowds" in log.read_text(), 60)
        worker = Path(f"/proc/{child.process.pid}/task/{child.process.pid}/children").read_text()
        yield Service(
            url=url, port=port, child=child, pool=urllib3.PoolManager(retries=False, timeout=30)
        )
        child.check()
        same = Path(f"/proc/{child.process.pid}/task/{child.process.pid}/children").read_text()
        assert same == worker, "a worker died on the way"
        assert '"level": "error"' not in (logs / "function.log").read_text()


def saved(picture: PIL.Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def plain(mode: str = "RGB", size: tuple[int, int] = (64, 48), color: Any = 128) -> PIL.Image.Image:
    return PIL.Image.new(mode, size, color)


def sample() -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(SAMPLE))


def turned(orientation: int, kind: str = "JPEG") -> bytes:
    exif = PIL.Image.Exif()
    exif[ORIENTATION] = orientation
    return saved(plain(size=(96, 48)), kind, exif=exif)


def animation(kind: str) -> bytes:
    return saved(plain(color="red"), kind, save_all=True, append_images=[plain(color="blue")])


def claim(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its few bytes do not hold."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def palette_with_transparency() -> bytes:
    return saved(sample().convert("P"), "PNG", transparency=0)


def sixteen_bit_grey() -> bytes:
    grey = np.asarray(sample().convert("L")).astype(np.uint16) * 257
    return saved(PIL.Image.fromarray(grey), "PNG")


def sixteen_bits_of(bits: int) -> bytes:
    """A grey PNG of 16 bits a sample from a camera of fewer."""
    grey = np.asarray(sample().convert("L")).astype(np.uint16) << (bits - 8)
    return saved(PIL.Image.fromarray(grey), "PNG")


def spliced(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    return data.replace(old, new, 1)


def with_exif(kind: int = 3, count: int = 1, value: int = 6) -> bytes:
    """The sample with an orientation tag of any type and count."""
    number = struct.pack(">HH" if kind == 3 else ">I", value, *([0] if kind == 3 else []))
    tiff = b"MM\0*\0\0\0\x08\0\x01" + struct.pack(">HHI", 0x0112, kind, count) + number + b"\0" * 4
    body = b"Exif\0\0" + tiff
    return SAMPLE[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + SAMPLE[2:]


XMP_BODY = (
    b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF xmlns:rdf="
    b"'http://www.w3.org/1999/02/22-rdf-syntax-ns#'><rdf:Description xmlns:tiff="
    b"'http://ns.adobe.com/tiff/1.0/' tiff:Orientation='6'/></rdf:RDF></x:xmpmeta>"
)
XMP = b"\xff\xe1" + struct.pack(">H", len(XMP_BODY) + 2) + XMP_BODY


def with_chunk(name: bytes, body: bytes, checksum: bytes = b"", times: int = 1) -> bytes:
    """The sample as a PNG with chunks behind its header."""
    png = saved(sample(), "PNG", compress_level=1)
    end = checksum or struct.pack(">I", zlib.crc32(name + body))
    return png[:33] + (struct.pack(">I", len(body)) + name + body + end) * times + png[33:]


def webp_claim(width: int, height: int) -> bytes:
    """A WebP whose header claims a size that its few bytes do not hold."""
    picture = b"\x2f" + struct.pack("<I", width - 1 | (height - 1) << 14) + b"\0" * 5
    chunks = b"VP8L" + struct.pack("<I", len(picture)) + picture
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 100
HUGE_ICC = {"icc_profile": b"\0" * 200_000}

# name, bytes, status, "problem: its detail" or (width, height)
IMAGES: list[tuple[str, Callable[[], bytes], int, str | tuple[int, int]]] = [
    *((f"exif-{n}", lambda n=n: turned(n), 200, (96, 48)) for n in range(1, 5)),
    *((f"exif-{n}", lambda n=n: turned(n), 200, (48, 96)) for n in range(5, 9)),
    ("exif-9-is-ignored", lambda: turned(9), 200, (96, 48)),
    ("exif-6-in-png", lambda: turned(6, "PNG"), 200, (48, 96)),
    ("exif-6-in-webp", lambda: turned(6, "WEBP"), 200, (48, 96)),
    ("exif-is-garbage", lambda: saved(plain(), exif=b"Exif\0\0" + b"\xff" * 40), 200, (64, 48)),
    (
        "jpeg-half",
        lambda: SAMPLE[: len(SAMPLE) // 2],
        422,
        (
            "image-corrupt: The JPEG image cannot be decoded: it is truncated or damaged, its"
            " data ends at 47% of the height"
        ),
    ),
    (
        "jpeg-99-percent",
        lambda: SAMPLE[: len(SAMPLE) * 99 // 100],
        422,
        (
            "image-corrupt: The JPEG image cannot be decoded: it is truncated or damaged, its"
            " data ends at 97% of the height"
        ),
    ),
    ("jpeg-without-its-last-2-bytes", lambda: SAMPLE[:-2], 200, (1080, 810)),
    (
        "jpeg-half-and-zeros",
        lambda: SAMPLE[:60_000] + b"\0" * 60_000,
        422,
        (
            "image-corrupt: The JPEG image cannot be decoded: it is truncated or damaged, its"
            " data ends at 29% of the height"
        ),
    ),
    (
        "jpeg-half-and-an-end",
        lambda: SAMPLE[:60_000] + b"\xff\xd9",
        422,
        (
            "image-corrupt: The JPEG image cannot be decoded: it is truncated or damaged, its"
            " data ends at 29% of the height"
        ),
    ),
    ("jpeg-and-zeros", lambda: SAMPLE + b"\0" * 10_000, 200, (1080, 810)),
    (
        "jpeg-head-alone",
        lambda: SAMPLE[:3],
        422,
        ("image-corrupt: The JPEG image cannot be decoded: its header is truncated or damaged"),
    ),
    (
        "jpeg-of-12-bits",
        lambda: spliced(SAMPLE, b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c"),
        415,
        (
            "image-unsupported: The JPEG image must be baseline or progressive, Huffman-"
            "coded, of 8 bits a sample, got SOF1 of 12 bits"
        ),
    ),
    (
        "jpeg-with-an-empty-jfif",
        lambda: SAMPLE[:2] + b"\xff\xe0\0\x07JFIF\0" + SAMPLE[20:],
        200,
        (1080, 810),
    ),
    (
        "jpeg-of-tiny-segments",
        lambda: SAMPLE[:2] + b"\xff\xe5\0\x02" * 4000 + SAMPLE[2:],
        200,
        (1080, 810),
    ),
    (
        "jpeg-of-too-many-segments",
        lambda: SAMPLE[:2] + b"\xff\xe5\0\x02" * 6000 + SAMPLE[2:],
        413,
        ("image-too-large: The JPEG image must have at most 5000 segments or chunks, got more"),
    ),
    ("exif-of-type-long", lambda: with_exif(kind=4), 200, (1080, 810)),
    ("exif-with-two-values", lambda: with_exif(count=2), 200, (1080, 810)),
    ("exif-by-hand", lambda: with_exif(), 200, (810, 1080)),
    ("orientation-in-xmp-alone", lambda: SAMPLE[:2] + XMP + SAMPLE[2:], 200, (1080, 810)),
    (
        "png-with-a-large-profile",
        lambda: saved(sample(), "PNG", icc_profile=random.Random(1).randbytes(2 * 2**20)),
        200,
        (1080, 810),
    ),
    (
        "png-with-a-bad-checksum-in-a-text",
        lambda: with_chunk(b"tEXt", b"a\0b", checksum=b"oops"),
        200,
        (1080, 810),
    ),
    (
        "png-with-text-bombs",
        lambda: with_chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(b"\0" * 10**7)),
        200,
        (1080, 810),
    ),
    (
        "png-of-too-many-chunks",
        lambda: with_chunk(b"tEXt", b"a\0b", times=6000),
        413,
        ("image-too-large: The PNG image must have at most 5000 segments or chunks, got more"),
    ),
    ("png-without-its-end", lambda: saved(sample(), "PNG")[:-12], 200, (1080, 810)),
    ("50-mp-phone", lambda: saved(plain("L", (8192, 6144)), quality=20), 200, (8192, 6144)),
    (
        "webp-of-38-bytes",
        lambda: webp_claim(16383, 16383),
        413,
        "image-too-large: The image must have at most 50331648 pixels, got 16383 x 16383",
    ),
    ("webp-and-a-trailer", lambda: saved(sample(), "WEBP") + b"trailer" * 9, 200, (1080, 810)),
    (
        "webp-with-a-profile",
        lambda: saved(sample(), "WEBP", icc_profile=b"\0" * 9999),
        200,
        (1080, 810),
    ),
    ("progressive", lambda: saved(sample(), progressive=True), 200, (1080, 810)),
    (
        "progressive-half",
        lambda: saved(sample(), progressive=True)[:40_000],
        422,
        ("image-corrupt: The JPEG image did not arrive whole: scans that refine it are missing"),
    ),
    (
        "png-truncated",
        lambda: saved(sample(), "PNG")[:-4000],
        422,
        "image-corrupt: The PNG image cannot be decoded: it is truncated or damaged",
    ),
    (
        "webp-truncated",
        lambda: saved(sample(), "WEBP")[:-4000],
        422,
        "image-corrupt: The WEBP image did not arrive whole: its data ends after 97%",
    ),
    ("cmyk", lambda: saved(sample().convert("CMYK")), 200, (1080, 810)),
    ("grey", lambda: saved(sample().convert("L")), 200, (1080, 810)),
    ("grey-with-alpha", lambda: saved(sample().convert("LA"), "PNG"), 200, (1080, 810)),
    ("one-bit", lambda: saved(sample().convert("1"), "PNG"), 200, (1080, 810)),
    ("palette-with-transparency", palette_with_transparency, 200, (1080, 810)),
    ("wholly-transparent", lambda: saved(plain("RGBA", color=(9, 9, 9, 0)), "PNG"), 200, (64, 48)),
    ("16-bit-grey", sixteen_bit_grey, 200, (1080, 810)),
    (
        "animated-gif",
        lambda: animation("GIF"),
        415,
        ("image-unsupported: The image must be one of JPEG, PNG, WEBP, got GIF; export it as JPEG"),
    ),
    (
        "animated-webp",
        lambda: animation("WEBP"),
        415,
        "image-unsupported: The WEBP image must be a still, and is animated",
    ),
    (
        "animated-png",
        lambda: animation("PNG"),
        415,
        "image-unsupported: The PNG image must be a still, and is animated",
    ),
    (
        "tiff",
        lambda: saved(plain(), "TIFF"),
        415,
        (
            "image-unsupported: The image must be one of JPEG, PNG, WEBP, got TIFF or a "
            "camera's raw file; choose JPEG in the camera, or export it as JPEG"
        ),
    ),
    (
        "bmp",
        lambda: saved(plain(), "BMP"),
        415,
        ("image-unsupported: The image must be one of JPEG, PNG, WEBP, got BMP; export it as JPEG"),
    ),
    (
        "heic",
        lambda: HEIC,
        415,
        (
            "image-unsupported: The image must be one of JPEG, PNG, WEBP, got HEIC; on an "
            "iPhone choose Settings > Camera > Formats > Most Compatible, or export it as "
            "JPEG"
        ),
    ),
    (
        "avif",
        lambda: saved(plain(), "AVIF") if PIL.features.check("avif") else HEIC,
        415,
        (
            "image-unsupported: The image must be one of JPEG, PNG, WEBP, got AVIF; export it"
            " as JPEG"
        ),
    ),
    ("empty", lambda: b"", 400, "image-empty: The image must have bytes, got none"),
    (
        "html",
        lambda: b"<!doctype html><html></html>",
        415,
        (
            "image-unsupported: The image must be one of JPEG, PNG, WEBP, got HTML, SVG or "
            "other text; send the photo itself"
        ),
    ),
    (
        "svg",
        lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        415,
        (
            "image-unsupported: The image must be one of JPEG, PNG, WEBP, got HTML, SVG or "
            "other text; send the photo itself"
        ),
    ),
    (
        "zeros",
        lambda: b"\0" * 1000,
        415,
        (
            "image-unsupported: The image must be one of JPEG, PNG, WEBP, got zeros; its "
            "upload has not begun: send it again"
        ),
    ),
    (
        "bomb-225-mp",
        lambda: claim(15_000, 15_000),
        413,
        "image-too-large: The image must have at most 50331648 pixels, got 15000 x 15000",
    ),
    (
        "bomb-4-terapixels",
        lambda: claim(2**31 - 1, 2048),
        413,
        (
            "image-too-large: The image's sides must have at most 65535 pixels, got "
            "2147483647 x 2048"
        ),
    ),
    (
        "a-little-too-many-pixels",
        lambda: claim(8192, 6145),
        413,
        "image-too-large: The image must have at most 50331648 pixels, got 8192 x 6145",
    ),
    (
        "png-of-two-sizes",
        lambda: claim(64, 48)[:33] + claim(13_000, 13_000)[8:],
        422,
        "image-corrupt: The PNG image cannot be decoded: its header is truncated or damaged",
    ),
    (
        "pixels-that-are-not-there",
        lambda: claim(8192, 6144),
        422,
        "image-corrupt: The PNG image cannot be decoded: it is truncated or damaged",
    ),
    (
        "no-width",
        lambda: claim(0, 10),
        422,
        ("image-corrupt: The PNG image cannot be decoded: its header is truncated or damaged"),
    ),
    (
        "too-many-bytes",
        lambda: b"\xff\xd8" + b"\0" * MAX_IMAGE_BYTES,
        413,
        "image-too-large: The image must have at most 20971520 bytes, got 20971522",
    ),
    ("1x1", lambda: saved(plain(size=(1, 1)), "PNG"), 200, (1, 1)),
    ("1x5000", lambda: saved(plain(size=(1, 5000)), "PNG"), 200, (1, 5000)),
    ("5000x1", lambda: saved(plain(size=(5000, 1)), "PNG"), 200, (5000, 1)),
    ("5000x1-jpeg", lambda: saved(plain(size=(5000, 1))), 200, (5000, 1)),
    ("all-white", lambda: saved(plain(color="white", size=(640, 640))), 200, (640, 640)),
    ("all-black", lambda: saved(plain(color="black", size=(640, 640))), 200, (640, 640)),
    ("24-mp", lambda: saved(plain(size=(6000, 4000))), 200, (6000, 4000)),
    ("large-profile", lambda: saved(plain(), "JPEG", **HUGE_ICC), 200, (64, 48)),
    ("bytes-after-the-end", lambda: SAMPLE + b"<script>" * 100, 200, (1080, 810)),
]


@pytest.mark.parametrize(
    ("make", "status", "outcome"), [row[1:] for row in IMAGES], ids=[row[0] for row in IMAGES]
)
def test_each_image_has_its_answer(
    service: Service, make: Callable[[], bytes], status: int, outcome: str | tuple[int, int]
) -> None:
    response = service.post(make())
    body = json.loads(response.data)
    assert response.status == status, body
    if isinstance(outcome, str):
        assert response.headers["content-type"] == "application/problem+json"
        problem, _, detail = outcome.partition(": ")
        assert body["type"] == f"urn:shelfwatch:problem:{problem}"
        assert body["detail"] == detail
    else:
        assert (body["image"]["width"], body["image"]["height"]) == outcome
        for found in body["detections"]:
            left, top, right, bottom = found["xyxy"]
            assert 0 <= left < right <= outcome[0]
            assert 0 <= top < bottom <= outcome[1]


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: saved(sample().convert("CMYK"), quality=95), id="cmyk"),
        pytest.param(palette_with_transparency, id="palette"),
        pytest.param(sixteen_bit_grey, id="16-bit-grey"),
        pytest.param(lambda: sixteen_bits_of(12), id="12-bit-grey"),
        pytest.param(lambda: saved(sample(), "WEBP", quality=95), id="webp"),
    ],
)
def test_a_shelf_is_a_shelf_in_every_mode(service: Service, make: Callable[[], bytes]) -> None:
    """Not inverted, not clipped to white: about as many products are found as in the original."""
    expected = json.loads(service.post(SAMPLE).data)["count"]
    assert json.loads(service.post(make()).data)["count"] == pytest.approx(expected, rel=0.2)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def image_json(**fields: object) -> bytes:
    return json.dumps({"image": fields}).encode()


def form(*parts: tuple[str, Any]) -> tuple[bytes, str]:
    return encode_multipart_formdata(list(parts))


def form_text(text: bytes) -> tuple[bytes, str]:
    return text.replace(b"\n", b"\r\n"), "multipart/form-data; boundary=X"


TINY = saved(plain())
FILE = ("a.jpg", TINY, JPEG)
# name, (body, content type), query, status, words of the answer
REQUESTS: list[tuple[str, tuple[bytes, str], str, int, str]] = [
    (
        "no-content-type",
        (TINY, ""),
        "",
        415,
        "must be multipart/form-data, application/json, image/* or application/octet-stream",
    ),
    ("text", (TINY, "text/plain"), "", 415, "'text/plain'"),
    ("urlencoded", (TINY, "application/x-www-form-urlencoded"), "", 415, "urlencoded"),
    ("png-called-jpeg", (saved(plain(), "PNG"), JPEG), "", 200, ""),
    ("jpeg-called-svg", (TINY, "image/svg+xml"), "", 200, ""),
    ("with-parameters", (TINY, "image/jpeg; charset=x"), "", 200, ""),
    ("base64", (image_json(b64=b64(TINY)), "application/json"), "", 200, ""),
    (
        "base64-data-uri",
        (image_json(b64="data:image/jpeg;base64," + b64(TINY)), "application/json"),
        "",
        200,
        "",
    ),
    (
        "base64-with-line-breaks",
        (image_json(b64=base64.encodebytes(TINY).decode()), "application/json"),
        "",
        200,
        "",
    ),
    ("octet-stream", (TINY, "application/octet-stream"), "", 200, ""),
    ("base64-url-safe", (image_json(b64="_-8="), "application/json"), "", 400, "must be base64"),
    ("base64-bad-padding", (image_json(b64="abc"), "application/json"), "", 400, "must be base64"),
    ("base64-other-script", (image_json(b64="é"), "application/json"), "", 400, "must be base64"),
    ("base64-empty", (image_json(b64=""), "application/json"), "", 400, "must have bytes"),
    ("base64-of-text", (image_json(b64="aGk="), "application/json"), "", 415, "one of JPEG"),
    (
        "base64-number",
        (image_json(b64=1), "application/json"),
        "",
        400,
        "`image.b64` must be a text",
    ),
    ("json-empty", (b"", "application/json"), "", 400, "must be JSON"),
    ("json-broken", (b"{", "application/json"), "", 400, "must be JSON"),
    ("json-latin-1", (b'{"image": "\xe9"}', "application/json"), "", 400, "must be JSON"),
    ("json-values", (b"[0," * 30_000, "application/json"), "", 400, "at most 50000 JSON values"),
    ("json-long-number", (b"9" * 700, "application/json"), "", 400, "must be JSON"),
    ("json-deep", (b"[" * 40_000, "application/json"), "", 400, "must be JSON"),
    ("json-list", (b"[]", "application/json"), "", 400, "must be a JSON object"),
    ("json-null", (b"null", "application/json"), "", 400, "must be a JSON object"),
    ("json-without-image", (b"{}", "application/json"), "", 400, "`image` must be a JSON object"),
    ("json-unknown-field", (b'{"img": 1}', "application/json"), "", 400, "'img'"),
    ("json-huge-name", (b'{"%s": 1}' % (b"x" * 10**6), "application/json"), "", 400, "'xxx"),
    ("json-no-way", (image_json(), "application/json"), "", 400, "must have one of b64 and s3"),
    (
        "json-two-ways",
        (image_json(b64="", s3=""), "application/json"),
        "",
        400,
        "must have one of b64 and s3",
    ),
    ("json-url", (image_json(url="http://127.0.0.1/"), "application/json"), "", 400, "'url'"),
    (
        "s3-is-closed",
        (image_json(s3="s3://b/k"), "application/json"),
        "",
        403,
        "PREDICT_S3_BUCKETS",
    ),
    ("form", form(("file", FILE)), "", 200, ""),
    ("form-image", form(("image", FILE)), "", 200, ""),
    ("form-two", form(("file", FILE), ("image", FILE)), "", 200, "outcomes"),
    ("form-path-as-name", form(("file", ("../../etc/x", TINY))), "", 200, ""),
    (
        "form-empty-name",
        form_text(b'--X\nContent-Disposition: form-data; name="file"; filename=""\n\n\n--X--\n'),
        "",
        400,
        "must have bytes",
    ),
    (
        "form-name-not-utf-8",
        form_text(
            b'--X\nContent-Disposition: form-data; name="file"; filename="\xff\xfe"\n\nhi\n--X--\n'
        ),
        "",
        415,
        "one of JPEG",
    ),
    ("form-no-name", form_text(b"--X\nContent-Disposition: form-data\n\nhi\n--X--\n"), "", 400, ""),
    ("form-no-disposition", form_text(b"--X\n\nhi\n--X--\n"), "", 400, ""),
    ("form-no-part", form_text(b"--X--\n"), "", 400, "must have a part named 'file'"),
    ("form-no-file", form(("file", "text")), "", 415, "one of JPEG"),
    (
        "form-without-a-file-name",
        (
            b'--X\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + TINY + b"\r\n--X--\r\n",
            "multipart/form-data; boundary=X",
        ),
        "",
        200,
        "",
    ),
    ("form-other-part", form(("photo", FILE)), "", 400, "'photo'"),
    ("form-threshold", form(("file", FILE), ("confidence", "0.3")), "", 400, "into the query"),
    ("form-empty", form_text(b""), "", 400, "must be whole"),
    ("form-no-boundary", (TINY, "multipart/form-data"), "", 400, "must have the form's boundary"),
    (
        "form-other-boundary",
        (form(("file", FILE))[0], "multipart/form-data; boundary=Y"),
        "",
        400,
        "",
    ),
    ("form-odd-boundary", (TINY, 'multipart/form-data; boundary="é"'), "", 400, ""),
    (
        "form-never-ends",
        form_text(b'--X\nContent-Disposition: form-data; name="file"; filename="a"\n\nhi'),
        "",
        400,
        "must be whole",
    ),
    (
        "form-too-many-parts",
        form(*[("file", FILE)] * (MAX_FORM_PARTS + 1)),
        "",
        413,
        "too many parts",
    ),
    ("form-too-many-images", form(*[("file", FILE)] * 11), "", 413, "at most 10 images"),
    (
        "form-long-headers",
        form_text(b"--X\nX: " + b"y" * 9000 + b"\n\nhi\n--X--\n"),
        "",
        400,
        "at most 8192 bytes, got 9003",
    ),
    ("form-large-field", form(("note", "x" * 600_000)), "", 400, "'note'"),
    ("query-unknown", (TINY, JPEG), "?conf=0.3", 400, "'conf'"),
    ("query-repeated", (TINY, JPEG), "?iou=0.3&iou=0.3", 400, "'0.3, 0.3'"),
    ("query-empty", (TINY, JPEG), "?confidence=", 400, "got ''"),
    ("query-nan", (TINY, JPEG), "?confidence=nan", 400, "got 'nan'"),
    ("query-infinite", (TINY, JPEG), "?confidence=1e999", 400, "confidence"),
    ("query-large", (TINY, JPEG), "?confidence=1e9", 400, "confidence"),
    ("query-negative", (TINY, JPEG), "?iou=-0.1", 400, "iou"),
    ("query-underscore", (TINY, JPEG), "?max_detections=1_0", 400, "'1_0'"),
    ("query-other-digits", (TINY, JPEG), "?max_detections=%D9%A3", 400, "max_detections"),
    ("query-huge-number", (TINY, JPEG), "?max_detections=" + "9" * 3000, 400, "max_detections"),
    ("query-fraction", (TINY, JPEG), "?max_detections=1.5", 400, "'1.5'"),
    ("query-not-utf-8", (TINY, JPEG), "?confidence=%ff", 400, "confidence"),
    ("query-classes", (TINY, JPEG), "?classes=product,0", 200, ""),
    ("query-no-class", (TINY, JPEG), "?classes=", 400, "got ''"),
    ("query-unknown-class", (TINY, JPEG), "?classes=0,dog", 400, "got '0,dog'"),
    ("query-number-with-exponent", (TINY, JPEG), "?confidence=3e-1", 200, ""),
]


@pytest.mark.parametrize(
    ("sent", "query", "status", "words"),
    [row[1:] for row in REQUESTS],
    ids=[row[0] for row in REQUESTS],
)
def test_each_request_has_its_answer(
    service: Service, sent: tuple[bytes, str], query: str, status: int, words: str
) -> None:
    response = service.post(*sent, query)
    text = response.data.decode()
    assert response.status == status, text
    assert not words or any(word in text for word in words.split("|")), text
    if status != 200:
        assert response.headers["content-type"] == "application/problem+json"
        assert json.loads(text)["status"] == status
        assert len(text) < 1000


HOST = b"Host: x\r\n"
RAW: list[tuple[str, bytes, int]] = [
    ("no-http", b"hello\r\n\r\n", 400),
    ("bad-method", b"G(T / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    ("unknown-method", b"BREW /predict HTTP/1.1\r\n" + HOST + b"\r\n", 405),
    ("bad-version", b"GET / HTTP/9\r\n" + HOST + b"\r\n", 400),
    ("bad-header", b"GET / HTTP/1.1\r\n" + HOST + b"a b: c\r\n\r\n", 400),
    (
        "two-lengths",
        b"POST /predict HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        400,
    ),
    ("odd-length", b"POST /predict HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n", 400),
    (
        "odd-expectation",
        b"POST /predict HTTP/1.1\r\n" + HOST + b"Expect: tea\r\nContent-Length: 0\r\n\r\n",
        417,
    ),
    ("odd-coding", b"POST /predict HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: tea\r\n\r\n", 501),
    ("long-line", b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    (
        "many-headers",
        b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"x-%d: y\r\n" % n for n in range(200)) + b"\r\n",
        431,
    ),
    (
        "long-headers-together",
        b"GET / HTTP/1.1\r\n"
        + HOST
        + b"".join(b"x-%d: %s\r\n" % (n, b"y" * 8000) for n in range(5))
        + b"\r\n",
        431,
    ),
    ("long-header", b"GET / HTTP/1.1\r\n" + HOST + b"x: " + b"y" * 9000 + b"\r\n\r\n", 431),
    (
        "bad-chunk",
        b"POST /predict HTTP/1.1\r\n"
        + HOST
        + b"Content-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        400,
    ),
    (
        "chunk-is-cut",
        b"POST /predict HTTP/1.1\r\n"
        + HOST
        + b"Content-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcdeX\r\n",
        400,
    ),
    (
        "short-body",
        b"POST /predict HTTP/1.1\r\n"
        + HOST
        + b"Content-Type: image/jpeg\r\nContent-Length: 99\r\n\r\nabc",
        400,
    ),
    ("no-route", b"GET /nothing HTTP/1.1\r\n" + HOST + b"\r\n", 404),
    ("dots", b"GET /static/../../README.md HTTP/1.1\r\n" + HOST + b"\r\n", 404),
    ("encoded-dots", b"GET /static/%2e%2e/app.py HTTP/1.1\r\n" + HOST + b"\r\n", 404),
]


@pytest.mark.parametrize(("data", "status"), [row[1:] for row in RAW], ids=[row[0] for row in RAW])
def test_what_is_hardly_http_is_answered_with_a_problem(
    service: Service, data: bytes, status: int
) -> None:
    head, _, body = service.send(data.replace(HOST, HOST + b"Connection: close\r\n")).partition(
        b"\r\n\r\n"
    )
    assert head.startswith(b"HTTP/1.1 %d " % status), head
    assert b"application/problem+json" in head
    assert json.loads(body)["status"] == status


def test_a_body_without_a_length_is_read(service: Service) -> None:
    result = json.loads(service.post(iter([SAMPLE[:5000], SAMPLE[5000:]])).data)
    assert result["count"] > 50


@pytest.mark.parametrize(
    "content_type", [JPEG, "application/json", "multipart/form-data; boundary=X"]
)
@pytest.mark.parametrize("path", ["/predict", "/v2/models/shelf/infer", "/", "/nothing", "/health"])
def test_a_client_that_sends_30_mb_before_it_listens_reads_its_answer(
    service: Service, path: str, content_type: str
) -> None:
    body = b"--X" + b"\0" * 30_000_000
    response = requests.post(service.url + path, data=body, headers={"content-type": content_type})
    expected = {"/nothing": 404, "/health": 405, "/": 401}.get(path, 413)
    assert response.status_code == expected
    assert response.json()["status"] == expected
    chunked = requests.post(
        service.url + path,
        data=(body[start : start + 10**6] for start in range(0, len(body), 10**6)),
        headers={"content-type": content_type},
    )
    assert chunked.status_code == expected
    plain_client = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    plain_client.request("POST", path, body, {"Content-Type": content_type})
    answer = plain_client.getresponse()
    assert (answer.status, json.loads(answer.read())["status"]) == (expected, expected)
    plain_client.close()


def test_curl_reads_the_answer_to_30_mb(service: Service, tmp_path: Path) -> None:
    large = tmp_path / "large.jpg"
    large.write_bytes(b"\0" * 30_000_000)
    for way in (["-F", f"file=@{large}"], ["-H", "Expect:", "-F", f"file=@{large}"]):
        done = subprocess.run(
            ["curl", "-s", "-w", "%{http_code}", *way, f"{service.url}/predict"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.endswith("413")
        assert "request-entity-too-large" in done.stdout


def test_a_caller_who_never_stops_sending_is_let_down(service: Service) -> None:
    """Some way after the 64 MiB that are thrown away for the sake of the answer."""
    step = b"10000\r\n" + b"\0" * 0x10000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as peer:
        peer.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 10**9:
                peer.sendall(step)
                sent += 0x10000
    assert MAX_BODY_BYTES < sent < 150 * 2**20


DAMAGED: list[tuple[str, str, dict[str, object]]] = [
    ("JPEG", "RGB", {}),
    ("JPEG", "RGB", {"progressive": True}),
    ("JPEG", "RGB", {"restart_marker_rows": 1}),
    ("JPEG", "CMYK", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0"}),
    ("JPEG", "L", {"progressive": True, "restart_marker_rows": 1}),
    ("PNG", "RGB", {}),
    ("PNG", "P", {"transparency": 3}),
    ("PNG", "LA", {}),
    ("PNG", "I;16", {}),
    ("PNG", "1", {}),
    ("WEBP", "RGB", {}),
    ("WEBP", "RGBA", {}),
    ("WEBP", "RGBA", {"lossless": True}),
]
# More in `make fuzz`.
PICTURES = int(os.environ.get("FUZZ_PICTURES", "200"))


def damaged(chance: random.Random) -> bytes:
    """A picture with flipped bytes, or cut short, or both."""
    kind, mode, options = chance.choice(DAMAGED)
    small = sample().resize(chance.choice([(64, 48), (320, 200), (1, 300)]))
    picture = small.convert("L").convert(mode) if mode == "I;16" else small.convert(mode)
    data = bytearray(saved(picture, kind, **options))
    for _ in range(chance.choice([0, 1, 3, 30])):
        data[chance.randrange(len(data))] = chance.randrange(256)
    if chance.random() < 0.5:
        del data[chance.randrange(len(data)) :]
    if chance.random() < 0.2:
        data += chance.choice([bytes(99), b"\xff\xd9", bytes(data[-40:])])
    return bytes(data)


def hostile(chance: random.Random) -> bytes:
    """A request of random parts, some of which mean something."""
    method = chance.choice([b"GET", b"POST", b"POST", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"X"])
    path = chance.choice(
        [
            b"/",
            b"/predict",
            b"/predict",
            b"/predict",
            b"/v2",
            b"/v2/models/shelf/infer",
            b"/v2/models/%00",
            b"/docs",
            b"//",
        ]
    )
    query = chance.choice(
        [b"", b"?confidence=%00", b"?classes=%ed%a0%80", b"?" + chance.randbytes(9).hex().encode()]
    )
    content_type = chance.choice(
        [
            b"image/jpeg",
            b"application/json",
            b"multipart/form-data; boundary=X",
            b"\xff",
            b"",
            b"application/cloudevents+json",
        ]
    )
    body = chance.choice(
        [
            chance.randbytes(chance.randrange(300)),
            b'{"image": {"b64": "%s"}}' % base64.b64encode(chance.randbytes(30)),
            b'{"image": {"s3": "\\ud800"}}',
            b'--X\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n'
            % chance.randbytes(9).hex().encode()
            + chance.randbytes(50)
            + b"\r\n--X--",
            b'{"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": ["%s"]}]}'
            % chance.randbytes(5).hex().encode(),
            b'{"specversion": "1.0", "id": "\\ud800", "source": "s", "type": "t"}',
            b"[" * 5000,
        ]
    )
    length = chance.choice([len(body), len(body), len(body), max(0, len(body) - 3), len(body) + 5])
    extra = chance.choice(
        [
            b"",
            b"Accept: image/png;q=x\r\n",
            b"traceparent: 00-" + chance.randbytes(20) + b"\r\n",
            b"Authorization: Bearer \xe9\r\n",
            b"Inference-Header-Content-Length: 7\r\n",
        ]
    )
    extra = extra.replace(b"\n", b" ").replace(b"\0", b"").replace(b"\r ", b"\r\n")
    return b"%s %s%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s" % (
        method,
        path,
        query,
        extra,
    ) + b"Content-Type: %s\r\nContent-Length: %d\r\n\r\n%s" % (content_type, length, body)


@pytest.mark.slow
def test_damaged_pictures_are_answered_and_leave_no_memory_behind(service: Service) -> None:
    chance = random.Random(6)
    for _ in range(50):
        service.post(damaged(chance))
    before = service.resident_bytes()
    statuses = [service.post(damaged(chance)).status for _ in range(PICTURES)]
    assert set(statuses) <= {200, 400, 413, 415, 422}
    assert {200, 415, 422} <= set(statuses)
    assert service.resident_bytes() - before < 20 * 2**20


def test_hostile_requests_are_answered_and_leave_no_memory_behind(service: Service) -> None:
    chance = random.Random(7)
    before = service.resident_bytes()
    statuses = []
    for _ in range(200):
        answer = service.send(hostile(chance))
        assert answer.startswith(b"HTTP/1.1 "), answer
        statuses.append(int(answer[9:12]))
    assert not [status for status in statuses if status >= 500]
    assert {200, 400, 405, 415} <= set(statuses)
    assert service.resident_bytes() - before < 20 * 2**20
    assert json.loads(service.post(SAMPLE).data)["count"] > 50


@pytest.mark.slow
def test_four_of_the_largest_pictures_at_once_stay_within_the_budget(service: Service) -> None:
    """One is decoded at a time; each is answered, or told to come again."""
    large = saved(plain("RGB", (8192, 6144)), "PNG", compress_level=1)
    before, peak = service.resident_bytes(), 0
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(service.post(large).status))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        peak = max(peak, service.resident_bytes() - before)
        time.sleep(0.01)
    assert set(statuses) <= {200, 503}
    assert 200 in statuses
    assert peak < 280 * 2**20
