"""One message from its receipt to its end: delivered, given back, or given up.

```
sink answers 2xx for each event            -> deleted
sink is away, starting or full             -> waits in hand, costs no receive
sink fails, or breaks off in the middle    -> given back with back-off; at last, given up
no notification, or refused by the sink    -> given up: copied to the dead-letter queue, deleted
told to stop before it was sent            -> given back at once
```
"""

from __future__ import annotations

import itertools
import logging
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError
from cloudevents.core.v1.event import CloudEvent

from events.codec import InvalidEvent
from events.source.bodies import ReadBody
from events.source.breaker import Breaker
from events.source.dead_letters import DeadLetters, receive_count
from events.source.deletions import Deletions
from events.source.in_flight import InFlight
from events.source.leases import Leases
from events.source.metrics import SourceMetrics
from events.source.sink import Answer, Sink, Verdict
from events.trace import about_event, trace_of, traced
from events.types import Reason

if TYPE_CHECKING:
    from mypy_boto3_sqs.type_defs import MessageTypeDef

log = logging.getLogger(__name__)

# Back-off of a message that failed: up to 5 s, 15 s, 45 s … with full jitter, on the queue. Seven
# deliveries take about twelve minutes, so that a short outage of S3 or SNS gives up on nothing.
BACKOFF_BASE = 5.0
BACKOFF_FACTOR = 3.0
BACKOFF_CAP = 900.0
BACKOFF_LEAST = 1.0  # so that another message goes first, even where jitter says now
# One that broke off while the breaker is open stays away for several of its pauses, so that each
# probe takes another message, and a long outage does not use up the receives of one.
PAUSES_AWAY = 5
# Back-off of one that waits in hand, doubled each time.
HOLD_BASE = 0.5
HOLD_CAP = 30.0


@dataclass(frozen=True)
class Delivery:
    """The way of a message, and what it needs on it; called from many threads."""

    sink: Sink
    breaker: Breaker
    in_flight: InFlight
    leases: Leases
    deletions: Deletions
    metrics: SourceMetrics
    dead_letters: DeadLetters | None
    # The receive at which a failing message is given up; 0: leave that to SQS's redrive.
    last_receive: int
    read_body: ReadBody

    def deliver(self, message: MessageTypeDef, stop: threading.Event) -> None:
        """Bring a leased message to its end, then free its place."""
        with about_event(""):
            try:
                self._settle(message, stop)
            except Exception:
                # A fault of ours. The message stays leased till its time is out, then SQS tries
                # again.
                log.exception("message.failed", extra=_names(message))
                self.leases.let_go(message["ReceiptHandle"])
            finally:
                self.in_flight.give_back()

    def _settle(self, message: MessageTypeDef, stop: threading.Event) -> None:
        started = time.monotonic()
        try:
            events = self.read_body(message["Body"])
        except InvalidEvent as err:
            self._give_up(message, Reason.UNREADABLE, str(err))
            return
        answers = self._send_all(events, message, stop)
        verdicts = [answer.verdict for answer in answers]
        if Verdict.WAIT in verdicts:  # still, when told to stop
            self.leases.release(message["ReceiptHandle"], 0)
        elif Verdict.RETRY in verdicts:
            with _logged(events[len(answers) - 1]):
                self._give_back(message, answers[-1])
        elif Verdict.REFUSED in verdicts:
            refused = verdicts.index(Verdict.REFUSED)
            with _logged(events[refused]):
                self._give_up(message, Reason.REFUSED, answers[refused].detail)
        else:
            self.deletions.add(message["ReceiptHandle"])
            self.metrics.delivery.observe(time.monotonic() - started)

    def _send_all(
        self, events: list[CloudEvent], message: MessageTypeDef, stop: threading.Event
    ) -> list[Answer]:
        """Send each event; what another delivery will repeat ends it, a refusal does not."""
        answers: list[Answer] = []
        for event in events:
            with _logged(event):
                answers.append(self._send(event, message, stop))
            if answers[-1].verdict in (Verdict.WAIT, Verdict.RETRY):
                break
        return answers

    def _send(self, event: CloudEvent, message: MessageTypeDef, stop: threading.Event) -> Answer:
        """Send one event, again and again while nobody is there to take it.

        It waits in hand, not on the queue: that the sink is away must not cost it a receive.
        """
        answer = Answer(Verdict.WAIT, "told to stop")
        for attempt in itertools.count():
            if not self.breaker.wait(stop):
                break
            answer = self._try(event, message)
            if answer.verdict is not Verdict.WAIT:
                break
            if self.breaker.state == "closed":
                stop.wait(answer.retry_after + _jittered(HOLD_BASE, 2.0, HOLD_CAP, attempt))
        return answer

    def _try(self, event: CloudEvent, message: MessageTypeDef) -> Answer:
        sent_at = time.monotonic()
        try:
            answer = self.sink.send(event)
        except BaseException:
            self.breaker.answered()  # a fault of ours says nothing of the sink
            raise
        if answer.away:
            self.breaker.away(message["MessageId"], answer.retry_after)
        else:
            self.breaker.answered()
        if answer.busy:
            self.in_flight.shrink(sent_at)
        fields = {
            **_names(message),
            "subject": event.get_subject(),
            "detail": answer.detail,
            "seconds": round(time.monotonic() - sent_at, 3),
        }
        if answer.verdict is Verdict.DELIVERED:
            self.in_flight.grow()
            self.metrics.delivered.inc()
            log.info("event.delivered", extra=fields)
        else:
            self.metrics.failed.labels(answer.detail.removeprefix("HTTP ")).inc()
            log.warning("event.not_delivered", extra={**fields, "verdict": answer.verdict.value})
        return answer

    def _give_back(self, message: MessageTypeDef, answer: Answer) -> None:
        """Have the queue deliver it again after a while; its last but one receive is the end."""
        count = receive_count(message)
        if self.last_receive and count >= self.last_receive:
            self._give_up(message, Reason.EXHAUSTED, answer.detail)
            return
        delay = max(round(answer.retry_after), _backoff(count))
        if answer.away:
            delay = max(delay, round(PAUSES_AWAY * self.breaker.pause))
        self.leases.release(message["ReceiptHandle"], delay)

    def _give_up(self, message: MessageTypeDef, reason: Reason, detail: str) -> None:
        """Copy to the dead-letter queue, and only then delete.

        Where the copy fails, the message stays, and SQS's redrive is the backstop.
        """
        fields = {**_names(message), "reason": reason.value, "detail": detail}
        delay = _backoff(receive_count(message))
        if self.dead_letters is None:
            log.error("message.no_dead_letters", extra=fields)
            self.leases.release(message["ReceiptHandle"], delay)
            return
        try:
            self.dead_letters.copy(message, reason, detail)
        except (ClientError, BotoCoreError) as err:
            log.error("message.copy_failed", extra={**fields, "error": str(err)})
            self.leases.release(message["ReceiptHandle"], delay)
            return
        self.metrics.dead_letters.labels(reason.value).inc()
        log.error("message.given_up", extra=fields)
        self.deletions.add(message["ReceiptHandle"])


def _backoff(count: int) -> int:
    """Tell how long a message stays away after its `count`th receive, in seconds."""
    return round(
        max(BACKOFF_LEAST, _jittered(BACKOFF_BASE, BACKOFF_FACTOR, BACKOFF_CAP, count - 1))
    )


def _jittered(base: float, factor: float, cap: float, attempt: int) -> float:
    """Exponential back-off with full jitter, in seconds."""
    return random.uniform(0, min(cap, base * factor ** min(attempt, 30)))


@contextmanager
def _logged(event: CloudEvent) -> Iterator[None]:
    """Have the block's log lines name the event and its trace, as the function's lines do."""
    with about_event(event.get_id()), traced(trace_of(event, event.get_id())):
        yield


def _names(message: MessageTypeDef) -> dict[str, object]:
    return {"message_id": message["MessageId"], "receive_count": receive_count(message)}
