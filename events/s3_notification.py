"""S3 notifications as CloudEvents, one a record. Pure; nothing here does IO.

Attributes follow the CloudEvents adapter for S3 but for `id`: the adapter's is one a request, ours
is one an object version, so that a redelivery, a second notification and a bucket listing agree.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import cast
from urllib.parse import quote_plus, unquote_plus

from cloudevents.core.v1.event import CloudEvent

from events.codec import InvalidEvent, Json, data_of, new_event, shown
from events.s3_envelopes import Unrelated, child_of, notification_from_body, text_of
from events.types import (
    GENERATION,
    MAX_GENERATION,
    OUR_PREFIXES,
    RECEIVE_COUNT,
    S3_OBJECT_CREATED,
    SQS_MESSAGE_TYPES,
    Ignored,
)

# MD5 or as long as one, with the number of parts behind a multipart upload's.
# https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
ETAG = re.compile(r"[0-9a-fA-F]{32}(-\d{1,5})?")
ADAPTER_PREFIX = "com.amazonaws.s3."
CREATED = "ObjectCreated"


@dataclass(frozen=True, kw_only=True)
class S3Object:
    """One version of one object, as a notification announces it or S3 describes it."""

    bucket: str
    key: str  # decoded
    version_id: str = ""  # empty where the bucket is not versioned
    etag: str = ""
    size: int | None = None  # bytes; some stores announce none, or 0 for a multipart upload
    written_key: str = field(default="", compare=False)  # as the notification has it

    @property
    def uri(self) -> str:
        """Name the object as people do."""
        return f"s3://{self.bucket}/{self.key}"

    def spellings(self) -> Iterator[S3Object]:
        """Name the object by each key that may be meant, the likeliest first.

        S3 encodes keys once; some of its clones do not, and some bridges do it twice.
        """
        keys = (self.key, self.written_key or self.key, _decoded(self.key))
        for key in dict.fromkeys(keys):
            yield self if key == self.key else replace(self, key=key)


@dataclass(frozen=True)
class IgnoredRecord:
    """A record that asks for no audit."""

    kind: Ignored
    uri: str = ""  # empty where it is about no object


# What one record of a notification is.
Item = CloudEvent | IgnoredRecord | InvalidEvent


def items_from_body(
    body: str | bytes, generation: int = 0, our_buckets: Collection[str] = ()
) -> list[Item]:
    """Read an SQS message's body in any form of an S3 notification: one item a record.

    A record that cannot be read is an `InvalidEvent` in its place, as the others may be good.
    `our_buckets` hold results or references. A generation in the notification, which only `body_of`
    writes, overrides the given one. Raises `InvalidEvent` for a body without records.
    """
    notification = notification_from_body(body)
    generation = _generation(notification.get(GENERATION, generation))
    records = cast("list[Json]", notification["Records"])
    return [_item(record, generation, our_buckets) for record in records]


def image_items(event: CloudEvent | InvalidEvent, generation: int = 0) -> list[Item]:
    """Turn an event into image events: itself, or those of the SQS message that it carries.

    An `InvalidEvent` takes the position of it, or of a record, where that cannot be read.
    """
    if isinstance(event, InvalidEvent):
        return [event]
    try:
        if event.get_type() not in SQS_MESSAGE_TYPES:
            object_from_event(event)
            return [event]
        data = event.get_data()
        body = data if isinstance(data, str | bytes) else json.dumps(data)
        return items_from_body(body, generation)
    except InvalidEvent as err:
        return [err]


def body_of(item: CloudEvent | InvalidEvent) -> str:
    """Write a notification that holds this one of a message's items, so that it can be sent alone.

    Its event has the same id.
    """
    if isinstance(item, InvalidEvent):
        return json.dumps({"Records": [item.record]})
    return json.dumps({"Records": [data_of(item)], GENERATION: generation_of(item)})


def notification_body(s3_object: S3Object, time: datetime, region: str, generation: int = 0) -> str:
    """Write the notification of a created object as S3 would, so that its event has the same id."""
    described: Json = {"key": quote_plus(s3_object.key, safe="/"), "size": s3_object.size}
    described |= {"eTag": s3_object.etag} if s3_object.etag else {}
    described |= {"versionId": s3_object.version_id} if s3_object.version_id else {}
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": region,
        "eventTime": time.isoformat(),
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": s3_object.bucket}, "object": described},
    }
    return json.dumps({"Records": [record], GENERATION: generation})


def event_from_record(record: Json, generation: int = 0) -> CloudEvent:
    """Turn one record of an S3 notification into an event. Raises `InvalidEvent`."""
    s3_object = object_from_record(record)
    region = record.get("awsRegion") or ""  # stores other than AWS have none
    name = text_of(record, "eventName").removeprefix("s3:")
    return new_event(
        {
            "id": object_id(s3_object, generation),
            "source": f"aws:s3.{region}.{s3_object.bucket}",
            "type": ADAPTER_PREFIX + name,
            "subject": s3_object.key,
            "time": time_of_record(record),
            GENERATION: generation,
        },
        record,
    )


def object_from_event(event: CloudEvent) -> S3Object:
    """Read which object an event announces. Raises `InvalidEvent` for any other type or data."""
    if not event.get_type().startswith(S3_OBJECT_CREATED):
        msg = f"`type` must start with {S3_OBJECT_CREATED!r}, got {shown(event.get_type())}"
        raise InvalidEvent(msg)
    return object_from_record(data_of(event))


def object_from_record(record: Json) -> S3Object:
    """Read the object out of an S3 record. Raises `InvalidEvent`."""
    s3 = child_of(record, "s3")
    bucket, described = child_of(s3, "bucket"), child_of(s3, "object")
    written_key = text_of(described, "key")
    return S3Object(
        bucket=text_of(bucket, "name"),
        key=_decoded(written_key),
        version_id=_version_id(described.get("versionId")),
        etag=_etag(described.get("eTag")),
        size=_size(described.get("size")),
        written_key=written_key,
    )


def time_of_record(record: Json) -> datetime:
    """Read when the object was created. Raises `InvalidEvent`, also for a time without a zone."""
    text = text_of(record, "eventTime")
    try:
        time = datetime.fromisoformat(text)
    except ValueError as err:
        msg = f"`eventTime` of the S3 record must be a time as in ISO 8601, got {shown(text)}"
        raise InvalidEvent(msg) from err
    if time.tzinfo is None:
        msg = f"`eventTime` of the S3 record must be a time with a zone, got {shown(text)}"
        raise InvalidEvent(msg)
    return time


def object_id(s3_object: S3Object, generation: int = 0) -> str:
    """Name one audit of one object version: 32 hex digits, the same from whatever announced it.

    Without a version, entity tag and size stand in. `generation` is 0 until someone asks for a
    second audit.
    """
    version = [s3_object.version_id or s3_object.etag]
    version += [] if s3_object.version_id else [str(s3_object.size)]
    identity = "\x00".join([s3_object.bucket, s3_object.key, *version, str(generation)])
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


def generation_of(event: CloudEvent) -> int:
    """Read which audit of the object an event asks for. Raises `InvalidEvent`."""
    value = event.get_extension(GENERATION) or 0
    # Headers carry texts, and so do the events of who knows no numbers.
    return _generation(int(value) if isinstance(value, str) and value.isdecimal() else value)


def is_first_delivery(event: CloudEvent) -> bool:
    """Tell whether the event's source says that SQS handed its message out for the first time."""
    return str(event.get_extension(RECEIVE_COUNT)) == "1"


def audit_id(event: CloudEvent) -> str:
    """Name the audit that an event asks for. Raises `InvalidEvent`.

    Derived from the object, not taken from the event: other sources put ids of their own there.
    """
    return object_id(object_from_event(event), generation_of(event))


def ignored_as(s3_object: S3Object, our_buckets: Collection[str]) -> Ignored | None:
    """Tell keys that are no photo's: our own output and input, and folders; None for a photo's."""
    if s3_object.bucket in our_buckets and s3_object.key.startswith(OUR_PREFIXES):
        return Ignored.OURS
    if s3_object.key.endswith("/") and s3_object.size == 0:
        return Ignored.FOLDER
    return None


def store_and_camera(key: str) -> tuple[str, str]:
    """Read store and camera from a key such as store-17/cam-2/0815.jpg; empty where it has none."""
    store, _, rest = key.partition("/")
    camera, _, name = rest.partition("/")
    return (store, camera) if name else ("", "")


def _item(record: Json, generation: int, our_buckets: Collection[str]) -> Item:
    try:
        if kind := _ignored_operation(record):
            return IgnoredRecord(kind)
        event = event_from_record(record, generation)
        s3_object = object_from_record(record)
    except InvalidEvent as err:
        err.record = record
        return err
    kind = ignored_as(s3_object, our_buckets)
    return IgnoredRecord(kind, s3_object.uri) if kind else event


def _ignored_operation(record: Json) -> Ignored | None:
    """Tell S3's creations, None, from its other news. Raises `InvalidEvent` for what is neither."""
    name = text_of(record, "eventName")
    version, source = str(record.get("eventVersion", "2.0")), str(record.get("eventSource", ""))
    # A new major version may mean other fields; stores that speak S3 say minio:s3 or ceph:s3.
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
    if not version.startswith("2.") or not source.endswith(":s3"):
        msg = f"A record must be of S3 in version 2, got {shown(source)} in version {version!r}"
        raise (InvalidEvent if source.endswith(":s3") else Unrelated)(msg)
    if name == Ignored.TEST_EVENT:
        return Ignored.TEST_EVENT
    operation = name.removeprefix("s3:").partition(":")[0]
    if operation == CREATED:
        return None
    try:
        return Ignored(operation)
    except ValueError as err:
        msg = f"`eventName` of the S3 record must be one that S3 documents, got {shown(name)}"
        raise Unrelated(msg) from err


def _generation(value: object) -> int:
    if type(value) is not int or not 0 <= value <= MAX_GENERATION:
        must_be = f"a whole number from 0 to {MAX_GENERATION}"
        msg = f"`{GENERATION}` must be {must_be}, got {shown(value)}"
        raise InvalidEvent(msg)
    return value


def _version_id(value: object) -> str:
    """Read a version; empty for none and for "null", that of objects older than versioning."""
    version_id = value if isinstance(value, str) and value != "null" else ""
    if not version_id.isprintable():
        msg = f"`versionId` of the S3 record must be printable text, got {shown(version_id)}"
        raise InvalidEvent(msg)
    return version_id


def _size(value: object) -> int | None:
    """Read a size, which some stores write as a text; None for none and for what is no size."""
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    return value if type(value) is int and value >= 0 else None


def _etag(value: object) -> str:
    """Read an entity tag; empty for none and for what S3 never gives: NooBaa cuts its ends off."""
    etag = str(value or "").strip('"')
    return etag if ETAG.fullmatch(etag) else ""


def _decoded(key: str) -> str:
    """Undo the form-encoding: a space comes as "+", a plus as "%2B".

    S3's keys are UTF-8: what decodes to anything else was never encoded.
    """
    try:
        return unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        return key
