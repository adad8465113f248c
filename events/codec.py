"""CloudEvents 1.0 over HTTP and as JSON: a strict border round the SDK.

The SDK (2.2) invents an id and a time where there are none, parses a structured event as binary
when a stray `ce-` header is present, has no batches, keeps the quotes of a quoted header, and hands
back JSON as text where its content type is written with a capital or a blank. Each of these breaks
idempotency or refuses a good event, so an event is read here, and the SDK gets what is left: one
JSON object.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import reprlib
from collections.abc import Mapping
from datetime import datetime
from typing import cast
from urllib.parse import quote, unquote

from cloudevents.core.bindings.http import HTTPMessage, from_structured, to_structured
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from events.types import Reason

STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"
JSON_TYPE = "application/json"
REQUIRED = ("id", "source", "type")
MAX_BATCH = 10  # as many as SQS and SNS hand over at once; a larger one would outlive its time-out
# Of a value in a message to its sender: it may be megabytes long, and nested without end.
SHOWN_CHARACTERS = 80
SHOWN = reprlib.Repr()
SHOWN.maxlevel, SHOWN.maxstring, SHOWN.maxother = 2, SHOWN_CHARACTERS, SHOWN_CHARACTERS

# What an attribute's text may not hold: controls and the code points that are no characters.
# https://github.com/cloudevents/spec/blob/main/cloudevents/spec.md#type-system
NOT_TEXT = re.compile(
    "[\x00-\x1f\x7f-\x9f\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
    + "]"
)
# https://www.rfc-editor.org/rfc/rfc7230#section-3.2.6
QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
JSON_MEDIA_TYPE = re.compile(r"(application|text)/([a-z0-9.-]+\+)?json")

Json = dict[str, object]

# What the SDK raises for a bad attribute: its own error, and those of the libraries under it.
SDK_ERRORS = (CloudEventValidationError, ValueError, TypeError, OverflowError)


class InvalidEvent(ValueError):
    """A message or a part of it is no event that we know; the text is for its sender.

    `record` is the part, where the rest of the message may be good.
    """

    reason = Reason.UNREADABLE  # of the dead letter

    def __init__(self, message: str, record: object = None) -> None:
        super().__init__(message)
        self.record = record


def new_event(
    attributes: Mapping[str, str | int | datetime], data: Mapping[str, object] | None
) -> CloudEvent:
    """Build an event whose data is a JSON object. Raises `InvalidEvent` for a missing attribute.

    What a key may hold and an attribute may not, such as a line break, is percent-encoded.
    """
    given = {
        "specversion": "1.0",
        "datacontenttype": JSON_TYPE,
        **{
            name: attribute_text(value) if isinstance(value, str) else value
            for name, value in attributes.items()
        },
    }
    _check_required(given)
    if data is None:
        del given["datacontenttype"]
    try:
        # The constructor keeps and changes the dict it gets: it gets one of its own.
        return CloudEvent(given, dict(data) if data is not None else None)
    except SDK_ERRORS as err:
        raise _invalid_attribute(given, err) from err


def attribute_text(text: str) -> str:
    """Percent-encode what neither an event's attribute nor one of SNS may hold."""
    return NOT_TEXT.sub(lambda character: quote(character[0]), text)


def from_http(headers: Mapping[str, str], body: bytes) -> list[CloudEvent | InvalidEvent]:
    """Read the events of an HTTP request: one (binary, structured) or up to ten (batched).

    The content type alone decides the mode (HTTP binding, section 3). A bad event of a batch is an
    `InvalidEvent` at its position. Raises `InvalidEvent` for the request as a whole.
    """
    lowered = {name.lower(): value for name, value in headers.items()}
    media_type = _media_type(lowered.get("content-type", ""))
    if media_type == BATCHED:
        return _batch(read_json(body))
    if media_type == STRUCTURED:
        return [_event(read_json(body))]
    if media_type.startswith("application/cloudevents"):
        msg = f"`content-type` must be {STRUCTURED} or {BATCHED}, got {shown(media_type)}"
        raise InvalidEvent(msg)
    return [_binary(lowered, body)]


def from_json(text: str | bytes) -> CloudEvent:
    """Read one event in the JSON format, such as an SNS message. Raises `InvalidEvent`."""
    return _event(read_json(text))


def to_json(event: CloudEvent) -> bytes:
    """Write one event in the JSON format."""
    return to_structured(event, JSONFormat()).body


def data_of(event: CloudEvent) -> Json:
    """Return the event's data, which must be a JSON object. Raises `InvalidEvent`."""
    data = event.get_data()
    if not isinstance(data, dict):
        msg = f"`data` must be a JSON object, got {shown(data)}"
        raise InvalidEvent(msg)
    return data


def read_json(body: str | bytes) -> object:
    """Read JSON that came from outside, also after a byte order mark. Raises `InvalidEvent`."""
    try:
        return json.loads(body.removeprefix("\ufeff") if isinstance(body, str) else body)
    except (ValueError, RecursionError) as err:
        msg = f"The body must be JSON, got {shown(body)}"
        raise InvalidEvent(msg) from err


def shown(value: object) -> str:
    """Show a sender a value, or where it is long a part of it."""
    return SHOWN.repr(value[:SHOWN_CHARACTERS] if isinstance(value, bytes) else value)


def _batch(items: object) -> list[CloudEvent | InvalidEvent]:
    if not isinstance(items, list) or len(items) > MAX_BATCH:
        got = f"{len(items)} events" if isinstance(items, list) else shown(items)
        msg = f"A batch must be a JSON array of at most {MAX_BATCH} events, got {got}"
        raise InvalidEvent(msg)
    events: list[CloudEvent | InvalidEvent] = []
    for item in items:
        try:
            events.append(_event(item))
        except InvalidEvent as err:
            events.append(err)
    return events


def _binary(headers: Mapping[str, str], body: bytes) -> CloudEvent:
    """Read attributes from headers and data from the body, always as JSON."""
    attributes: Json = {
        name[3:]: unquote(_unquoted(value))
        for name, value in headers.items()
        if name.startswith("ce-")
    }
    if not attributes:
        got = shown(headers.get("content-type", ""))
        msg = f"`content-type` must be {STRUCTURED} where there are no ce- headers, got {got}"
        raise InvalidEvent(msg)
    if body:
        attributes |= {"data": read_json(body), "datacontenttype": JSON_TYPE}
    return _event(attributes)


def _unquoted(value: str) -> str:
    """Undo the quotes that a header's value may have (HTTP binding, section 3.1.3.2)."""
    value = value.strip()
    if len(value) < 2 or not value.startswith('"') or not value.endswith('"'):
        return value
    return QUOTED_PAIR.sub(r"\1", value[1:-1])


def _event(attributes: object) -> CloudEvent:
    """Make an event of a JSON object; an attribute that is null is none (JSON format, 2.2)."""
    if not isinstance(attributes, dict):
        msg = f"An event must be a JSON object, got {shown(attributes)}"
        raise InvalidEvent(msg)
    given = {name: value for name, value in attributes.items() if value is not None}
    _check_required(given)
    _read_data(given)
    try:
        body = json.dumps(given).encode()
        return cast("CloudEvent", from_structured(HTTPMessage({}, body), JSONFormat(), CloudEvent))
    except SDK_ERRORS as err:
        raise _invalid_attribute(given, err) from err


def _read_data(given: Json) -> None:
    """Put JSON that came as base64 into `data`, and spell JSON's media type as all others do."""
    media_type = _media_type(str(given.get("datacontenttype", JSON_TYPE)))
    is_json = JSON_MEDIA_TYPE.fullmatch(media_type) is not None
    if is_json and "datacontenttype" in given:
        given["datacontenttype"] = media_type
    encoded = given.get("data_base64")
    if encoded is None:
        return
    try:
        decoded = base64.b64decode(cast("str", encoded), validate=True)
    except (binascii.Error, TypeError, ValueError) as err:
        msg = f"`data_base64` must be base64, got {shown(encoded)}"
        raise InvalidEvent(msg) from err
    if is_json:
        del given["data_base64"]
        given["data"] = read_json(decoded)


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _check_required(attributes: Mapping[str, object]) -> None:
    if attributes.get("specversion") != "1.0":
        msg = f"`specversion` must be '1.0', got {shown(attributes.get('specversion'))}"
        raise InvalidEvent(msg)
    for name in REQUIRED:
        value = attributes.get(name)
        if not isinstance(value, str) or not value:
            msg = f"`{name}` must be a text that is not empty, got {shown(value)}"
            raise InvalidEvent(msg)


def _invalid_attribute(attributes: Mapping[str, object], err: Exception) -> InvalidEvent:
    # The SDK names what it checked; a time is all that it parses, and that fails before.
    names = list(err.errors) if isinstance(err, CloudEventValidationError) else ["time"]
    name = names[0]
    what = "a time as in RFC 3339" if name == "time" else "as CloudEvents 1.0 says"
    return InvalidEvent(f"`{name}` must be {what}, got {shown(attributes.get(name))}")
