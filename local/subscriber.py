"""A subscriber of the topic: receives events from its queue, and follows claim checks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from events.codec import Json, from_json, to_json

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient


def receive_events(sqs: SQSClient, s3: S3Client, queue_url: str, wait: int = 1) -> Iterator[Json]:
    """Receive what is there, at most ten events, after a wait of at most `wait` seconds.

    Yields each event as a JSON object and deletes its message when the next one is asked for.
    """
    answer = sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=wait)
    for message in answer.get("Messages", []):
        event: Json = json.loads(to_json(from_json(message["Body"])))
        if "dataref" in event:
            event["data"] = _claimed_data(s3, str(event["dataref"]))
        yield event
        sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])


def _claimed_data(s3: S3Client, uri: str) -> Json:
    """Read the data of an event that was too large for the topic."""
    parts = urlsplit(uri)
    answer = s3.get_object(Bucket=parts.netloc, Key=parts.path.removeprefix("/"))
    data: Json = json.loads(answer["Body"].read())
    return data
