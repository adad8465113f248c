"""S3 notifications as CloudEvents, one a record. Pure; nothing here does IO.

Attributes follow the CloudEvents adapter for S3 but for `id`: the adapter's is one a request, ours
is one an object version, so that a redelivery, a second notification and a bucket listing agree.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import unquote_plus

from cloudevents.core.v1.event import CloudEvent

from events.codec import InvalidEvent, Json, data_of, new_event
from events.types import S3_OBJECT_CREATED

ADAPTER_PREFIX = "com.amazonaws.s3."
GENERATION = "auditgeneration"  # extension attribute; names are lower-case letters and digits


@dataclass(frozen=True)
class S3Object:
    """One version of one object, as a notification announces it."""

    bucket: str
    key: str  # decoded
    version_id: str = ""  # empty where the bucket is not versioned
    etag: str = ""
    size: int | None = None  # bytes

    @property
    def uri(self) -> str:
        """Name the object as people do."""
        return f"s3://{self.bucket}/{self.key}"


def events_from_body(body: str, generation: int = 0) -> list[CloudEvent]:
    """Turn an SQS message's body into events, one a created object.

    `s3:TestEvent` and records of other operations give none. Raises `InvalidEvent` for a body that
    is no S3 notification.
    """
    try:
        notification = json.loads(body)
    except ValueError as err:
        msg = "The message is not JSON"
        raise InvalidEvent(msg) from err
    if not isinstance(notification, dict):
        msg = "The message is not an S3 notification"
        raise InvalidEvent(msg)
    if notification.get("Event") == "s3:TestEvent":  # sent on every change of the bucket's rule
        return []
    records = notification.get("Records")
    if not isinstance(records, list):
        msg = "The message is not an S3 notification: it has no Records"
        raise InvalidEvent(msg)
    return [
        event_from_record(record, generation)
        for record in records
        if _text(record, "eventName").removeprefix("s3:").startswith("ObjectCreated:")
    ]


def event_from_record(record: Json, generation: int = 0) -> CloudEvent:
    """Turn one record of an S3 notification into an event. Raises `InvalidEvent`."""
    found = object_from_record(record)
    region, name = _text(record, "awsRegion"), _text(record, "eventName").removeprefix("s3:")
    return new_event(
        {
            "id": object_id(found, generation),
            "source": f"aws:s3.{region}.{found.bucket}",
            "type": ADAPTER_PREFIX + name,
            "subject": found.key,
            "time": time_of_record(record),
            GENERATION: generation,
        },
        record,
    )


def object_from_event(event: CloudEvent) -> S3Object:
    """Read which object an event announces. Raises `InvalidEvent` for any other type or data."""
    if not event.get_type().startswith(S3_OBJECT_CREATED):
        msg = f"Event type {event.get_type()!r} does not start with {S3_OBJECT_CREATED!r}"
        raise InvalidEvent(msg)
    return object_from_record(data_of(event))


def object_from_record(record: Json) -> S3Object:
    """Read the object out of an S3 record. Raises `InvalidEvent`."""
    s3 = _child(record, "s3")
    bucket, found = _child(s3, "bucket"), _child(s3, "object")
    size, version_id = found.get("size"), found.get("versionId")
    return S3Object(
        bucket=_text(bucket, "name"),
        # Keys are form-encoded: a space comes as "+", a plus as "%2B".
        key=unquote_plus(_text(found, "key")),
        # An object older than the bucket's versioning has the version "null".
        version_id=version_id if isinstance(version_id, str) and version_id != "null" else "",
        etag=str(found.get("eTag") or "").strip('"'),
        size=size if isinstance(size, int) else None,
    )


def time_of_record(record: Json) -> datetime:
    """Read when the object was created. Raises `InvalidEvent`, also for a time without a zone."""
    try:
        time = datetime.fromisoformat(_text(record, "eventTime"))
    except ValueError as err:
        msg = "The S3 record's eventTime is not a time"
        raise InvalidEvent(msg) from err
    if time.tzinfo is None:
        msg = "The S3 record's eventTime has no time zone"
        raise InvalidEvent(msg)
    return time


def object_id(found: S3Object, generation: int = 0) -> str:
    """Name one audit of one object version: 32 hex digits, the same from whatever told of it.

    Without a version, entity tag and size stand in. `generation` is 0 until someone asks for a
    second audit.
    """
    version = [found.version_id] if found.version_id else [found.etag, str(found.size)]
    identity = "\x00".join([found.bucket, found.key, *version, str(generation)])
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


def audit_id(event: CloudEvent) -> str:
    """Name the audit that an event asks for.

    Derived from the object, not taken from the event: other sources put ids of their own there.
    """
    generation = event.get_extension(GENERATION) or 0
    try:
        return object_id(object_from_event(event), int(generation))
    except ValueError as err:
        msg = f"Event {event.get_id()!r} has no whole number as {GENERATION}"
        raise InvalidEvent(msg) from err


def place_of(key: str) -> tuple[str, str]:
    """Read store and camera from a key such as store-17/cam-2/0815.jpg; empty where it has none."""
    store, _, rest = key.partition("/")
    camera, _, name = rest.partition("/")
    return (store, camera) if name else ("", "")


def _child(parent: Json, name: str) -> Json:
    child = parent.get(name)
    if not isinstance(child, dict):
        msg = f"The S3 record has no {name}"
        raise InvalidEvent(msg)
    return child


def _text(parent: object, name: str) -> str:
    text = parent.get(name) if isinstance(parent, dict) else None
    if not isinstance(text, str) or not text:
        msg = f"The S3 record has no {name}"
        raise InvalidEvent(msg)
    return text
