"""What the monitor counts. Names and labels are in docs/stock.md."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

# From a step of the fold, milliseconds, to a view's whole day anew.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.events = Counter(
            "shelfwatch_monitor_events_total",
            "Events taken in",
            ["type"],
            registry=self.registry,
        )
        self.event_seconds = Histogram(
            "shelfwatch_monitor_event_seconds",
            "Time from an event to what it changed being published",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.published = Counter(
            "shelfwatch_monitor_told_total",
            "Events published",
            ["type"],
            registry=self.registry,
        )
        self.lag = Gauge(
            "shelfwatch_monitor_lag_seconds",
            "Time from the upload of the last photo to its event being taken in",
            registry=self.registry,
        )
        self.database_up = Gauge(
            "shelfwatch_monitor_database_up",
            "1 while the database answers",
            registry=self.registry,
        )
