"""Prometheus metrics of the source."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Enum,
    Gauge,
    Histogram,
    ProcessCollector,
)

from events.types import Ignored, Reason

# From a stored result to the sink's time-out and a long wait for a sink that is away.
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class SourceMetrics:
    """The metrics of one source, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.received = Counter(
            "shelfwatch_source_messages_received_total",
            "Messages received from the queue.",
            registry=self.registry,
        )
        self.delivered = Counter(
            "shelfwatch_source_events_delivered_total",
            "Events that the sink acknowledged.",
            registry=self.registry,
        )
        self.failed = Counter(
            "shelfwatch_source_attempts_failed_total",
            "Attempts that the sink did not acknowledge, by its status or the error.",
            ["status"],
            registry=self.registry,
        )
        self.ignored = Counter(
            "shelfwatch_source_records_ignored_total",
            "Records that ask for no audit, by what they are about.",
            ["kind"],
            registry=self.registry,
        )
        for kind in Ignored:
            self.ignored.labels(kind.value)
        self.dead_letters = Counter(
            "shelfwatch_source_dead_letters_total",
            "Messages copied to the dead-letter queue.",
            ["reason"],
            registry=self.registry,
        )
        # From 0 on, as the step from nothing to 1 is no increase to PromQL.
        for reason in set(Reason) - {Reason.UNKNOWN}:
            self.dead_letters.labels(reason.value)
        self.queue_messages = Gauge(
            "shelfwatch_source_queue_messages",
            "Messages that wait, on the queue and on its dead-letter queue.",
            ["queue"],
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "shelfwatch_source_in_flight",
            "Messages at work, and slots taken by a receive.",
            registry=self.registry,
        )
        self.in_flight_limit = Gauge(
            "shelfwatch_source_in_flight_limit",
            "Messages that may be at work; falls when the sink answers 429 or 503.",
            registry=self.registry,
        )
        self.breaker = Enum(
            "shelfwatch_source_breaker",
            "The breaker's state; while it is open nothing is received.",
            states=["closed", "half-open", "open"],
            registry=self.registry,
        )
        self.leases_lost = Counter(
            "shelfwatch_source_leases_lost_total",
            "Leases that could not be extended: the message is delivered again.",
            registry=self.registry,
        )
        self.delivery = Histogram(
            "shelfwatch_source_delivery_seconds",
            "Time from a message's receipt to the sink's acknowledgement of all its events.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.oldest_age = Gauge(
            "shelfwatch_source_oldest_message_age_seconds",
            "Age of the oldest message of the last receive; 0 when there was none.",
            registry=self.registry,
        )
