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

TRACEPARENT = re.compile(
    r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII
)
# More than the specification asks an intermediary to carry would be an attack on our events' size.
MAX_TRACESTATE = 512


@dataclass(frozen=True)
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
    return TraceContext(trace_id, span_id, flags, state)


def begin_trace(trace_id: str = "") -> TraceContext:
    """Begin a trace where no caller has one, so that the log lines of one request stay together."""
    return TraceContext(trace_id or secrets.token_hex(16))


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
