"""Spans of requests, events and stages: to an OpenTelemetry collector, or nowhere at no cost.

The SDK is an extra (`otel`), imported only where a collector is named. It reads its other settings
(`OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER`, …) itself. Without it the
log lines still name a caller's trace, and the event carries it on unchanged, as W3C asks of a
process that adds no span.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from events.trace import TraceContext, about_event, begin_trace, parse_trace, traced

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from opentelemetry.context import Context
    from opentelemetry.trace import Tracer

# Ambient like logging, as stages are timed where nobody knows of requests; set once, at start.
_tracer: Tracer | None = None


def export_spans(version: str) -> None:
    """Send spans to the collector of OTEL_EXPORTER_OTLP_ENDPOINT from now on.

    Raises `ImportError` where the extra `otel` is not installed.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    own = Resource({"service.name": "shelfwatch", "service.version": version})
    # Merged last, so that OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win.
    resource = Resource.create().merge(own).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    global _tracer
    _tracer = provider.get_tracer("shelfwatch", version)


def trace_requests(wsgi_app: WSGIApplication) -> WSGIApplication:
    """Put every request, with its log lines, into the trace that its headers name, or a new one."""

    def call(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        caller = parse_trace(environ.get("HTTP_TRACEPARENT"), environ.get("HTTP_TRACESTATE"))
        with about_event(""), work_span("request", caller or begin_trace()):
            return wsgi_app(environ, start_response)

    return call


@contextmanager
def work_span(name: str, context: TraceContext) -> Iterator[None]:
    """Open the span of a request or event under its caller's, and make it the current trace."""
    if _tracer is None:
        with traced(context):
            yield
        return
    with _tracer.start_as_current_span(name, context=_parent(context)) as span:
        own = span.get_span_context()
        flags = f"{int(own.trace_flags):02x}"
        trace_id, span_id = f"{own.trace_id:032x}", f"{own.span_id:016x}"
        state = own.trace_state.to_header()
        with traced(TraceContext(trace_id=trace_id, span_id=span_id, flags=flags, state=state)):
            yield


@contextmanager
def stage_span(name: str) -> Iterator[None]:
    """Open the span of one stage of an audit."""
    if _tracer is None:
        yield
        return
    with _tracer.start_as_current_span(name):
        yield


def describe_request(name: str, status: int) -> None:
    """Name the current request's span by its route, and note how it ended."""
    if _tracer is None:
        return
    from opentelemetry import trace

    span = trace.get_current_span()
    span.update_name(name)
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(trace.StatusCode.ERROR)


def _parent(context: TraceContext) -> Context | None:
    """Turn a caller's trace into the SDK's context; None leaves the one there is, if any."""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = context.attributes()
    return TraceContextTextMapPropagator().extract(carrier) if carrier else None
