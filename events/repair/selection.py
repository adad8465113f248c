"""What a message of the dead-letter queue says of itself, and which of them are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cloudevents.core.v1.event import CloudEvent

from events.codec import InvalidEvent
from events.repair.commands import ALWAYS, Window
from events.s3_notification import S3Object, items_from_body, object_from_event
from events.types import Reason

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

# What was no S3 notification yesterday is none today; all else may have been mended.
REPLAYED = (Reason.EXHAUSTED, Reason.UNKNOWN, Reason.REFUSED)


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """A message of the dead-letter queue, and why it is there."""

    body: str
    message_id: str  # of the message that was given up
    receipt_handle: str
    reason: Reason
    detail: str
    time: datetime  # given up at; sent at, where nobody said
    photos: tuple[S3Object, ...]  # empty for a body that cannot be read

    @classmethod
    def from_message(cls, message: MessageTypeDef) -> DeadLetter:
        """Read a received message."""
        facts = {
            name: value.get("StringValue", "")
            for name, value in message.get("MessageAttributes", {}).items()
        }
        return cls(
            body=message["Body"],
            # SQS keeps the id of what it moves; the source sends a copy, which has another.
            message_id=facts.get("source_message_id") or message["MessageId"],
            receipt_handle=message["ReceiptHandle"],
            reason=_reason(facts.get("reason", "")),
            detail=facts.get("detail", ""),
            time=_time(facts.get("given_up_at", ""), message["Attributes"]["SentTimestamp"]),
            photos=_photos(message["Body"]),
        )


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which dead letters to replay; all conditions must hold."""

    reasons: frozenset[Reason] = frozenset(REPLAYED)
    bucket: str = ""
    prefix: str = ""  # of a photo's key
    window: Window = ALWAYS

    def holds(self, letter: DeadLetter) -> bool:
        """Tell whether a dead letter is selected."""
        return (
            letter.reason in self.reasons
            and self.window.holds(letter.time)
            and (not (self.bucket or self.prefix) or any(map(self._holds_photo, letter.photos)))
        )

    def _holds_photo(self, photo: S3Object) -> bool:
        return self.bucket in ("", photo.bucket) and photo.key.startswith(self.prefix)


def _reason(text: str) -> Reason:
    try:
        return Reason(text)
    except ValueError:
        return Reason.UNKNOWN


def _time(given_up_at: str, sent_timestamp: str) -> datetime:
    try:
        time = datetime.fromisoformat(given_up_at)
    except ValueError:
        time = datetime.fromtimestamp(int(sent_timestamp) / 1000, UTC)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _photos(body: str) -> tuple[S3Object, ...]:
    try:
        items = items_from_body(body)
    except InvalidEvent:
        return ()
    return tuple(object_from_event(item) for item in items if isinstance(item, CloudEvent))
