"""Check the queue before the first receive.

A failed check is logged. Only a missing dead-letter queue ends the process: without one, a message
that cannot be delivered vanishes with the queue's retention. Every other fault costs time or
duplicates, or loses events before they reach the source; stopping would not bring those back.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from events.checks import DENIED
from events.codec import Json
from events.source.bodies import SENDERS
from events.source.config import SourceConfig
from events.sqs import parse_redrive, url_of
from events.types import OUR_PREFIXES

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

log = logging.getLogger(__name__)

# S3 sends up to 64 KB; a queue that takes less refuses the message, and S3 does not try again.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
MIN_MESSAGE_BYTES = 64 * 1024
# Each release and each kill costs one receive, and Spot kills often.
MIN_RECEIVE_COUNT = 5
# Until the queue's attributes could be read.
PAUSE_SECONDS = 2.0

Answer = TypeVar("Answer")
Finding = tuple[str, Mapping[str, object]]


class NoDeadLetters(Exception):
    """The queue has no dead-letter queue, or it cannot be found; the message is for the log."""


@dataclass(frozen=True)
class Queue:
    """What the source needs to know of its queue; empty where it may not be read."""

    dlq_url: str = ""
    max_receive_count: int = 0

    @property
    def last_receive(self) -> int:
        """The receive at which to give up: one is left for SQS's own redrive, should we fail."""
        return max(1, self.max_receive_count - 1) if self.max_receive_count else 0


def check_queue(config: SourceConfig, sqs: SQSClient, stop: threading.Event) -> Queue:
    """Read and check the queue, waiting while SQS does not answer. Raises `NoDeadLetters`."""
    attributes = _attributes(sqs, config.queue_url, stop)
    if not attributes:
        return Queue()
    queue = _redrive(sqs, attributes, stop)
    dlq = _attributes(sqs, queue.dlq_url, stop) if queue.dlq_url else {}
    for event, facts in faults_of(config, attributes, queue, dlq):
        log.error(f"check.{event}", extra=facts)
    log.info(
        "check.done", extra={"dlq_url": queue.dlq_url, "max_receives": queue.max_receive_count}
    )
    return queue


def faults_of(
    config: SourceConfig, attributes: dict[str, str], queue: Queue, dlq: dict[str, str]
) -> list[Finding]:
    """Name what of a queue and its dead letters costs messages or time, each with its facts."""
    return [
        *_of_config(config),
        *_of_queue(attributes, queue, SENDERS[config.queue_holds]),
        *_of_dead_letters(attributes, dlq),
    ]


def attributes_of(sqs: SQSClient, queue_url: str) -> dict[str, str]:
    """Read a queue's attributes. Raises botocore's errors."""
    answer = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["All"])
    return {str(name): value for name, value in answer["Attributes"].items()}


def _attributes(sqs: SQSClient, queue_url: str, stop: threading.Event) -> dict[str, str]:
    """Read a queue's attributes; empty where the role may not, or a stop was requested."""
    asked = {"queue_url": queue_url}
    return _answer(lambda: attributes_of(sqs, queue_url), stop, asked) or {}


def _redrive(sqs: SQSClient, attributes: dict[str, str], stop: threading.Event) -> Queue:
    arn, max_receives = parse_redrive(attributes.get("RedrivePolicy", ""))
    if not arn:
        msg = "`RedrivePolicy` of the queue must be set, got none: what is given up would be lost"
        raise NoDeadLetters(msg)

    def ask() -> str:
        try:
            return url_of(sqs, arn)
        except sqs.exceptions.QueueDoesNotExist as err:
            msg = f"`RedrivePolicy` of the queue must name a queue that exists, got {arn!r}"
            raise NoDeadLetters(msg) from err

    return Queue(_answer(ask, stop, {"queue_arn": arn}) or "", max_receives)


def _answer(
    ask: Callable[[], Answer], stop: threading.Event, facts: Mapping[str, str]
) -> Answer | None:
    """Ask until there is an answer; None where the role may not, or a stop was requested."""
    while not stop.is_set():
        try:
            return ask()
        except (ClientError, BotoCoreError) as err:
            log.warning("check.unreadable", extra={**facts, "error": str(err)})
            if _is_denied(err):
                break
            stop.wait(PAUSE_SECONDS)
    return None


def _is_denied(err: Exception) -> bool:
    """Tell a role that may not look from what passes: a throttle, an expired token, a queue that
    Terraform has not made yet. To go on without an answer is to go on so for good."""
    return isinstance(err, ClientError) and err.response["Error"]["Code"] in DENIED


def _of_config(config: SourceConfig) -> Iterator[Finding]:
    if config.visibility_timeout <= config.sink_timeout:
        facts = {"visibility": config.visibility_timeout, "sink_timeout": config.sink_timeout}
        yield "visibility_within_sink_timeout", {**facts, "costs": "duplicates"}


def _of_queue(
    attributes: dict[str, str], queue: Queue, senders: Sequence[str]
) -> Iterator[Finding]:
    size = int(attributes.get("MaximumMessageSize", MIN_MESSAGE_BYTES))
    if size < MIN_MESSAGE_BYTES:
        yield "message_size_too_small", {"bytes": size, "needed": MIN_MESSAGE_BYTES}
    if queue.max_receive_count < MIN_RECEIVE_COUNT:
        facts = {"max_receives": queue.max_receive_count, "needed": MIN_RECEIVE_COUNT}
        yield "too_few_receives", facts
    services = [f"{sender}.amazonaws.com" for sender in senders]
    arn = attributes.get("QueueArn", "")
    if not any(_lets_in(statement, services, arn) for statement in _statements(attributes)):
        needed = f"Allow {' or '.join(services)} sqs:SendMessage on {arn}"
        yield f"policy_keeps_{senders[0]}_out", {"needed": needed}


def _of_dead_letters(attributes: dict[str, str], dlq: dict[str, str]) -> Iterator[Finding]:
    """A message keeps its first enqueue time there, and its size grows by the reason."""
    for name, event in (
        ("MessageRetentionPeriod", "dead_letters_expire_too_soon"),
        ("MaximumMessageSize", "dead_letters_too_small"),
    ):
        if int(dlq.get(name, 0)) < int(attributes.get(name, 0)):
            yield event, {"queue": attributes[name], "dead_letter_queue": dlq.get(name, "unknown")}


def _statements(attributes: dict[str, str]) -> list[Json]:
    statements = json.loads(attributes.get("Policy") or "{}").get("Statement", [])
    return statements if isinstance(statements, list) else [statements]


def _lets_in(statement: Json, services: Sequence[str], queue_arn: str) -> bool:
    """Tell whether a statement lets one of the services send; its conditions are not looked at.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-overview-of-managing-access.html
    """
    principal = statement.get("Principal")
    # Everybody is "*", or {"AWS": "*"}.
    named = principal if isinstance(principal, dict) else {"AWS": principal}
    return (
        statement.get("Effect") == "Allow"
        and (
            "*" in _listed(named.get("AWS")) or bool({*services} & {*_listed(named.get("Service"))})
        )
        and any(fnmatchcase("sqs:sendmessage", a.lower()) for a in _listed(statement.get("Action")))
        and any(
            fnmatchcase(queue_arn, arn) for arn in _listed(statement.get("Resource", queue_arn))
        )
    )


def _listed(value: object) -> list[str]:
    """Read one text or several, as policies have them."""
    return [str(item) for item in (value if isinstance(value, list) else [value])]


def check_results_bucket(config: SourceConfig, s3: S3Client) -> None:
    """Log an error where each new result would come back through some queue, to be ignored."""
    try:
        rules = s3.get_bucket_notification_configuration(Bucket=config.results_bucket)
    except (ClientError, BotoCoreError) as err:
        log.info("check.unreadable", extra={"bucket": config.results_bucket, "error": str(err)})
        return
    for rule in rules.get("QueueConfigurations", []):
        filters = rule.get("Filter", {}).get("Key", {}).get("FilterRules", [])
        prefix = next((f["Value"] for f in filters if f["Name"].lower() == "prefix"), "")
        if any(ours.startswith(prefix) or prefix.startswith(ours) for ours in OUR_PREFIXES):
            facts = {"bucket": config.results_bucket, "prefix": prefix, "queue": rule["QueueArn"]}
            log.error("check.results_are_watched", extra=facts)
