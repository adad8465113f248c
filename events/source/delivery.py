"""One message from its receipt to its end: delivered, given back, or given up.

```
sink answers 2xx for each event            -> deleted
sink is away, starting or full             -> waits in hand, costs no receive
sink fails, or breaks off in the middle    -> given back with back-off; at last, given up
no notification, or refused by the sink    -> given up: copied to the dead-letter queue, deleted
told to stop before it was sent            -> given back at once
```

Of a message with several records each is sent, whatever became of the others, and only those that
came to nothing are given up. A message that is given back comes with all of them again: those that
are done the function knows.
"""

from __future__ import annotations

import itertools
import logging
import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError
from cloudevents.core.v1.event import CloudEvent

from events.codec import InvalidEvent
from events.s3_notification import IgnoredRecord, Item, body_of
from events.source.bodies import ReadBody
from events.source.breaker import Breaker
from events.source.dead_letters import DeadLetters, Letter, receive_count
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
# What the last attempt's verdict makes the reason of.
GIVEN_UP = {Verdict.RETRY: Reason.EXHAUSTED, Verdict.REFUSED: Reason.REFUSED}
# Back-off of one that waits in hand, doubled each time.
HOLD_BASE = 0.5
HOLD_CAP = 30.0


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """The way of a message, and what it needs on it; called from many threads."""

    read_body: ReadBody
    sink: Sink
    breaker: Breaker
    in_flight: InFlight
    leases: Leases
    deletions: Deletions
    metrics: SourceMetrics
    dead_letters: DeadLetters | None
    # The receive at which a failing message is given up; 0: leave that to SQS's redrive.
    last_receive: int

    def deliver(self, message: MessageTypeDef, stop: threading.Event) -> None:
        """Bring a leased message to its end, then free its slot."""
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
            items = self.read_body(message["Body"])
        except InvalidEvent as err:
            letter = Letter(body=message["Body"], reason=err.reason, detail=str(err))
            self._give_up(message, [letter])
            return
        answers = self._send_all(items, message, stop)
        if answers is None:  # told to stop
            self.leases.release(message["ReceiptHandle"], 0)
            return
        failed = [answer for answer in answers.values() if answer.verdict is Verdict.RETRY]
        if failed and not self._is_last(message):
            self._give_back(message, failed)
            return
        self._count_ignored(items, message)
        if letters := list(_letters(items, answers, message)):
            self._give_up(message, letters)
        else:
            self.deletions.add(message["ReceiptHandle"])
            self.metrics.delivery.observe(time.monotonic() - started)

    def _send_all(
        self, items: list[Item], message: MessageTypeDef, stop: threading.Event
    ) -> dict[int, Answer] | None:
        """Send each event, and return the answers by its index; None where `stop` came first."""
        answers = {}
        for index, item in enumerate(items):
            if not isinstance(item, CloudEvent):
                continue
            with _logged(item):
                answers[index] = self._send(item, message, stop)
            if answers[index].verdict is Verdict.WAIT:
                return None
        return answers

    def _send(self, event: CloudEvent, message: MessageTypeDef, stop: threading.Event) -> Answer:
        """Send one event, again and again while nobody is there to take it.

        It waits in hand, not on the queue: that the sink is away must not cost it a receive.
        """
        answer = Answer(verdict=Verdict.WAIT, status="told to stop")
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
            answer = self.sink.send(event, receive_count(message))
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
            self.metrics.failed.labels(answer.status.removeprefix("HTTP ")).inc()
            log.warning("event.not_delivered", extra={**fields, "verdict": answer.verdict.value})
        return answer

    def _count_ignored(self, items: list[Item], message: MessageTypeDef) -> None:
        for item in items:
            if isinstance(item, IgnoredRecord):
                self.metrics.ignored.labels(item.kind.value).inc()
                facts = {"kind": item.kind.value, "uri": item.uri}
                log.info("record.ignored", extra={**_names(message), **facts})

    def _is_last(self, message: MessageTypeDef) -> bool:
        """Tell whether only the receive is left that is kept for SQS's redrive."""
        return 0 < self.last_receive <= receive_count(message)

    def _give_back(self, message: MessageTypeDef, failed: list[Answer]) -> None:
        """Have the queue deliver it again after a while."""
        delay = _backoff(receive_count(message))
        delay = max(delay, *(round(answer.retry_after) for answer in failed))
        if any(answer.away for answer in failed):
            delay = max(delay, round(PAUSES_AWAY * self.breaker.pause))
        self.leases.release(message["ReceiptHandle"], delay)

    def _give_up(self, message: MessageTypeDef, letters: list[Letter]) -> None:
        """Copy to the dead-letter queue, and only then delete.

        Where a copy fails, the message stays, and SQS's redrive is the backstop.
        """
        for letter in letters:
            with _logged(letter.event) if letter.event else nullcontext():
                if not self._copy(message, letter):
                    delay = _backoff(receive_count(message))
                    self.leases.release(message["ReceiptHandle"], delay)
                    return
        self.deletions.add(message["ReceiptHandle"])

    def _copy(self, message: MessageTypeDef, letter: Letter) -> bool:
        fields = {**_names(message), "reason": letter.reason.value, "detail": letter.detail}
        if self.dead_letters is None:
            log.error("message.no_dead_letters", extra=fields)
            return False
        try:
            self.dead_letters.copy(message, letter)
        except (ClientError, BotoCoreError) as err:
            log.error("message.copy_failed", extra={**fields, "error": str(err)})
            return False
        self.metrics.dead_letters.labels(letter.reason.value).inc()
        log.error("message.given_up", extra=fields)
        return True


def _letters(
    items: list[Item], answers: Mapping[int, Answer], message: MessageTypeDef
) -> Iterator[Letter]:
    """Write a letter for each record that came to nothing."""
    for index, item in enumerate(items):
        if isinstance(item, IgnoredRecord):
            continue
        body = message["Body"] if len(items) == 1 else body_of(item)
        if isinstance(item, InvalidEvent):
            yield Letter(body=body, reason=item.reason, detail=str(item))
        elif reason := GIVEN_UP.get(answers[index].verdict):
            yield Letter(body=body, reason=reason, detail=answers[index].detail, event=item)


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
