"""What the source gives up on: copied to the dead-letter queue with the reason, then deleted.

The copy has the message's body unchanged and says in attributes why it is there. A message that
SQS moved by itself after maxReceiveCount has no such attributes: its reason is unknown.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from events.types import Reason

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

DETAIL_CHARACTERS = 200


class DeadLetters:
    """The dead-letter queue of one queue."""

    def __init__(self, sqs: SQSClient, queue_url: str) -> None:
        self._sqs = sqs
        self._queue_url = queue_url

    def copy(self, message: MessageTypeDef, reason: Reason, detail: str) -> None:
        """Send a copy. Raises botocore's errors; the message itself stays where it is."""
        facts = {
            "reason": reason.value,
            "detail": _printable(detail),
            "source_message_id": message["MessageId"],
            "receive_count": str(receive_count(message)),
            "given_up_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._sqs.send_message(
            QueueUrl=self._queue_url,
            MessageBody=message["Body"],
            MessageAttributes={
                name: {"DataType": "String", "StringValue": value} for name, value in facts.items()
            },
        )


def receive_count(message: MessageTypeDef) -> int:
    """Tell how often a message has been received, this time included."""
    return int(message.get("Attributes", {}).get("ApproximateReceiveCount", "1"))


def _printable(detail: str) -> str:
    """Make a value that SQS takes: not empty, no control characters."""
    text = "".join(character for character in detail if character.isprintable())
    return text[:DETAIL_CHARACTERS] or "-"
