"""The source: receive from SQS, convert, send to the sink, delete. `python -m events.sqs_source`

A message is deleted only after the sink has answered 2xx for each of its events. Whatever else
happens, SQS delivers it again, and after maxReceiveCount moves it to the dead-letter queue.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import boto3
import urllib3
from botocore.config import Config as BotoConfig
from botocore.exceptions import BotoCoreError, ClientError
from cloudevents.core.v1.event import CloudEvent

from events.codec import STRUCTURED, InvalidEvent, to_json
from events.leases import Leases
from events.log import configure_logging
from events.s3_notification import events_from_body

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

log = logging.getLogger(__name__)

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html
MAX_NUMBER_OF_MESSAGES = 10
MAX_WAIT_SECONDS = 20
# Back-off of a message that the sink refused: 5 s, 10 s, 20 s … with full jitter.
BACKOFF_BASE = 5
BACKOFF_CAP = 900
# After a failed receive, so that a broken queue is not hammered.
RECEIVE_PAUSE = 2.0


class SettingError(ValueError):
    """A setting is missing or odd."""


@dataclass(frozen=True)
class SourceConfig:
    """Everything the source can be told, one environment variable a field."""

    queue_url: str  # QUEUE_URL
    sink: str  # K_SINK, as Knative's SinkBinding sets it
    token: str = ""  # EVENTS_TOKEN, the bearer token that the function wants
    # IN_FLIGHT: the function runs one inference and lets two wait; one place is left to people.
    in_flight: int = 2
    wait_seconds: int = MAX_WAIT_SECONDS  # RECEIVE_WAIT_SECONDS, of one long poll
    visibility_timeout: int = 120  # VISIBILITY_TIMEOUT, seconds; more than the sink's time-out
    sink_timeout: float = 55.0  # SINK_TIMEOUT, seconds; less than the Knative Service's 60
    generation: int = 0  # AUDIT_GENERATION, raised to have every image audited anew

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> SourceConfig:
        """Read the settings. Raises `SettingError` with the variable's name."""
        return cls(
            queue_url=_required(env, "QUEUE_URL"),
            sink=_required(env, "K_SINK"),
            token=env.get("EVENTS_TOKEN", ""),
            in_flight=_number(env, "IN_FLIGHT", cls.in_flight, 1, 100),
            wait_seconds=_number(
                env, "RECEIVE_WAIT_SECONDS", cls.wait_seconds, 0, MAX_WAIT_SECONDS
            ),
            visibility_timeout=_number(env, "VISIBILITY_TIMEOUT", cls.visibility_timeout, 3, 43200),
            sink_timeout=_number(env, "SINK_TIMEOUT", int(cls.sink_timeout), 1, 600),
            generation=_number(env, "AUDIT_GENERATION", cls.generation, 0, 2**31),
        )


def _required(env: Mapping[str, str], name: str) -> str:
    if not env.get(name):
        msg = f"{name} is not set"
        raise SettingError(msg)
    return env[name]


def _number(env: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = env.get(name) or str(default)
    if not text.isdecimal() or not low <= int(text) <= high:
        msg = f"{name} is {text!r}, not a whole number from {low} to {high}"
        raise SettingError(msg)
    return int(text)


@dataclass(frozen=True)
class Sink:
    """Where events go, over HTTP."""

    url: str
    http: urllib3.PoolManager
    token: str = ""

    def send(self, event: CloudEvent) -> urllib3.BaseHTTPResponse:
        """Post one event in structured mode and return the answer. Raises urllib3's errors."""
        headers = {"content-type": STRUCTURED}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        return self.http.request("POST", self.url, body=to_json(event), headers=headers)


class SqsSource:
    """Moves messages from a queue to a sink until told to stop."""

    def __init__(self, config: SourceConfig, sqs: SQSClient, sink: Sink) -> None:
        self._config = config
        self._sqs = sqs
        self._sink = sink
        self._places = threading.Semaphore(config.in_flight)
        self._leases = Leases(sqs, config.queue_url, config.visibility_timeout)

    def run(self, stop: threading.Event) -> None:
        """Receive and deliver until `stop` is set, then finish what is in flight."""
        log.info("source.started", extra={"queue_url": self._config.queue_url})
        with self._leases, ThreadPoolExecutor(self._config.in_flight, "deliver") as workers:
            while not stop.is_set():
                places = self._take_places(stop)
                messages = self._receive(places, stop) if places else []
                for _ in range(places - len(messages)):
                    self._places.release()
                for message in messages:
                    self._leases.hold(message["ReceiptHandle"])
                    workers.submit(self._deliver, message)
        log.info("source.stopped")

    def _take_places(self, stop: threading.Event) -> int:
        """Wait for a free worker, then take all that are free: lease only what can be worked on."""
        while not self._places.acquire(timeout=0.2):
            if stop.is_set():
                return 0
        places = 1
        while places < MAX_NUMBER_OF_MESSAGES and self._places.acquire(blocking=False):
            places += 1
        return places

    def _receive(self, places: int, stop: threading.Event) -> list[MessageTypeDef]:
        try:
            answer = self._sqs.receive_message(
                QueueUrl=self._config.queue_url,
                MaxNumberOfMessages=places,
                WaitTimeSeconds=self._config.wait_seconds,
                VisibilityTimeout=self._config.visibility_timeout,
                MessageSystemAttributeNames=["ApproximateReceiveCount"],
            )
        except (ClientError, BotoCoreError) as err:
            log.warning("queue.receive_failed", extra={"error": str(err)})
            stop.wait(RECEIVE_PAUSE)
            return []
        messages = answer.get("Messages", [])
        if not stop.is_set():
            return messages
        # The poll came back after the word to stop: nothing was begun, others may have these now.
        for message in messages:
            self._leases.release(message["ReceiptHandle"], 0)
        return []

    def _deliver(self, message: MessageTypeDef) -> None:
        """Send a message's events; delete it when all are acknowledged, else give it back."""
        receipt_handle = message["ReceiptHandle"]
        try:
            if self._all_acknowledged(message):
                self._delete(message)
            else:
                self._leases.release(receipt_handle, self._backoff(message))
        except Exception:
            # A fault of ours. The message stays leased till its time is out, then SQS tries again.
            log.exception("message.failed", extra={"message_id": message["MessageId"]})
        finally:
            self._leases.let_go(receipt_handle)
            self._places.release()

    def _all_acknowledged(self, message: MessageTypeDef) -> bool:
        """Tell whether the sink answered 2xx for each event; the first refusal ends it."""
        try:
            events = events_from_body(message["Body"], self._config.generation)
        except InvalidEvent as err:
            # Kept: after maxReceiveCount the queue's redrive puts it where a person will see it.
            log.error(
                "message.unknown", extra={"message_id": message["MessageId"], "error": str(err)}
            )
            return False
        return all(self._acknowledged(event, message) for event in events)

    def _acknowledged(self, event: CloudEvent, message: MessageTypeDef) -> bool:
        fields = {
            "message_id": message["MessageId"],
            "event_id": event.get_id(),
            "subject": event.get_subject(),
            "receive_count": _receive_count(message),
        }
        try:
            answer = self._sink.send(event)
        except urllib3.exceptions.HTTPError as err:
            log.warning("sink.unreachable", extra={**fields, "error": type(err).__name__})
            return False
        if 200 <= answer.status < 300:
            log.info("event.delivered", extra={**fields, "status": answer.status})
            return True
        log.warning("event.refused", extra={**fields, "status": answer.status})
        return False

    def _delete(self, message: MessageTypeDef) -> None:
        try:
            self._sqs.delete_message(
                QueueUrl=self._config.queue_url, ReceiptHandle=message["ReceiptHandle"]
            )
        except (ClientError, BotoCoreError) as err:
            # It will come again, and the function will find its result stored and published.
            log.warning(
                "message.delete_failed",
                extra={"message_id": message["MessageId"], "error": str(err)},
            )

    def _backoff(self, message: MessageTypeDef) -> int:
        ceiling = min(BACKOFF_CAP, BACKOFF_BASE * 2 ** (_receive_count(message) - 1))
        return random.randint(0, ceiling)


def _receive_count(message: MessageTypeDef) -> int:
    return int(message.get("Attributes", {}).get("ApproximateReceiveCount", "1"))


def main() -> None:
    """Run the source until SIGTERM or Ctrl-C."""
    configure_logging()
    try:
        config = SourceConfig.from_env()
    except SettingError as err:
        log.critical("source.misconfigured", extra={"error": str(err)})
        sys.exit(2)
    # The read time-out must outlast a long poll, or its messages are leased to nobody.
    boto_config = BotoConfig(
        connect_timeout=5, read_timeout=config.wait_seconds + 10, retries={"mode": "standard"}
    )
    sqs = boto3.client("sqs", config=boto_config)
    http = urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=5, read=config.sink_timeout),
        retries=False,  # the queue retries
        maxsize=config.in_flight,
    )
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    SqsSource(config, sqs, Sink(config.sink, http, config.token)).run(stop)


if __name__ == "__main__":
    main()
