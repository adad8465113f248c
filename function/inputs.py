"""The pictures that a caller of /predict sends, or names: each way in is one function."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import cast

import flask
from werkzeug.datastructures import Headers
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData, State

from function.errors import BodyUnsupported, BucketForbidden, InvalidParameter
from function.image import MAX_IMAGE_BYTES
from function.memory_budget import Hold, Memory
from function.parameters import (
    BAND,
    JSON_VALUE_BYTES,
    MAX_JSON_BYTES,
    check_names,
    decode_base64,
    json_object,
    kind,
    parse_json,
)
from function.reference import Reference, parse_reference, read_reference
from function.s3 import S3Pictures

MULTIPART, JSON, RAW = "multipart/form-data", "application/json", "application/octet-stream"
JPEG, PNG = "image/jpeg", "image/png"
PICTURE_PARTS = ("file", "image")
REFERENCE = "reference"  # the part or field that says how the shelf should stand
JSON_FIELDS = ("image", REFERENCE)
# An image and the envelope around it. In base64 it may have three quarters of this.
MAX_BODY_BYTES = MAX_IMAGE_BYTES + 64 * 1024
# A form holds pictures and nothing else: ten of a batch, and room to say which one is too many.
MAX_FORM_PARTS = 32
MAX_LOOKALIKES = 16  # of a boundary in a picture, looked at one by one
MAX_PART_HEAD = 8 * 1024  # bytes; as long as one of the request's own headers may be
BOUNDARY_ROOM = 64  # bytes around a boundary: line breaks, dashes and padding
CODINGS = ("gzip", "deflate", "identity")
# Writers of blocks, such as bgzip, begin a member every 64 KiB; each takes microseconds of its own.
MAX_MEMBERS = {"gzip": 1000, "deflate": 1}
AUTO_DETECT = 32  # of zlib: whether the header is gzip's or its own
MEMORY = "shelfwatch.memory"  # the app's extension that bodies are held in


class Request(flask.Request):
    """A request whose body is read at once, and counted while the request lasts."""

    _held: Hold | None = None

    def hold(self, size: int) -> None:
        """Hold memory for the body, or for what comes in its place. Raises `Overloaded`."""
        memory: Memory = flask.current_app.extensions[MEMORY]
        self.keep(0)  # who waits for more while it holds some may wait for good
        self._held = memory.bodies.take(size)

    def keep(self, size: int) -> None:
        """Give back all but `size` bytes."""
        if self._held:
            self._held.shrink(size)

    def close(self) -> None:
        """Let the request go."""
        self.keep(0)
        super().close()


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Image bytes, and what their sender calls them."""

    data: bytes
    name: str = ""  # of the uploaded file
    uri: str = ""  # of the object they were read from
    reference: Reference | None = None  # what its shelf is compared with


def read_body(request: flask.Request) -> bytes:
    """Read the whole body, and unpack it where it came compressed.

    Raises `Overloaded`, `BodyUnsupported`, `InvalidParameter`, `RequestEntityTooLarge` or
    `ClientDisconnected`.
    """
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in CODINGS:
        msg = f"The content encoding must be one of {', '.join(CODINGS)}, got {coding!r}"
        raise BodyUnsupported(msg)
    length, limit = request.content_length, MAX_BODY_BYTES
    if length is not None and length > limit:
        raise RequestEntityTooLarge
    known = length is not None and coding == "identity"
    cast("Request", request).hold(_memory_of(request.mimetype, length if known else limit))
    body = _receive(request, limit, length)
    return body if coding == "identity" else _unpack(body, limit, coding)


def _memory_of(mimetype: str, length: int | None) -> int:
    """Estimate what a body of that length takes while it is read and parsed."""
    size = length or 0
    if mimetype == MULTIPART:
        return 3 * size  # itself, the pieces of a part, and the part
    if mimetype == JSON or mimetype.endswith("+json"):
        # As text, its longest text, that decoded; and what its values take as objects.
        return 4 * size + min(JSON_VALUE_BYTES * size, MAX_JSON_BYTES)
    return size


def _receive(request: flask.Request, limit: int, length: int | None) -> bytes:
    """Read the body from the server's own stream and at once.

    Werkzeug's stream reads 64 KiB at a time, which takes longer than a camera's photo takes to
    arrive, and is silent about a body that ends early.
    """
    try:
        body: bytes = request.environ["wsgi.input"].read(limit + 1 if length is None else length)
    except (OSError, ValueError) as err:  # as Werkzeug's streams take them
        raise ClientDisconnected from err
    if len(body) > limit:
        raise RequestEntityTooLarge
    if len(body) < (length or 0):
        raise ClientDisconnected
    return body


def _unpack(body: bytes, limit: int, coding: str) -> bytes:
    """Undo gzip, of one member or several, or deflate, to `limit` bytes at most.

    https://www.rfc-editor.org/rfc/rfc1952#section-2.2
    """
    # Some senders of "deflate" leave out zlib's header; gzip and zlib differ in theirs.
    raw = coding == "deflate" and body[:1] and (body[0] & 15 != zlib.DEFLATED)
    window = -zlib.MAX_WBITS if raw else zlib.MAX_WBITS | AUTO_DETECT
    unpacker, members = zlib.decompressobj(window), 1
    pieces: list[bytes] = []
    size, at = 0, 0
    while at < len(body):
        if unpacker.eof:
            unpacker, members = zlib.decompressobj(window), members + 1
            if members > MAX_MEMBERS[coding]:
                msg = f"The body's members must be at most {MAX_MEMBERS[coding]}, got more bytes"
                raise InvalidParameter(msg)
        band = body[at : at + BAND]
        try:
            pieces.append(unpacker.decompress(band, limit + 1 - size))
        except zlib.error as err:
            msg = f"The body must be in {coding}, as its Content-Encoding says"
            raise InvalidParameter(msg) from err
        size += len(pieces[-1])
        if size > limit:
            raise RequestEntityTooLarge
        at += len(band) - len(unpacker.unused_data)
    if not unpacker.eof:
        msg = f"The body must be whole in {coding}, got {len(body)} bytes that end early"
        raise InvalidParameter(msg)
    return b"".join(pieces)


def read_pictures(request: flask.Request, s3_pictures: S3Pictures | None) -> list[Picture]:
    """Read the pictures of a request: one, or several parts of a form.

    Raises `InvalidParameter`, `InvalidReference`, `BodyUnsupported`, and what `S3Pictures.read`
    raises.
    """
    if request.mimetype == MULTIPART:
        pictures = _from_form(request)
    elif request.mimetype == JSON:
        pictures = [_from_json(request, s3_pictures)]
    elif request.mimetype.startswith("image/") or request.mimetype == RAW:
        pictures = [Picture(data=read_body(request))]
    else:
        must_be = f"{MULTIPART}, {JSON}, image/* or {RAW}"
        msg = f"The content type must be {must_be}, got {request.mimetype!r}"
        raise BodyUnsupported(msg)
    cast("Request", request).keep(sum(len(picture.data) for picture in pictures))
    return pictures


def _from_form(request: flask.Request) -> list[Picture]:
    parts = parse_form(read_body(request), request.mimetype_params.get("boundary", ""))
    for name, _, _ in parts:
        if name not in (*PICTURE_PARTS, REFERENCE):
            known = ", ".join((*PICTURE_PARTS, REFERENCE))
            msg = f"A part of the form must be one of {known}, got {name!r}"
            raise InvalidParameter(f"{msg}; thresholds go into the query")
    references = [data for name, _, data in parts if name == REFERENCE]
    if len(references) > 1:
        msg = f"The form must have one part named {REFERENCE!r}, got several"
        raise InvalidParameter(msg)
    reference = _parse_reference(references[0]) if references else None
    uploads = [part for part in parts if part[0] in PICTURE_PARTS]
    if not uploads:
        got = "no part" if not parts else f"{len(parts)} named {REFERENCE!r}"
        msg = f"The form must have a part named {PICTURE_PARTS[0]!r}, got {got}"
        raise InvalidParameter(msg)
    return [Picture(data=data, name=filename, reference=reference) for _, filename, data in uploads]


def _parse_reference(body: bytes) -> Reference:
    memory: Memory = flask.current_app.extensions[MEMORY]
    with memory.pictures.hold(min(JSON_VALUE_BYTES * len(body), MAX_JSON_BYTES)):
        return parse_reference(body)


class _Boundary:
    """Finds a boundary where Werkzeug's pattern does, which tries each byte of a picture."""

    def __init__(self, pattern: re.Pattern[bytes], dashed: bytes) -> None:
        self.pattern, self.dashed = pattern, dashed

    def search(self, data: bytes | bytearray) -> re.Match[bytes] | None:
        """Find the first boundary, with the line breaks around it."""
        at = -1
        for _ in range(MAX_LOOKALIKES):
            at = data.find(self.dashed, at + 1)
            if at < 0:
                return None
            for line_break in (2, 1):  # bytes
                if at >= line_break and (match := self.pattern.match(data, at - line_break)):
                    return match
        return self.pattern.search(data, at)


class FormDecoder(MultipartDecoder):
    """Decodes forms as Werkzeug does, with file names in any bytes, and short headers."""

    def __init__(self, boundary: bytes, *, max_parts: int) -> None:
        super().__init__(boundary, max_parts=max_parts)
        finder = _Boundary(self.boundary_re, b"--" + boundary)
        self.boundary_re = finder  # type: ignore[assignment]  # all that is asked of a pattern

    def _parse_headers(self, data: bytes | bytearray) -> Headers:
        if len(data) > MAX_PART_HEAD:
            must_have = f"at most {MAX_PART_HEAD} bytes"
            msg = f"The headers of a form's part must have {must_have}, got {len(data)}"
            raise InvalidParameter(msg)
        return super()._parse_headers(data.decode(errors="replace").encode())

    def _last_partial_boundary_index(self, data: bytes | bytearray) -> int:
        """Find where a boundary may have begun.

        Werkzeug's lets the first of its bytes go where a band ends within the last of them.
        """
        start = max(0, len(data) - len(self.boundary) - BOUNDARY_ROOM)
        ends = (data.find(end, start) for end in (b"\r", b"\n"))
        return min((end for end in ends if end >= 0), default=len(data))


def parse_form(body: bytes, boundary: str) -> list[tuple[str, str, bytes]]:
    """Take a form apart: name, file name and bytes of each part, in order.

    A part without a file name may be a file, too. Raises `InvalidParameter`, and
    `RequestEntityTooLarge` for too many parts.
    """
    if not boundary:
        msg = f"The content type must have the form's boundary: {MULTIPART}; boundary=…"
        raise InvalidParameter(msg)
    decoder = FormDecoder(boundary.encode(), max_parts=MAX_FORM_PARTS)
    parts: list[tuple[str, str, list[bytes]]] = []
    try:
        for start in range(0, len(body), BAND):
            decoder.receive_data(body[start : start + BAND])
            _take_parts(decoder, parts)
            if decoder.state is State.PREAMBLE:
                raise ValueError(start)  # a band without a boundary, which each part begins with
        decoder.receive_data(None)
        _take_parts(decoder, parts)
    except ValueError as err:
        msg = "The form must be whole, its parts apart by its boundary, each with its name"
        raise InvalidParameter(msg) from err
    return [(name, filename, b"".join(pieces)) for name, filename, pieces in parts]


def _take_parts(decoder: FormDecoder, parts: list[tuple[str, str, list[bytes]]]) -> None:
    """Take what has come of a form's parts."""
    while not isinstance(event := decoder.next_event(), Epilogue | NeedData):
        if isinstance(event, File | Field):
            parts.append((event.name or "", getattr(event, "filename", ""), []))
        elif isinstance(event, Data):
            parts[-1][2].append(event.data)


def _from_json(request: flask.Request, s3_pictures: S3Pictures | None) -> Picture:
    fields = json_object(parse_json(read_body(request)), "The body")
    check_names("A field of the body", fields, JSON_FIELDS)
    reference = read_reference(fields[REFERENCE]) if REFERENCE in fields else None
    image = json_object(fields.get("image"), "`image`")
    check_names("A field of `image`", image, ("b64", "s3"))
    if len(image) != 1:
        msg = f"`image` must have one of b64 and s3, got {' and '.join(image) or 'neither'}"
        raise InvalidParameter(msg)
    ((way, source),) = image.items()
    if not isinstance(source, str):
        msg = f"`image.{way}` must be a text, got {kind(source)}"
        raise InvalidParameter(msg)
    if way == "b64":
        return Picture(data=decode_base64(source, "`image.b64`"), reference=reference)
    if s3_pictures is None:
        msg = "`PREDICT_S3_BUCKETS` and `PREDICT_TOKEN` must be set for `image.s3` to be read"
        raise BucketForbidden(msg)
    cast("Request", request).hold(MAX_IMAGE_BYTES)
    return Picture(data=s3_pictures.read(source), uri=source, reference=reference)


def wanted_type(request: flask.Request) -> str:
    """Choose JSON, JPEG or PNG by the Accept header; JSON wherever it is as welcome."""
    return request.accept_mimetypes.best_match([JSON, JPEG, PNG], JSON)
