"""JSON logging for every process: an event name, and its facts as fields."""

from __future__ import annotations

import json
import logging
import logging.config
from datetime import UTC, datetime
from typing import Final

from events.trace import current_event_id, current_trace

# What every record has anyway; the rest came in as `extra`.
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_event_fields(),
            **_trace_fields(),
            **{key: value for key, value in vars(record).items() if key not in STANDARD},
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _event_fields() -> dict[str, str]:
    event_id = current_event_id()
    return {"event_id": event_id} if event_id else {}


def _trace_fields() -> dict[str, str]:
    """Name the trace as OpenTelemetry's log fields do, so that lines are found by their trace."""
    trace = current_trace()
    if trace is None:
        return {}
    return {"trace_id": trace.trace_id} | ({"span_id": trace.span_id} if trace.span_id else {})


# Everything to stderr, so that stdout is left to results; gunicorn's lines take the same way.
LOGGING: Final[dict[str, object]] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": JsonFormatter}},
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "stream": "ext://sys.stderr",
            "formatter": "json",
        }
    },
    "root": {"level": "INFO", "handlers": ["stderr"]},
    "loggers": {
        "gunicorn.error": {"level": "INFO", "handlers": [], "propagate": True},
        "botocore": {"level": "WARNING"},  # it tells every client's endpoint and credentials
    },
}


def configure_logging() -> None:
    """Send every logger's lines to stderr as JSON."""
    logging.config.dictConfig(LOGGING)
