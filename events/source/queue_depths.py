"""How many messages wait on the queue and on its dead-letter queue, read twice a minute.

The source cannot know it otherwise: what SQS moves to the dead-letter queue by itself passes by no
process, and while the sink is away nothing is received.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError
from prometheus_client import Gauge

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

log = logging.getLogger(__name__)

READ_SECONDS = 30.0
# Visible ones; those at work are in flight, not waiting.
NAME: Final = "ApproximateNumberOfMessages"


class QueueDepths:
    """A thread that keeps a gauge by queue up to date for the length of the block."""

    def __init__(self, sqs: SQSClient, queue_urls: Mapping[str, str], gauge: Gauge) -> None:
        self._sqs = sqs
        self._queue_urls = queue_urls  # by the label's value
        self._gauge = gauge
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="depths", daemon=True)

    def __enter__(self) -> QueueDepths:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(1.0)  # not longer than the rest takes, should SQS hang

    def _run(self) -> None:
        while True:
            for label, queue_url in self._queue_urls.items():
                self._read(label, queue_url)
            if self._stopped.wait(READ_SECONDS):
                return

    def _read(self, label: str, queue_url: str) -> None:
        try:
            answer = self._sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=[NAME])
        except (ClientError, BotoCoreError) as err:
            # An old number would be taken for a new one; without one the panel has a gap.
            self._gauge.labels(label).set(float("nan"))
            log.warning("queue.depth_unreadable", extra={"queue": label, "error": str(err)})
            return
        self._gauge.labels(label).set(float(answer["Attributes"][NAME]))
