"""What waits on the queues, as the source's metrics tell it."""

import math
import time
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from conftest import Aws

from events.source import queue_depths
from events.source.metrics import SourceMetrics
from events.source.queue_depths import QueueDepths


def depth(metrics: SourceMetrics, queue: str) -> float | None:
    value: float | None = metrics.registry.get_sample_value(
        "shelfwatch_source_queue_messages", {"queue": queue}
    )
    return value


def wait_for_depth(metrics: SourceMetrics, queue: str, expected: float) -> None:
    deadline = time.monotonic() + 10
    while (found := depth(metrics, queue)) != expected:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def test_depths_follow_both_queues(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_depths, "READ_SECONDS", 0.1)
    metrics = SourceMetrics()
    urls = {"images": aws.resources.queue_url, "dead_letters": aws.resources.dlq_url}
    with QueueDepths(aws.sqs, urls, metrics.queue_messages):
        wait_for_depth(metrics, "images", 0)
        wait_for_depth(metrics, "dead_letters", 0)
        aws.sqs.send_message(QueueUrl=urls["dead_letters"], MessageBody="x")
        wait_for_depth(metrics, "dead_letters", 1)
        assert depth(metrics, "images") == 0
        aws.sqs.purge_queue(QueueUrl=urls["dead_letters"])
        wait_for_depth(metrics, "dead_letters", 0)


def test_what_cannot_be_read_is_no_number_and_is_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queue_depths, "READ_SECONDS", 0.05)
    answers: list[object] = [5, EndpointConnectionError(endpoint_url="x"), 7]
    seen: list[float | None] = []
    metrics = SourceMetrics()

    class Sqs:
        def get_queue_attributes(self, **_: object) -> object:
            seen.append(depth(metrics, "images"))
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            if isinstance(answer, Exception):
                raise answer
            return {"Attributes": {"ApproximateNumberOfMessages": str(answer)}}

    sqs: Any = Sqs()
    with QueueDepths(sqs, {"images": "q"}, metrics.queue_messages):
        wait_for_depth(metrics, "images", 7)
    assert seen[1] == 5
    assert seen[2] is not None
    assert math.isnan(seen[2])
