"""What S3 announces, as tests read it."""

from cloudevents.core.v1.event import CloudEvent

from events.codec import InvalidEvent
from events.s3_notification import items_from_body


def events_from_body(body: str | bytes, generation: int = 0) -> list[CloudEvent]:
    """Read the events of a message; raise what is wrong with any of its records."""
    items = items_from_body(body, generation)
    for item in items:
        if isinstance(item, InvalidEvent):
            raise item
    return [item for item in items if isinstance(item, CloudEvent)]
