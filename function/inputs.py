"""The pictures that a caller of /predict sends, or names: each way in is one function."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import IO

import flask
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from function.errors import BodyUnsupported, BucketForbidden, InvalidParameter
from function.image import MAX_IMAGE_BYTES
from function.parameters import check_names, decode_base64, json_object, parse_json
from function.reference import Reference, parse_reference, read_reference
from function.s3 import S3Pictures

MULTIPART, JSON = "multipart/form-data", "application/json"
JPEG, PNG = "image/jpeg", "image/png"
PICTURE_PARTS = ("file", "image")
REFERENCE = "reference"  # the part or field that says how the shelf should stand
JSON_FIELDS = ("image", REFERENCE)
# An image and the envelope around it. In base64 it may have three quarters of this.
MAX_BODY_BYTES = MAX_IMAGE_BYTES + 64 * 1024
# A form holds pictures and nothing else: ten of a batch, and room to say which one is too many.
MAX_FORM_PARTS = 32
# Werkzeug reads forms in steps of 64 KiB and wants room for several, files or not.
MAX_FORM_FIELD_BYTES = 512 * 1024


class Request(flask.Request):
    """A request whose uploads stay in memory: the root file system is read-only in the cluster."""

    def _get_stream_for_parsing(self) -> IO[bytes]:
        return io.BytesIO(read_body(self))  # at once: it saves a form of 3 MB a third of its time

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        return io.BytesIO()  # MAX_BODY_BYTES bounds it


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Image bytes, and what their sender calls them."""

    data: bytes
    name: str = ""  # of the uploaded file
    uri: str = ""  # of the object they were read from
    reference: Reference | None = None  # what its shelf is compared with


def read_body(request: flask.Request) -> bytes:
    """Read the whole body. Raises `RequestEntityTooLarge` or `ClientDisconnected`.

    From the server's own stream and at once: Werkzeug's reads 64 KiB at a time, which takes longer
    than a camera's photo takes to arrive, and is silent about a body that ends early.
    """
    told, limit = request.content_length, MAX_BODY_BYTES
    if told is not None and told > limit:
        raise RequestEntityTooLarge
    try:
        body: bytes = request.environ["wsgi.input"].read(limit + 1 if told is None else told)
    except (OSError, ValueError) as err:  # as Werkzeug's streams take them
        raise ClientDisconnected from err
    if len(body) > limit:
        raise RequestEntityTooLarge
    if len(body) < (told or 0):
        raise ClientDisconnected
    return body


def read_pictures(request: flask.Request, s3_pictures: S3Pictures | None) -> list[Picture]:
    """Read the pictures of a request: one, or several parts of a form.

    Raises `InvalidParameter`, `InvalidReference`, `BodyUnsupported`, and what `S3Pictures.read`
    raises.
    """
    if request.mimetype == MULTIPART:
        return _from_form(request)
    if request.mimetype == JSON:
        return [_from_json(read_body(request), s3_pictures)]
    if request.mimetype.startswith("image/"):
        return [Picture(data=read_body(request))]
    msg = f"The content type must be {MULTIPART}, {JSON} or image/*, got {request.mimetype!r}"
    raise BodyUnsupported(msg)


def _from_form(request: flask.Request) -> list[Picture]:
    for name in request.form:
        if name != REFERENCE:
            msg = f"The form's part {name!r} must be a file; thresholds go into the query"
            raise InvalidParameter(msg)
    check_names("A part of the form", request.files, (*PICTURE_PARTS, REFERENCE))
    reference = _reference_part(request)
    uploads = [upload for name in PICTURE_PARTS for upload in request.files.getlist(name)]
    if not uploads:
        msg = f"The form must have a part named {PICTURE_PARTS[0]!r}"
        raise InvalidParameter(msg)
    return [
        Picture(data=upload.read(), name=upload.filename or "", reference=reference)
        for upload in uploads
    ]


def _reference_part(request: flask.Request) -> Reference | None:
    """Read the form's reference, a file or a text; it is that of every picture in the form."""
    files = [upload.read() for upload in request.files.getlist(REFERENCE)]
    texts = [text.encode() for text in request.form.getlist(REFERENCE)]
    if len(files) + len(texts) > 1:
        msg = f"The form must have one part named {REFERENCE!r}, got several"
        raise InvalidParameter(msg)
    return next((parse_reference(body) for body in (*files, *texts)), None)


def _from_json(body: bytes, s3_pictures: S3Pictures | None) -> Picture:
    fields = json_object(parse_json(body), "The body")
    check_names("A field of the body", fields, JSON_FIELDS)
    reference = read_reference(fields[REFERENCE]) if REFERENCE in fields else None
    image = json_object(fields.get("image"), "`image`")
    check_names("A field of `image`", image, ("b64", "s3"))
    if len(image) != 1:
        msg = "`image` must have one of b64 and s3"
        raise InvalidParameter(msg)
    ((way, source),) = image.items()
    if not isinstance(source, str):
        msg = f"`image.{way}` must be a text"
        raise InvalidParameter(msg)
    if way == "b64":
        return Picture(data=decode_base64(source, "`image.b64`"), reference=reference)
    if s3_pictures is None:
        msg = "`PREDICT_S3_BUCKETS` and `PREDICT_TOKEN` must be set for `image.s3` to be read"
        raise BucketForbidden(msg)
    return Picture(data=s3_pictures.read(source), uri=source, reference=reference)


def wanted_type(request: flask.Request) -> str:
    """Choose JSON, JPEG or PNG by the Accept header; JSON wherever it is as welcome."""
    return request.accept_mimetypes.best_match([JSON, JPEG, PNG], JSON)
