"""What the source gives up on: copied to the dead-letter queue with the reason, then deleted.

The copy has the message's body unchanged, or one record of it where it has several. Its attributes
say why it is there. A message that SQS moved by itself after
maxReceiveCount has no such attributes: its reason is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from events.codec import attribute_text
from events.types import Reason

if TYPE_CHECKING:
    from cloudevents.core.v1.event import CloudEvent
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

DETAIL_CHARACTERS = 300


@dataclass(frozen=True, kw_only=True)
class Letter:
    """What is given up, and why."""

    body: str
    reason: Reason
    detail: str
    event: CloudEvent | None = None  # None where there is none to be read


class DeadLetters:
    """The dead-letter queue of one queue."""

    def __init__(self, sqs: SQSClient, queue_url: str) -> None:
        self._sqs = sqs
        self._queue_url = queue_url

    def copy(self, message: MessageTypeDef, letter: Letter) -> None:
        """Send a copy. Raises botocore's errors; the message itself stays where it is."""
        facts = {
            "reason": letter.reason.value,
            "detail": _printable(letter.detail),
            "source_message_id": message["MessageId"],
            "receive_count": str(receive_count(message)),
            "given_up_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._sqs.send_message(
            QueueUrl=self._queue_url,
            MessageBody=letter.body,
            MessageAttributes={
                name: {"DataType": "String", "StringValue": value} for name, value in facts.items()
            },
        )


def receive_count(message: MessageTypeDef) -> int:
    """Tell how often a message has been received, this time included."""
    return int(message.get("Attributes", {}).get("ApproximateReceiveCount", "1"))


def _printable(detail: str) -> str:
    """Make a value that SQS takes: not empty, nothing that is no character."""
    return attribute_text(detail)[:DETAIL_CHARACTERS] or "-"
