"""S3 notifications as CloudEvents, one a record. Pure; nothing here does IO.

Attributes follow the CloudEvents adapter for S3 but for `id`: the adapter's is one a request, ours
is one an object version, so that a redelivery, a second notification and a bucket listing agree.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import cast
from urllib.parse import quote_plus, unquote_plus

from cloudevents.core.v1.event import CloudEvent

from events.codec import InvalidEvent, Json, data_of, new_event
from events.s3_envelopes import child_of, notification_from_body, text_of
from events.types import S3_OBJECT_CREATED, SQS_MESSAGE_TYPES

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


def events_from_body(body: str | bytes, generation: int = 0) -> list[CloudEvent]:
    """Turn an SQS message's body into events, one a created object, whatever form S3's news took.

    `s3:TestEvent` and records of other operations give none. A generation in the notification,
    which only `notification_body` writes, goes before the given one. Raises `InvalidEvent`.
    """
    notification = notification_from_body(body)
    generation = _generation(notification.get(GENERATION, generation))
    records = cast("list[Json]", notification["Records"])
    return [event_from_record(record, generation) for record in records if _is_creation(record)]


def image_events(event: CloudEvent, generation: int = 0) -> list[CloudEvent]:
    """Turn an event into image events: itself, or those of the SQS message that it carries.

    Raises `InvalidEvent` for any other type.
    """
    if event.get_type() not in SQS_MESSAGE_TYPES:
        object_from_event(event)
        return [event]
    data = event.get_data()
    body = data if isinstance(data, str | bytes) else json.dumps(data)
    return events_from_body(body, generation)


def notification_body(found: S3Object, time: datetime, region: str, generation: int = 0) -> str:
    """Write the notification of a created object as S3 would, so that its event has the same id."""
    described: Json = {"key": quote_plus(found.key, safe="/"), "size": found.size}
    described |= {"eTag": found.etag} if found.etag else {}
    described |= {"versionId": found.version_id} if found.version_id else {}
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": region,
        "eventTime": time.isoformat(),
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": found.bucket}, "object": described},
    }
    return json.dumps({"Records": [record], GENERATION: generation})


def event_from_record(record: Json, generation: int = 0) -> CloudEvent:
    """Turn one record of an S3 notification into an event. Raises `InvalidEvent`."""
    found = object_from_record(record)
    region, name = text_of(record, "awsRegion"), text_of(record, "eventName").removeprefix("s3:")
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
    s3 = child_of(record, "s3")
    bucket, found = child_of(s3, "bucket"), child_of(s3, "object")
    size, version_id = found.get("size"), found.get("versionId")
    return S3Object(
        bucket=text_of(bucket, "name"),
        key=_decoded(text_of(found, "key")),
        # An object older than the bucket's versioning has the version "null".
        version_id=version_id if isinstance(version_id, str) and version_id != "null" else "",
        etag=str(found.get("eTag") or "").strip('"'),
        size=size if isinstance(size, int) else None,
    )


def time_of_record(record: Json) -> datetime:
    """Read when the object was created. Raises `InvalidEvent`, also for a time without a zone."""
    try:
        time = datetime.fromisoformat(text_of(record, "eventTime"))
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


def _is_creation(record: Json) -> bool:
    """Tell S3's creations from its other news. Raises `InvalidEvent` for another service's."""
    name = text_of(record, "eventName").removeprefix("s3:")
    version, source = str(record.get("eventVersion", "2.0")), str(record.get("eventSource", ""))
    # A new major version may mean other fields; stores that speak S3 say minio:s3 or ceph:s3.
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
    if not version.startswith("2.") or not source.endswith(":s3"):
        msg = f"The record is of {source!r} in version {version!r}, not of S3 in version 2"
        raise InvalidEvent(msg)
    return name.startswith("ObjectCreated:")


def _generation(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        msg = f"{GENERATION} is {value!r}, not a whole number from 0"
        raise InvalidEvent(msg)
    return value


def _decoded(key: str) -> str:
    """Undo the form-encoding: a space comes as "+", a plus as "%2B"."""
    try:
        return unquote_plus(key, errors="strict")
    except UnicodeDecodeError as err:  # S3's keys are UTF-8
        msg = f"The S3 record's key {key!r} is not UTF-8"
        raise InvalidEvent(msg) from err
