"""Every form of an S3 notification, turned into the records of S3's own form. Pure.

- an S3 notification, sent to the queue: `Records`, record versions 2.x
- the same through an SNS topic without raw delivery: a string in `Message`
- S3 through EventBridge: one object in `detail`, its names spelt otherwise, its key not encoded
- `s3:TestEvent`, which announces a bucket's rule and no object

What is JSON and none of these has an error of its own: another service's news, or a question of
SNS.
"""

from __future__ import annotations

from urllib.parse import quote_plus

from events.codec import InvalidEvent, Json, read_json, shown
from events.types import Ignored, Reason

# What EventBridge says of how the object came; ObjectCreated:* for a notification.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
EVENTBRIDGE_REASONS = {
    "PutObject": "Put",
    "POST Object": "Post",
    "CopyObject": "Copy",
    "CompleteMultipartUpload": "CompleteMultipartUpload",
}
EVENTBRIDGE_CREATED = "Object Created"
# S3's other news through EventBridge, by `detail-type`: what a notification calls them.
EVENTBRIDGE_IGNORED = {
    "Object Deleted": Ignored.REMOVED,
    "Object Restore Initiated": Ignored.RESTORE,
    "Object Restore Completed": Ignored.RESTORE,
    "Object Restore Expired": Ignored.RESTORE,
    "Object Tags Added": Ignored.TAGGING,
    "Object Tags Deleted": Ignored.TAGGING,
    "Object ACL Updated": Ignored.ACL,
    "Object Storage Class Changed": Ignored.TRANSITION,
    "Object Access Tier Changed": Ignored.TIERING,
}
# What SNS sends besides events; a topic of another account, or its console, brings them about.
# https://docs.aws.amazon.com/sns/latest/dg/http-subscription-confirmation-json.html
SNS_CONFIRMATIONS = ("SubscriptionConfirmation", "UnsubscribeConfirmation")


class Unrelated(InvalidEvent):
    """The message is readable, and about something other than an object in S3."""

    reason = Reason.UNRELATED


class Unconfirmed(InvalidEvent):
    """SNS asks to confirm a subscription; the topic sends nothing before that."""

    reason = Reason.UNCONFIRMED


def notification_from_body(body: str | bytes) -> Json:
    """Read an S3 notification out of a message in any of the forms: `Records` has one or more.

    Raises `InvalidEvent`, `Unrelated` and `Unconfirmed`.
    """
    message = _object(body)
    check_is_no_confirmation(message)
    if message.get("Type") == "Notification" and "TopicArn" in message:
        message = _object(text_of(message, "Message"))
    if message.get("Event") == Ignored.TEST_EVENT:
        return {"Records": [_ignored_record(Ignored.TEST_EVENT)]}
    if "detail-type" in message and "source" in message:
        return {"Records": [_eventbridge_record(message)]}
    records = message.get("Records")
    if not isinstance(records, list) or not records:
        msg = f"`Records` must be a list of S3's records, got {shown(records)}"
        raise InvalidEvent(msg)
    return message


def child_of(parent: object, name: str) -> Json:
    """Return an object inside a record. Raises `InvalidEvent` where there is none."""
    child = parent.get(name) if isinstance(parent, dict) else None
    if not isinstance(child, dict):
        msg = f"`{name}` of the S3 record must be an object, got {shown(child)}"
        raise InvalidEvent(msg)
    return child


def text_of(parent: object, name: str) -> str:
    """Return a text inside a record. Raises `InvalidEvent` for none, an empty or a broken one."""
    text = parent.get(name) if isinstance(parent, dict) else None
    if not isinstance(text, str) or not text:
        msg = f"`{name}` of the S3 record must be a text that is not empty, got {shown(text)}"
        raise InvalidEvent(msg)
    try:
        text.encode()
    except UnicodeEncodeError as err:  # half of a surrogate pair, which JSON can spell
        msg = f"`{name}` of the S3 record must be Unicode, got {shown(text)}"
        raise InvalidEvent(msg) from err
    return text


def _object(body: str | bytes) -> Json:
    message = read_json(body)
    if not isinstance(message, dict):
        msg = f"An S3 notification must be a JSON object, got {shown(message)}"
        raise InvalidEvent(msg)
    return message


def check_is_no_confirmation(message: Json) -> None:
    """Raise `Unconfirmed` for a question of SNS, and say what to do about it.

    It is not answered here: whoever may send to the queue could have it listen to any topic.
    """
    if message.get("Type") not in SNS_CONFIRMATIONS:
        return
    topic_arn = text_of(message, "TopicArn")
    raise Unconfirmed(
        f"{message['Type']} of {topic_arn}: if it is wanted, aws sns confirm-subscription"
        f" --topic-arn {topic_arn} --token (that of the body)"
    )


def _ignored_record(kind: Ignored) -> Json:
    return {"eventVersion": "2.0", "eventSource": "aws:s3", "eventName": kind.value}


def _eventbridge_record(message: Json) -> Json:
    """Spell one EventBridge event of S3 as a notification does."""
    source, detail_type = message["source"], message["detail-type"]
    if source == "aws.s3" and detail_type in EVENTBRIDGE_IGNORED:
        return _ignored_record(EVENTBRIDGE_IGNORED[str(detail_type)])
    if (source, detail_type) != ("aws.s3", EVENTBRIDGE_CREATED):
        msg = (
            f"`detail-type` must be '{EVENTBRIDGE_CREATED}' of aws.s3,"
            f" got {shown(detail_type)} of {shown(source)}"
        )
        raise Unrelated(msg)
    detail = child_of(message, "detail")
    announced = child_of(detail, "object")
    reason = EVENTBRIDGE_REASONS.get(str(detail.get("reason")), "Put")
    described = {
        "key": quote_plus(text_of(announced, "key"), safe="/"),
        "size": announced.get("size"),
        "eTag": announced.get("etag"),
        "versionId": announced.get("version-id"),
        "sequencer": announced.get("sequencer"),
    }
    return {
        "eventVersion": "2.0",
        "eventSource": "aws:s3",
        "awsRegion": message.get("region"),
        "eventTime": text_of(message, "time"),
        "eventName": f"ObjectCreated:{reason}",
        "s3": {
            "bucket": child_of(detail, "bucket"),
            "object": {name: value for name, value in described.items() if value is not None},
        },
    }
