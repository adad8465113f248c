"""The loop of the source: receive from SQS, and hand each message to `delivery`."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from events.source.bodies import read_body_of
from events.source.breaker import Breaker
from events.source.config import SourceConfig
from events.source.dead_letters import DeadLetters
from events.source.deletions import Deletions
from events.source.delivery import Delivery
from events.source.in_flight import InFlight
from events.source.leases import Leases
from events.source.metrics import SourceMetrics
from events.source.queue_checks import Queue
from events.source.sink import Sink

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

log = logging.getLogger(__name__)

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html
MAX_NUMBER_OF_MESSAGES = 10
# After a failed receive, so that a broken queue is not hammered.
RECEIVE_PAUSE = 2.0
# How long the loop waits for a free slot before it looks at the word to stop.
GLANCE = 0.2
# The loop turns at least once a long poll.
STALLED_SECONDS = 120.0


class SqsSource:
    """Moves messages from a queue to a sink until told to stop."""

    def __init__(
        self,
        config: SourceConfig,
        sqs: SQSClient,
        sink: Sink,
        queue: Queue,
        metrics: SourceMetrics | None = None,
    ) -> None:
        self._config = config
        self._sqs = sqs
        self._metrics = metrics or SourceMetrics()
        self._in_flight = InFlight(config.in_flight)
        self._breaker = Breaker()
        self._leases = Leases(
            sqs, config.queue_url, config.visibility_timeout, self._metrics.leases_lost.inc
        )
        self._deletions = Deletions(sqs, config.queue_url, self._leases)
        self._delivery = Delivery(
            read_body=read_body_of(config.queue_holds, config.generation, config.our_buckets),
            sink=sink,
            breaker=self._breaker,
            in_flight=self._in_flight,
            leases=self._leases,
            deletions=self._deletions,
            metrics=self._metrics,
            dead_letters=DeadLetters(sqs, queue.dlq_url) if queue.dlq_url else None,
            last_receive=queue.last_receive,
        )
        self._turned = time.monotonic()
        self._receiving = False
        self._metrics.in_flight.set_function(lambda: self._in_flight.taken)
        self._metrics.in_flight_limit.set_function(lambda: self._in_flight.limit)

    def live(self) -> bool:
        """Tell whether every thread still does its work."""
        turning = time.monotonic() - self._turned < STALLED_SECONDS
        return turning and self._leases.beating and self._deletions.running

    def ready(self) -> bool:
        """Tell whether the last receive succeeded and we are not about to stop."""
        return self._receiving

    def run(self, stop: threading.Event) -> None:
        """Receive and deliver until `stop` is set, then finish what is in flight."""
        log.info("source.started", extra={"queue_url": self._config.queue_url})
        self._receiving = True
        workers = ThreadPoolExecutor(self._config.in_flight, "deliver")
        with self._leases, self._deletions, workers:
            while not stop.is_set():
                self._turned = time.monotonic()
                self._metrics.breaker.state(self._breaker.state)
                slots = self._take_slots(stop)
                messages = self._receive(slots, stop) if slots else []
                self._in_flight.give_back(slots - len(messages))
                for message in messages:
                    self._leases.hold(message["ReceiptHandle"])
                    workers.submit(self._delivery.deliver, message, stop)
            self._receiving = False
        log.info("source.stopped")

    def abandon(self) -> None:
        """Give back whatever is still in hand: there is no time left to finish it."""
        log.error("source.abandoned", extra={"messages": len(self._leases)})
        self._leases.release_all()

    def _take_slots(self, stop: threading.Event) -> int:
        """Wait for free slots: lease only what can be worked on, and nothing while it is open."""
        if self._breaker.state == "closed":
            return self._in_flight.take(MAX_NUMBER_OF_MESSAGES, GLANCE)
        if self._breaker.needs_probe():
            return self._in_flight.take(1, GLANCE)
        stop.wait(GLANCE)
        return 0

    def _receive(self, slots: int, stop: threading.Event) -> list[MessageTypeDef]:
        try:
            answer = self._sqs.receive_message(
                QueueUrl=self._config.queue_url,
                MaxNumberOfMessages=slots,
                WaitTimeSeconds=self._config.wait_seconds,
                VisibilityTimeout=self._config.visibility_timeout,
                MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
            )
        except (ClientError, BotoCoreError) as err:
            self._receiving = False
            log.warning("queue.receive_failed", extra={"error": str(err)})
            stop.wait(RECEIVE_PAUSE)
            return []
        self._receiving = True
        messages = answer.get("Messages", [])
        self._metrics.received.inc(len(messages))
        self._metrics.oldest_age.set(max(map(_age, messages), default=0.0))
        if not stop.is_set():
            return messages
        # The poll came back after the word to stop: nothing was begun, others may have these now.
        for message in messages:
            self._leases.release(message["ReceiptHandle"], 0)
        return []


def _age(message: MessageTypeDef) -> float:
    """Tell the seconds since S3 sent it."""
    sent = message.get("Attributes", {}).get("SentTimestamp")  # milliseconds
    return max(0.0, time.time() - int(sent) / 1000) if sent else 0.0
