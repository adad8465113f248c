"""What a queue's messages hold: S3's notifications, or events as our topic sends them. Pure."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from cloudevents.core.v1.event import CloudEvent

from events.codec import InvalidEvent, from_json, read_json
from events.s3_notification import events_from_body

NOTIFICATIONS, EVENTS = "notifications", "events"
# Who sends to the queue: it must let that service in.
SENDERS = {NOTIFICATIONS: "s3", EVENTS: "sns"}

ReadBody = Callable[[str], list[CloudEvent]]


def read_body_of(queue_holds: str, generation: int = 0) -> ReadBody:
    """Choose how to read a message's body; `generation` is for images that a body announces."""
    if queue_holds == EVENTS:
        return events_from_topic
    return partial(events_from_body, generation=generation)


def events_from_topic(body: str) -> list[CloudEvent]:
    """Read the event that a topic sent: the message itself, or wrapped by SNS. Raises
    `InvalidEvent`."""
    message = read_json(body)
    if isinstance(message, dict) and message.get("Type") == "Notification":
        wrapped = message.get("Message")
        if not isinstance(wrapped, str):
            msg = "SNS's notification has no Message"
            raise InvalidEvent(msg)
        return [from_json(wrapped)]
    return [from_json(body)]
