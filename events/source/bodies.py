"""What a queue's messages hold: S3's notifications, or events as our topic sends them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial

from events.codec import InvalidEvent, from_json, read_json, shown
from events.s3_envelopes import check_is_no_confirmation
from events.s3_notification import Item, items_from_body

NOTIFICATIONS, EVENTS = "notifications", "events"
# Who may send to the queue, which must let one of them in: S3's notifications come by themselves,
# or through a topic or EventBridge.
SENDERS = {NOTIFICATIONS: ("s3", "sns", "events"), EVENTS: ("sns",)}

# What a message's body holds, one item a record or event; raises `InvalidEvent` for the whole.
ReadBody = Callable[[str], list[Item]]


def read_body_of(
    queue_holds: str, generation: int = 0, our_buckets: Collection[str] = ()
) -> ReadBody:
    """Choose how to read a message's body; the rest is for images that a body announces."""
    if queue_holds == EVENTS:
        return items_from_topic
    return partial(items_from_body, generation=generation, our_buckets=our_buckets)


def items_from_topic(body: str) -> list[Item]:
    """Read the event that a topic sent: the message itself, or wrapped by SNS. Raises
    `InvalidEvent`, and `Unconfirmed` for a question of SNS."""
    message = read_json(body)
    if isinstance(message, dict):
        check_is_no_confirmation(message)
        if message.get("Type") == "Notification":
            wrapped = message.get("Message")
            if not isinstance(wrapped, str):
                msg = f"`Message` of SNS's notification must be a text, got {shown(wrapped)}"
                raise InvalidEvent(msg)
            return [from_json(wrapped)]
    return [from_json(body)]
