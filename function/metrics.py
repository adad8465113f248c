"""Prometheus metrics. One worker process, so a plain registry."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

# From a cache hit to the slowest answer that a Knative Service with 60 s lets through.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
# Products a photo: a shelf of SKU-110K holds 147 on average and up to 759.
PRODUCTS = (0, 1, 10, 25, 50, 100, 150, 200, 300, 500, 1000, 3000)


class Metrics:
    """The metrics of one app, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Histogram(
            "shelfwatch_request_seconds",
            "Time to answer a request.",
            ["route", "method", "status"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.stages = Histogram(
            "shelfwatch_stage_seconds",
            "Time one stage of an audit took.",
            ["stage"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.images = Counter(
            "shelfwatch_images_total",
            "Images by how they ended: audited, ignored (no photo), or the slug of the problem.",
            ["outcome"],
            registry=self.registry,
        )
        self.references = Counter(
            "shelfwatch_references_total",
            "References looked for in S3, by outcome: used, absent, or invalid.",
            ["outcome"],
            registry=self.registry,
        )
        self.products = Histogram(
            "shelfwatch_products",
            "Products found in an image.",
            buckets=PRODUCTS,
            registry=self.registry,
        )
        self.truncated = Counter(
            "shelfwatch_truncated_total",
            "Images with more products than max_detections.",
            registry=self.registry,
        )
        self.published = Counter(
            "shelfwatch_events_published_total",
            "Events published to the topic.",
            ["type"],
            registry=self.registry,
        )
        self.ready = Gauge(
            "shelfwatch_ready",
            "1 once a real inference has run; 0 while the model warms.",
            registry=self.registry,
        )
        self.model = Gauge(
            "shelfwatch_model_info",
            "The model in use; always 1.",
            ["name", "digest", "precision", "cpu_isa"],
            registry=self.registry,
        )

    def observe_stages(self, timings_ms: Mapping[str, float]) -> None:
        """Record the stages of one audit, given in milliseconds."""
        for stage, milliseconds in timings_ms.items():
            self.stages.labels(stage).observe(milliseconds / 1000)
