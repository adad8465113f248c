"""CloudEvents 1.0 over HTTP and as JSON: a strict border round the SDK.

The SDK (2.2) invents an id and a time where there are none, parses a structured event as binary
when a stray `ce-` header is present, has no batches, and hands back malformed JSON as a string.
Each of these breaks idempotency or answers 500 to a hopeless request, so the checks here come
first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import cast
from urllib.parse import quote

from cloudevents.core.bindings.http import HTTPMessage, from_binary, from_structured, to_structured
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

STRUCTURED = "application/cloudevents+json"
BATCHED = "application/cloudevents-batch+json"
REQUIRED = ("specversion", "id", "source", "type")
MAX_BATCH = 10  # as many as SQS and SNS hand over at once; a larger one would outlive its time-out

CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")

Json = dict[str, object]

# What the SDK raises for a bad attribute: its own error, and those of the libraries under it.
SDK_ERRORS = (CloudEventValidationError, ValueError, TypeError, OverflowError)


class InvalidEvent(ValueError):
    """The body or its headers are not CloudEvents that we know; the message is for the sender."""


def new_event(
    attributes: Mapping[str, str | int | datetime], data: Mapping[str, object] | None
) -> CloudEvent:
    """Build an event whose data is a JSON object. Raises `InvalidEvent` for a missing attribute.

    Control characters, which a key may hold and an attribute may not, are percent-encoded.
    """
    given = {
        "specversion": "1.0",
        "datacontenttype": "application/json",
        **{name: _without_controls(value) for name, value in attributes.items()},
    }
    _need(given)
    if data is None:
        del given["datacontenttype"]
    try:
        # The constructor keeps and changes the dict it gets: it gets one of its own.
        return CloudEvent(given, dict(data) if data is not None else None)
    except SDK_ERRORS as err:
        msg = f"Event {given['id']!r} has an invalid attribute"
        raise InvalidEvent(msg) from err


def from_http(headers: Mapping[str, str], body: bytes) -> list[CloudEvent]:
    """Read the events of an HTTP request: one (binary, structured) or up to ten (batched).

    The content type alone decides the mode (HTTP binding, section 3). Raises `InvalidEvent`.
    """
    lowered = {name.lower(): value for name, value in headers.items()}
    content_type = lowered.get("content-type", "").split(";")[0].strip().lower()
    if content_type == BATCHED:
        return _batch(read_json(body))
    if content_type == STRUCTURED:
        return [_structured(read_json(body))]
    if content_type.startswith("application/cloudevents"):
        msg = f"Content type {content_type!r} is not {STRUCTURED} or {BATCHED}"
        raise InvalidEvent(msg)
    return [_binary(lowered, body)]


def from_json(text: str | bytes) -> CloudEvent:
    """Read one event in the JSON format, such as an SNS message. Raises `InvalidEvent`."""
    return _structured(read_json(text))


def to_json(event: CloudEvent) -> bytes:
    """Write one event in the JSON format."""
    return to_structured(event, JSONFormat()).body


def data_of(event: CloudEvent) -> Json:
    """Return the event's data, which must be a JSON object. Raises `InvalidEvent`."""
    data = event.get_data()
    if not isinstance(data, dict):
        msg = f"Event {event.get_id()!r} has no JSON object as data"
        raise InvalidEvent(msg)
    return data


def read_json(body: str | bytes) -> object:
    """Read JSON that came from outside. Raises `InvalidEvent`."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as err:
        msg = "The body is not JSON"
        raise InvalidEvent(msg) from err


def _batch(items: object) -> list[CloudEvent]:
    if not isinstance(items, list) or len(items) > MAX_BATCH:
        msg = f"A batch is a JSON array of at most {MAX_BATCH} events"
        raise InvalidEvent(msg)
    return [_structured(item) for item in items]


def _structured(attributes: object) -> CloudEvent:
    if not isinstance(attributes, dict):
        msg = "An event is a JSON object"
        raise InvalidEvent(msg)
    _need(attributes)
    body = json.dumps(attributes).encode()
    try:
        return cast("CloudEvent", from_structured(HTTPMessage({}, body), JSONFormat(), CloudEvent))
    except SDK_ERRORS as err:
        msg = f"Event {attributes['id']!r} has an invalid attribute"
        raise InvalidEvent(msg) from err


def _binary(headers: dict[str, str], body: bytes) -> CloudEvent:
    attributes = {name[3:]: value for name, value in headers.items() if name.startswith("ce-")}
    if not attributes:
        msg = f"The request has neither ce- headers nor the content type {STRUCTURED}"
        raise InvalidEvent(msg)
    _need(attributes)
    if body:
        read_json(body)  # events to us carry JSON; the SDK would pass broken JSON on as a string
    try:
        return cast("CloudEvent", from_binary(HTTPMessage(headers, body), JSONFormat(), CloudEvent))
    except SDK_ERRORS as err:
        msg = f"Event {attributes['id']!r} has an invalid attribute"
        raise InvalidEvent(msg) from err


def _without_controls(value: str | int | datetime) -> str | int | datetime:
    # https://github.com/cloudevents/spec/blob/main/cloudevents/spec.md#type-system
    return CONTROLS.sub(lambda found: quote(found[0]), value) if isinstance(value, str) else value


def _need(attributes: Mapping[str, object]) -> None:
    missing = [name for name in REQUIRED if not attributes.get(name)]
    if missing:
        msg = f"The event has no {', '.join(missing)}"
        raise InvalidEvent(msg)
    if attributes["specversion"] != "1.0":
        msg = f"specversion is {attributes['specversion']!r}, not '1.0'"
        raise InvalidEvent(msg)
