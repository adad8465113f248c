"""Trace context: the caller's trace in the log lines and in the published event."""

import json
import logging
from collections.abc import Iterator
from contextvars import Context
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import urllib3
from conftest import GOOD_SAMPLE, Aws, free_port
from flask.testing import FlaskClient
from test_audit import auditor, published, uploaded  # noqa: F401  # a fixture

from events.codec import data_of, new_event, to_json
from events.log import JsonFormatter
from events.trace import (
    TraceContext,
    about_event,
    begin_trace,
    current_event_id,
    current_trace,
    parse_trace,
    trace_of,
    traced,
)
from function.audit import Auditor
from local.aws import aws_env
from local.processes import StackError
from local.stack import running_function
from tests.rollout.stage import serving

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
CONTEXT = TraceContext(trace_id=TRACE, span_id=SPAN, flags="01", state="vendor=1")


@pytest.mark.parametrize(
    ("traceparent", "tracestate", "expected"),
    [
        (None, None, None),
        ("", "", None),
        (PARENT, "vendor=1", CONTEXT),
        (PARENT, None, TraceContext(trace_id=TRACE, span_id=SPAN, flags="01")),
        (PARENT, "x" * 513, TraceContext(trace_id=TRACE, span_id=SPAN, flags="01")),
        (PARENT, "a\nb", TraceContext(trace_id=TRACE, span_id=SPAN, flags="01")),
        (
            f"cc-{TRACE}-{SPAN}-01-more",
            None,
            TraceContext(trace_id=TRACE, span_id=SPAN, flags="01"),
        ),
        (f"00-{TRACE}-{SPAN}-01-more", None, None),
        (f"ff-{TRACE}-{SPAN}-01", None, None),
        (f"00-{'0' * 32}-{SPAN}-01", None, None),
        (f"00-{TRACE}-{'0' * 16}-01", None, None),
        (PARENT.upper(), None, None),
        (PARENT[:-1], None, None),
        (PARENT + "\n", None, None),
        (7, None, None),
    ],
)
def test_a_trace_that_breaks_the_rules_is_none(
    traceparent: object, tracestate: object, expected: TraceContext | None
) -> None:
    assert parse_trace(traceparent, tracestate) == expected


def test_a_trace_is_named_as_it_came() -> None:
    assert CONTEXT.attributes() == {"traceparent": PARENT, "tracestate": "vendor=1"}
    assert begin_trace().attributes() == {}


def logged() -> dict[str, object]:
    record = logging.makeLogRecord({"msg": "image.done"})
    line: dict[str, object] = json.loads(JsonFormatter().format(record))
    return line


def test_log_lines_name_the_trace_at_work_and_no_other() -> None:
    assert "trace_id" not in logged()
    with traced(CONTEXT):
        assert (logged()["trace_id"], logged()["span_id"]) == (TRACE, SPAN)
        with traced(begin_trace("a" * 32)):
            assert logged()["trace_id"] == "a" * 32
            assert "span_id" not in logged()
        assert current_trace() == CONTEXT
    assert current_trace() is None


def test_log_lines_name_the_event_also_when_its_failure_is_logged_further_out() -> None:
    def log_lines() -> None:
        with about_event(""):
            assert "event_id" not in logged()
            with about_event("e1"):
                assert logged()["event_id"] == "e1"
            assert "event_id" not in logged()
            with pytest.raises(RuntimeError), about_event("e2"):
                raise RuntimeError
            assert logged()["event_id"] == "e2"
        assert current_event_id() == ""

    Context().run(log_lines)  # an earlier test's failure may have left its event in this one


class Lines(logging.Handler):
    """Keeps every line as it would be written."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.lines: list[dict[str, object]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))


@pytest.fixture
def lines() -> Iterator[list[dict[str, object]]]:
    handler, root = Lines(), logging.getLogger("function")
    before = root.level
    root.setLevel(logging.INFO)
    root.addHandler(handler)
    yield handler.lines
    root.removeHandler(handler)
    root.setLevel(before)


def test_the_events_trace_is_in_the_logs_and_in_the_published_event(
    aws: Aws,
    auditor: Auditor,  # noqa: F811
    lines: list[dict[str, object]],
) -> None:
    event = uploaded(aws, GOOD_SAMPLE.read_bytes())
    trace = {"traceparent": PARENT, "tracestate": "vendor=1"}
    auditor.audit_event(new_event({**event.get_attributes(), **trace}, data_of(event)))
    (got,) = published(aws)
    assert (got["traceparent"], got["tracestate"]) == (PARENT, "vendor=1")
    done = [line for line in lines if line["event"] in ("image.done", "event.published")]
    assert [line["trace_id"] for line in done] == [TRACE, TRACE]


def test_without_a_trace_all_deliveries_of_a_photo_share_one_in_the_logs(
    aws: Aws,
    auditor: Auditor,  # noqa: F811
    lines: list[dict[str, object]],
) -> None:
    """The audit's id has a trace id's form. The event names no trace: no caller has that one."""
    event = uploaded(aws, GOOD_SAMPLE.read_bytes())
    auditor.audit_event(event)
    auditor.audit_event(event)
    (got,) = published(aws)
    assert "traceparent" not in got
    assert {(line["event_id"], line["trace_id"]) for line in lines} == {(got["id"], got["id"])}


def test_the_events_own_trace_goes_before_that_of_the_request(aws: Aws) -> None:
    event = uploaded(aws, b"x")
    with traced(TraceContext(trace_id="b" * 32, span_id="c" * 16)):
        assert trace_of(event, "a" * 32) == TraceContext(trace_id="b" * 32, span_id="c" * 16)
        own = new_event({**event.get_attributes(), "traceparent": PARENT}, data_of(event))
        assert trace_of(own, "a" * 32) == TraceContext(trace_id=TRACE, span_id=SPAN, flags="01")
    with traced(begin_trace()):
        assert trace_of(event, "a" * 32).trace_id == "a" * 32
    assert json.loads(to_json(own))["traceparent"] == PARENT


def test_a_requests_lines_have_its_trace(
    client: FlaskClient, lines: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("function.app.audit_image", fail)
    client.post("/predict", data=b"x", content_type="image/jpeg", headers={"traceparent": PARENT})
    client.post("/predict", data=b"x", content_type="image/jpeg")
    client.post("/predict", data=b"x", content_type="image/jpeg", headers={"traceparent": "odd"})
    ids = [line["trace_id"] for line in lines]
    assert ids[0] == TRACE
    assert len(set(ids)) == 3
    assert current_trace() is None


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """A collector of OTLP over HTTP that keeps what it gets."""
    got: list[bytes] = []

    def collect(request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, str, bytes]:
        assert request.path == "/v1/traces"
        got.append(body)
        return 200, "application/x-protobuf", b""

    with serving(collect) as url:
        yield url, got


def test_spans_of_request_and_stages_reach_the_collector(
    collector: tuple[str, list[bytes]], tmp_path: Path
) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="the extra 'otel' is not installed")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    url, got = collector
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    env = {**aws_env("http://127.0.0.1:9"), **settings}
    with running_function(free_port(), env, tmp_path) as (function, _):
        sample = {"file": ("a.jpg", GOOD_SAMPLE.read_bytes())}
        headers = {"traceparent": PARENT}
        answer = urllib3.request("POST", f"{function}/predict", fields=sample, headers=headers)
        assert answer.status == 200
    spans: dict[str, Any] = {}
    services: set[str] = set()
    for body in got:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            services |= {
                each.value.string_value
                for each in resource.resource.attributes
                if each.key == "service.name"
            }
            for scope in resource.scope_spans:
                spans |= {s.name: s for s in scope.spans if s.trace_id.hex() == TRACE}
    assert services == {"shelfwatch"}
    request = spans["POST /predict"]
    assert request.parent_span_id.hex() == SPAN
    stages = {"decode", "preprocess", "queue", "inference", "postprocess", "audit"}
    assert set(spans) == stages | {"POST /predict"}
    for stage in stages:
        assert spans[stage].parent_span_id == request.span_id, stage


def test_a_collector_without_the_extra_ends_the_start_with_one_sentence(
    tmp_path: Path, collector: tuple[str, list[bytes]]
) -> None:
    """A module that cannot be imported stands in for a missing one."""
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").write_text("raise ImportError")
    env = {
        **aws_env("http://127.0.0.1:9"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector[0],
        "PYTHONPATH": str(tmp_path),
    }
    with (
        pytest.raises(StackError, match="the extra 'otel' must be installed"),
        running_function(free_port(), env, tmp_path),
    ):
        pass


def test_nothing_of_opentelemetry_is_imported_unless_asked_for() -> None:
    import subprocess
    import sys

    code = "import function.app, sys; print([m for m in sys.modules if 'opentelemetry' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
