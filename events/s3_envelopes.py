"""The forms in which S3's news arrive, all turned into the records of its own notification. Pure.

- an S3 notification, sent to the queue: `Records`, record versions 2.x
- the same through an SNS topic without raw delivery: a string in `Message`
- S3 through EventBridge: one object in `detail`, its names spelt otherwise, its key not encoded
- `s3:TestEvent`, which announces a bucket's rule and no object
"""

from __future__ import annotations

from urllib.parse import quote_plus

from events.codec import InvalidEvent, Json, read_json

# What EventBridge says of how the object came; ObjectCreated:* for a notification.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
EVENTBRIDGE_REASONS = {
    "PutObject": "Put",
    "POST Object": "Post",
    "CopyObject": "Copy",
    "CompleteMultipartUpload": "CompleteMultipartUpload",
}


def notification_from_body(body: str | bytes) -> Json:
    """Read an S3 notification out of a message in any of the forms. Raises `InvalidEvent`."""
    message = _object(body)
    if message.get("Type") == "Notification" and "TopicArn" in message:
        message = _object(text_of(message, "Message"))
    if message.get("Event") == "s3:TestEvent":
        return {"Records": []}
    if message.get("source") == "aws.s3" and "detail" in message:
        return {"Records": _eventbridge_records(message)}
    if not isinstance(message.get("Records"), list):
        msg = "The message is not an S3 notification: it has no Records"
        raise InvalidEvent(msg)
    return message


def child_of(parent: object, name: str) -> Json:
    """Return an object inside a record. Raises `InvalidEvent` where there is none."""
    child = parent.get(name) if isinstance(parent, dict) else None
    if not isinstance(child, dict):
        msg = f"The S3 record has no {name}"
        raise InvalidEvent(msg)
    return child


def text_of(parent: object, name: str) -> str:
    """Return a text inside a record. Raises `InvalidEvent` for none, an empty or a broken one."""
    text = parent.get(name) if isinstance(parent, dict) else None
    if not isinstance(text, str) or not text:
        msg = f"The S3 record has no {name}"
        raise InvalidEvent(msg)
    try:
        text.encode()
    except UnicodeEncodeError as err:  # half of a surrogate pair, which JSON can spell
        msg = f"The S3 record's {name} is not Unicode"
        raise InvalidEvent(msg) from err
    return text


def _object(body: str | bytes) -> Json:
    message = read_json(body)
    if not isinstance(message, dict):
        msg = "The message is not an S3 notification"
        raise InvalidEvent(msg)
    return message


def _eventbridge_records(message: Json) -> list[Json]:
    """Spell one EventBridge event of S3 as a notification does; none unless it is a creation."""
    if message.get("detail-type") != "Object Created":
        return []
    detail = child_of(message, "detail")
    found = child_of(detail, "object")
    reason = EVENTBRIDGE_REASONS.get(str(detail.get("reason")), "Put")
    described = {
        "key": quote_plus(text_of(found, "key"), safe="/"),
        "size": found.get("size"),
        "eTag": found.get("etag"),
        "versionId": found.get("version-id"),
        "sequencer": found.get("sequencer"),
    }
    record: Json = {
        "eventVersion": "2.0",
        "eventSource": "aws:s3",
        "awsRegion": text_of(message, "region"),
        "eventTime": text_of(message, "time"),
        "eventName": f"ObjectCreated:{reason}",
        "s3": {
            "bucket": child_of(detail, "bucket"),
            "object": {name: value for name, value in described.items() if value is not None},
        },
    }
    return [record]
