"""Batch calls of SQS, with each entry's failure."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import BatchResultErrorEntryTypeDef

log = logging.getLogger(__name__)

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html
MAX_ENTRIES = 10
MAX_BATCH_BYTES = 256 * 1024  # queues made before 2025 still have this limit


@dataclass(frozen=True)
class Failed:
    """An entry that SQS did not do."""

    index: int  # in what was given
    code: str
    final: bool  # the entry is at fault: another try fails as well


def is_fifo(url_or_arn: str) -> bool:
    """Tell a FIFO queue or topic, which neither S3 nor we can send to, by its name.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-event-types-and-destinations.html
    """
    return url_or_arn.endswith(".fifo")


def send_all(sqs: SQSClient, queue_url: str, bodies: Sequence[str]) -> dict[int, str]:
    """Send messages; return the id of each that SQS took, by index. Raises botocore's errors."""
    sent: dict[int, str] = {}
    for batch in _batches(bodies):
        answer = sqs.send_message_batch(
            QueueUrl=queue_url,
            Entries=[{"Id": str(index), "MessageBody": bodies[index]} for index in batch],
        )
        _failed("queue.send_failed", answer.get("Failed"))
        sent |= {int(entry["Id"]): entry["MessageId"] for entry in answer.get("Successful", [])}
    return sent


def delete_all(sqs: SQSClient, queue_url: str, receipt_handles: Sequence[str]) -> list[Failed]:
    """Delete received messages and return those that are still there. Raises botocore's errors."""
    failed: list[Failed] = []
    for batch in tens(range(len(receipt_handles))):
        answer = sqs.delete_message_batch(
            QueueUrl=queue_url,
            Entries=[{"Id": str(i), "ReceiptHandle": receipt_handles[i]} for i in batch],
        )
        failed += _failed("queue.delete_failed", answer.get("Failed"))
    return failed


def change_visibility(
    sqs: SQSClient, queue_url: str, receipt_handles: Sequence[str], seconds: int
) -> list[Failed]:
    """Hide received messages for that long from now and return those that were not.

    0 seconds make them visible again. Raises botocore's errors.
    """
    failed: list[Failed] = []
    for batch in tens(range(len(receipt_handles))):
        answer = sqs.change_message_visibility_batch(
            QueueUrl=queue_url,
            Entries=[
                {"Id": str(i), "ReceiptHandle": receipt_handles[i], "VisibilityTimeout": seconds}
                for i in batch
            ],
        )
        failed += _failed("queue.change_visibility_failed", answer.get("Failed"))
    return failed


def parse_redrive(text: str) -> tuple[str, int]:
    """Read a RedrivePolicy: the dead-letter queue's ARN and maxReceiveCount; "" and 0 without."""
    policy = json.loads(text or "{}")
    return str(policy.get("deadLetterTargetArn", "")), int(policy.get("maxReceiveCount", 0))


def queue_arn(sqs: SQSClient, queue_url: str) -> str:
    """Look up a queue's ARN. Raises botocore's errors."""
    answer = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])
    return answer["Attributes"]["QueueArn"]


def url_of(sqs: SQSClient, arn: str) -> str:
    """Look up a queue's address, in whichever account it is. Raises botocore's errors."""
    account, name = arn.split(":")[-2:]
    return sqs.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]


def tens(indices: range) -> Iterator[range]:
    """Cut a range into ranges of at most as many as one call takes."""
    for start in range(0, len(indices), MAX_ENTRIES):
        yield indices[start : start + MAX_ENTRIES]


def _batches(bodies: Sequence[str]) -> Iterator[list[int]]:
    """Cut messages into batches that SQS takes, by number and by size."""
    batch: list[int] = []
    size = 0
    for index, body in enumerate(bodies):
        length = len(body.encode())
        if batch and (len(batch) == MAX_ENTRIES or size + length > MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(index)
        size += length
    if batch:
        yield batch


def _failed(event: str, entries: Sequence[BatchResultErrorEntryTypeDef] | None) -> list[Failed]:
    """Log and return the failures of one answer."""
    failed = []
    for entry in entries or ():
        log.warning(event, extra={"code": entry["Code"], "error": entry.get("Message", "")})
        failed.append(Failed(int(entry["Id"]), entry["Code"], entry.get("SenderFault", False)))
    return failed
