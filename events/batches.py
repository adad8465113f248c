"""SQS by the batch. Each of its batch calls answers 200 with failures inside, which are told."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import BatchResultErrorEntryTypeDef

log = logging.getLogger(__name__)

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html
MAX_ENTRIES = 10
MAX_BATCH_BYTES = 256 * 1024  # queues made before 2025 still have this limit


def send_all(sqs: SQSClient, queue_url: str, bodies: Sequence[str]) -> set[int]:
    """Send messages and return the indices of those that SQS took. Raises botocore's errors."""
    sent: set[int] = set()
    for batch in _batches(bodies):
        answer = sqs.send_message_batch(
            QueueUrl=queue_url,
            Entries=[{"Id": str(index), "MessageBody": bodies[index]} for index in batch],
        )
        sent |= {int(entry["Id"]) for entry in answer.get("Successful", [])}
        _tell("queue.send_failed", answer.get("Failed", []))
    return sent


def delete_all(sqs: SQSClient, queue_url: str, receipt_handles: Sequence[str]) -> int:
    """Delete received messages and return how many are gone. Raises botocore's errors."""
    deleted = 0
    for batch in _tens(range(len(receipt_handles))):
        answer = sqs.delete_message_batch(
            QueueUrl=queue_url,
            Entries=[{"Id": str(i), "ReceiptHandle": receipt_handles[i]} for i in batch],
        )
        deleted += len(answer.get("Successful", []))
        _tell("queue.delete_failed", answer.get("Failed", []))
    return deleted


def give_back(sqs: SQSClient, queue_url: str, receipt_handles: Sequence[str]) -> None:
    """Make received messages visible again. Raises botocore's errors; leases end by themselves."""
    for batch in _tens(range(len(receipt_handles))):
        answer = sqs.change_message_visibility_batch(
            QueueUrl=queue_url,
            Entries=[
                {"Id": str(i), "ReceiptHandle": receipt_handles[i], "VisibilityTimeout": 0}
                for i in batch
            ],
        )
        _tell("queue.give_back_failed", answer.get("Failed", []))


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


def _tens(indices: range) -> Iterator[range]:
    for start in range(0, len(indices), MAX_ENTRIES):
        yield indices[start : start + MAX_ENTRIES]


def _tell(event: str, failed: Sequence[BatchResultErrorEntryTypeDef]) -> None:
    for entry in failed:
        log.warning(event, extra={"code": entry["Code"], "error": entry.get("Message", "")})
