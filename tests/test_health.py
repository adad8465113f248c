"""Metrics and probes of the source, on a port of its own."""

import pytest
import urllib3

from events.source.health import serving_health
from events.source.metrics import SourceMetrics


@pytest.mark.parametrize(
    ("path", "ok", "status", "words"),
    [
        ("/metrics", True, 200, b"shelfwatch_source_messages_received_total 0.0"),
        ("/health/live", True, 200, b"ok"),
        ("/health/live", False, 503, b"no"),
        ("/health/ready", True, 200, b"ok"),
        ("/health/ready", False, 503, b"no"),
        ("/other", True, 404, b"nothing"),
    ],
)
def test_each_path_answers(path: str, ok: bool, status: int, words: bytes) -> None:
    with serving_health("127.0.0.1", 0, SourceMetrics().registry, lambda: ok, lambda: ok) as port:
        answer = urllib3.request("GET", f"http://127.0.0.1:{port}{path}", retries=False)
    assert answer.status == status
    assert words in answer.data
