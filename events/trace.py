"""Trace context (W3C): which request or event a log line and a published event belong to.

https://www.w3.org/TR/trace-context/ and the CloudEvents extension of distributed tracing, whose
attributes `traceparent` and `tracestate` have the headers' form.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cloudevents.core.v1.event import CloudEvent

TRACEPARENT = re.compile(
    r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII
)
# More than the specification asks an intermediary to carry would be an attack on our events' size.
MAX_TRACESTATE = 512


@dataclass(frozen=True, kw_only=True)
class TraceContext:
    """A trace, and the span in it that asked us."""

    trace_id: str  # 32 hex digits
    span_id: str = ""  # 16 hex digits; empty where the trace begins here
    flags: str = "00"
    state: str = ""

    def attributes(self) -> dict[str, str]:
        """Name the trace as headers and events do; empty where no caller is traced."""
        if not self.span_id:
            return {}
        parent = f"00-{self.trace_id}-{self.span_id}-{self.flags}"
        return {"traceparent": parent} | ({"tracestate": self.state} if self.state else {})


_current: ContextVar[TraceContext | None] = ContextVar("trace", default=None)
_event_id: ContextVar[str] = ContextVar("event_id", default="")


def parse_trace(traceparent: object, tracestate: object = None) -> TraceContext | None:
    """Read a caller's trace context; None where there is none or it breaks the rules."""
    match = TRACEPARENT.fullmatch(traceparent) if isinstance(traceparent, str) else None
    if not match:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more) or not int(trace_id, 16) * int(span_id, 16):
        return None
    printable = isinstance(tracestate, str) and tracestate.isascii() and tracestate.isprintable()
    state = str(tracestate) if printable and len(str(tracestate)) <= MAX_TRACESTATE else ""
    return TraceContext(trace_id=trace_id, span_id=span_id, flags=flags, state=state)


def begin_trace(trace_id: str = "") -> TraceContext:
    """Begin a trace where no caller has one, so that the log lines of one request stay together."""
    return TraceContext(trace_id=trace_id or secrets.token_hex(16))


def current_trace() -> TraceContext | None:
    """Return the trace of the request or event at work in this thread."""
    return _current.get()


@contextmanager
def traced(context: TraceContext) -> Iterator[None]:
    """Make `context` the current one for the block."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


def trace_of(event: CloudEvent, audit_id: str) -> TraceContext:
    """Read the trace an event belongs to: its own, that of the request, or one of the audit's id.

    An audit's id has a trace id's form, so all deliveries of one photo are one trace in the logs,
    the source's and the function's. It is not handed on with the published event: no caller has
    such a trace.
    """
    own = parse_trace(event.get_extension("traceparent"), event.get_extension("tracestate"))
    request = current_trace()
    return own or (request if request and request.span_id else begin_trace(audit_id))


def current_event_id() -> str:
    """Return the id of the audit at work in this thread; empty where there is none."""
    return _event_id.get()


@contextmanager
def about_event(event_id: str) -> Iterator[None]:
    """Have the block's log lines name this audit.

    After an exception the id stays, so that a log line further out names the audit, too. The
    outermost block, with an empty id, clears it.
    """
    token = _event_id.set(event_id)
    yield
    _event_id.reset(token)
