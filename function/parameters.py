"""Parameters and fields of a request, read strictly.

A value that is silently ignored is a wrong answer later, so an odd one is refused by name. Each
function raises `InvalidParameter`.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from werkzeug.datastructures import MultiDict

from events.codec import shown
from function.detections import MUST_BE, Thresholds, read_detail
from function.errors import InvalidParameter

Number = TypeVar("Number", int, float)
# What of a body is searched or decoded at a time, a multiple of base64's four: one call over 20 MiB
# keeps all other threads waiting, and with them the probes, for up to a second.
BAND = 512 * 1024

# A result of 3 000 products has 31 000. A value takes up to 200 bytes as an object of Python's, and
# one byte of text can ask for 40 of them.
MAX_JSON_VALUES = 50_000
JSON_VALUE_BYTES, MAX_JSON_BYTES = 40, 200 * MAX_JSON_VALUES
THRESHOLDS = ("confidence", "iou", "max_detections", "classes", "detail")
# As JSON writes it, and .5 as people do: Python also takes "1_0", "nan" and other scripts' digits.
NUMBER = re.compile(r"-?(\d{1,20}(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)


def check_json(body: bytes, what: str = "The body") -> None:
    """Check how many values some JSON can have, before it is parsed."""
    values = sum(map(body.count, (b",", b"[", b"{")))
    if values > MAX_JSON_VALUES:
        msg = f"{what} must have at most {MAX_JSON_VALUES} JSON values, got {values}"
        raise InvalidParameter(msg)


def parse_json(body: bytes) -> object:
    """Parse a JSON body."""
    check_json(body)
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as err:
        msg = f"The body must be JSON, got {shown(body)}"
        raise InvalidParameter(msg) from err


def json_object(value: object, where: str) -> dict[str, object]:
    """Check that a JSON value is an object."""
    if not isinstance(value, dict):
        msg = f"{where} must be a JSON object, got {kind(value)}"
        raise InvalidParameter(msg)
    return value


def kind(value: object) -> str:
    """Name the kind of a JSON value; the value itself may be megabytes long."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    names = {str: "a text", bool: "a boolean", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), "an object")


def check_names(where: str, names: Iterable[str], known: tuple[str, ...]) -> None:
    """Check that all names are known ones."""
    for name in names:
        if name not in known:
            msg = f"{where} must be one of {', '.join(known)}, got {name!r}"
            raise InvalidParameter(msg)


def read_number(name: str, value: object, must_be: str = "a number") -> float:
    """Read a number from text or JSON."""
    text = str(value) if type(value) in (str, int, float) else ""
    if not NUMBER.fullmatch(text):
        msg = f"`{name}` must be {must_be}, got {value!r}"
        raise InvalidParameter(msg)
    return float(text)


def read_whole(name: str, value: object, must_be: str = "a whole number") -> int:
    """Read a whole number from text or JSON."""
    number = read_number(name, value, must_be)
    if not number.is_integer():  # infinity is none either
        msg = f"`{name}` must be {must_be}, got {value!r}"
        raise InvalidParameter(msg)
    return int(number)


def decode_base64(text: str, where: str) -> bytes:
    """Decode base64, strictly: what is no base64 must not pass for an odd image.

    A data URI's head, as browsers write it, is taken off, and so are line breaks.
    """
    head, comma, rest = text.partition(",")
    if comma and head.startswith("data:image/") and head.endswith(";base64"):
        text = rest
    text = text.replace("\n", "").replace("\r", "")  # MIME's lines of 76 (RFC 2045)
    must_be = f"{where} must be base64 (RFC 4648, section 4), got {shown(text)}"
    try:
        bands = [
            base64.b64decode(text[start : start + BAND], validate=True)
            for start in range(0, len(text), BAND)
        ]
    except (binascii.Error, ValueError) as err:
        raise InvalidParameter(must_be) from err
    if any(len(band) < BAND // 4 * 3 for band in bands[:-1]):  # padding before the end
        raise InvalidParameter(must_be)
    return b"".join(bands)


def read_thresholds(
    args: MultiDict[str, str], default: Thresholds, names: Mapping[int, str]
) -> Thresholds:
    """Read the query parameters; an odd, empty, repeated or unknown one is named.

    `names` are the model's classes. Raises `InvalidParameter`.
    """
    given = {name: _single(name, values) for name, values in args.lists()}
    return choose_thresholds(given, default, names)


def choose_thresholds(
    given: Mapping[str, object], default: Thresholds, names: Mapping[int, str]
) -> Thresholds:
    """Read thresholds by name, as text or as JSON values. Raises `InvalidParameter`."""
    check_names("The parameter", given, THRESHOLDS)
    return Thresholds(
        confidence=_threshold(read_number, "confidence", given, default.confidence),
        iou=_threshold(read_number, "iou", given, default.iou),
        max_detections=_threshold(read_whole, "max_detections", given, default.max_detections),
        classes=_classes(given["classes"], names) if "classes" in given else default.classes,
        detail=read_detail("detail", given.get("detail", default.detail)),
    )


def _threshold(
    read: Callable[[str, object, str], Number],
    name: str,
    given: Mapping[str, object],
    default: Number,
) -> Number:
    return read(name, given[name], MUST_BE[name]) if name in given else default


def read_uri(args: MultiDict[str, str]) -> str:
    """Read the one parameter that names an object. Raises `InvalidParameter`."""
    given = {name: _single(name, values) for name, values in args.lists()}
    check_names("The parameter", given, ("uri",))
    return given.get("uri", "")


def _single(name: str, values: list[str]) -> str:
    if len(values) != 1:
        msg = f"`{name}` must be given once, got {', '.join(values)!r}"
        raise InvalidParameter(msg)
    return values[0]


def _classes(value: object, names: Mapping[int, str]) -> tuple[int, ...]:
    """Read class numbers or labels, separated by commas."""
    ids = {str(number): number for number in names} | {label: i for i, label in names.items()}
    words = value.split(",") if isinstance(value, str) else []
    unknown = [word for word in words if word.strip() not in ids]
    if unknown or not words:
        msg = (
            f"`classes` must be of {', '.join(names.values())}, separated by commas, got {value!r}"
        )
        raise InvalidParameter(msg)
    return tuple(sorted({ids[word.strip()] for word in words}))
