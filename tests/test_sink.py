"""What an answer, or its absence, means for the message behind an event."""

import json
import shutil
import socket
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import urllib3
from conftest import free_port
from fake_sink import running_sink
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from events.codec import new_event
from events.source.config import SourceConfig
from events.source.process_checks import source_checks
from events.source.sink import (
    MAX_RETRY_AFTER,
    Answer,
    Sink,
    Verdict,
    answer_of_error,
    answer_of_status,
    retry_after_seconds,
)

EVENT = new_event({"id": "1", "source": "aws:s3", "type": "t"}, {"a": 1})


def problem(slug: str) -> tuple[dict[str, str], bytes]:
    body = json.dumps({"type": f"urn:shelfwatch:problem:{slug}"}).encode()
    return {"content-type": "application/problem+json"}, body


def sink(url: str, **settings: Any) -> Sink:
    settings = {"sink_timeout": 30.0, **settings}
    return Sink.from_config(SourceConfig(queue_url="q", sink=url, **settings))


@pytest.mark.parametrize(
    ("status", "slug", "verdict", "away", "busy"),
    [
        (200, "", Verdict.DELIVERED, False, False),
        (204, "", Verdict.DELIVERED, False, False),
        (308, "", Verdict.WAIT, True, False),  # our address is another, say https
        (400, "invalid-event", Verdict.REFUSED, False, False),
        (401, "unauthorized", Verdict.WAIT, True, False),  # ours, not the event's
        (403, "bucket-forbidden", Verdict.REFUSED, False, False),
        (404, "", Verdict.RETRY, True, False),  # a proxy, for a service that is gone
        (404, "not-found", Verdict.RETRY, True, False),  # our address has another path
        (408, "", Verdict.RETRY, False, False),
        (409, "", Verdict.RETRY, False, False),
        (410, "", Verdict.REFUSED, False, False),
        (413, "", Verdict.REFUSED, False, False),
        (425, "", Verdict.RETRY, False, False),
        (429, "", Verdict.WAIT, False, True),
        (500, "internal-server-error", Verdict.RETRY, False, False),
        (501, "", Verdict.RETRY, False, False),
        (502, "dependency-failed", Verdict.RETRY, False, False),
        (502, "", Verdict.RETRY, True, False),  # a proxy, for a container that is gone
        (503, "overloaded", Verdict.WAIT, False, True),
        (503, "not-ready", Verdict.WAIT, True, True),
        (503, "credentials-refused", Verdict.WAIT, True, False),  # ours at AWS, not the event's
        (403, "image-archived", Verdict.REFUSED, False, False),
        (503, "", Verdict.WAIT, True, True),
        (504, "", Verdict.RETRY, True, False),
    ],
)
def test_a_status_decides(status: int, slug: str, verdict: Verdict, away: bool, busy: bool) -> None:
    headers, body = problem(slug) if slug else ({}, b"no healthy upstream")
    answer = answer_of_status(status, urllib3.HTTPHeaderDict(headers), body)
    assert answer == Answer(verdict=verdict, status=f"HTTP {status}", away=away, busy=busy)


AN_HOUR_AGO = datetime.now(UTC) - timedelta(hours=1)
IN_NINE_DAYS = datetime.now(UTC) + timedelta(days=9)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", 0),
        ("7", 7),
        ("0", 0),
        ("86400", MAX_RETRY_AFTER),
        ("soon", 0),
        ("-5", 0),
        # Named, as the workers of a run must collect the same tests.
        pytest.param(format_datetime(AN_HOUR_AGO, usegmt=True), 0, id="date-gone-by"),
        pytest.param(
            format_datetime(IN_NINE_DAYS, usegmt=True), MAX_RETRY_AFTER, id="date-to-come"
        ),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_bounded(text: str, seconds: float) -> None:
    assert retry_after_seconds(text) == seconds


def test_a_date_to_come_is_waited_for() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    assert 30 < retry_after_seconds(date) <= 40


def test_the_wish_of_the_sink_reaches_the_answer() -> None:
    with running_sink() as server:
        server.reply = lambda _: (503, {"Retry-After": "7"}, b"")
        assert sink(server.url).send(EVENT, 1).retry_after == 7


def test_a_refused_connection_leaves_the_event_in_hand() -> None:
    answer = sink(f"http://127.0.0.1:{free_port()}").send(EVENT, 1)
    assert answer == Answer(verdict=Verdict.WAIT, status="ConnectionRefusedError", away=True)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (ConnectTimeoutError("slow"), Verdict.WAIT),
        (NewConnectionError(HTTPConnection("h"), "refused"), Verdict.WAIT),
        (SSLError(ssl.SSLCertVerificationError("unknown authority")), Verdict.WAIT),
        (SSLError(ssl.SSLEOFError("ended")), Verdict.RETRY),
        (ReadTimeoutError(HTTPConnectionPool("h"), "/", "slow"), Verdict.RETRY),
        (ProtocolError("broken", ConnectionResetError()), Verdict.RETRY),
    ],
)
def test_only_what_was_never_sent_waits_in_hand(error: HTTPError, verdict: Verdict) -> None:
    cause = error.args[-1]
    error.__cause__ = cause if isinstance(cause, Exception) else None
    answer = answer_of_error(error)
    assert (answer.verdict, answer.away) == (verdict, True)


def test_an_unknown_host_leaves_the_event_in_hand() -> None:
    answer = sink("http://nowhere.invalid").send(EVENT, 1)
    assert (answer.verdict, answer.away) == (Verdict.WAIT, True)


def test_a_connection_that_breaks_after_the_event_went_out_is_the_events() -> None:
    with running_sink() as server:
        server.reply = lambda _: None
        answer = sink(server.url).send(EVENT, 1)
    assert answer == Answer(verdict=Verdict.RETRY, status="RemoteDisconnected", away=True)


def test_a_sink_that_says_nothing_is_given_up_on_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        answer = sink(url, sink_timeout=1.0).send(EVENT, 1)
    assert (answer.verdict, answer.away) == (Verdict.RETRY, True)
    assert "imeout" in answer.detail


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl to make a certificate with")
def test_an_authority_of_knative_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=sink"
    command += " -addext subjectAltName=IP:127.0.0.1"
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with running_sink(context) as server:
        url = server.url.replace("http", "https")
        stranger = sink(url).send(EVENT, 1)
        known = sink(url, ca_certs=certificate.read_text()).send(EVENT, 1)
        settings = {"QUEUE_URL": "q", "K_SINK": url, "K_CA_CERTS": certificate.read_text()}
        *_, checked = source_checks(settings)
        assert checked.look() == f"{url} answers 501"  # it has no GET
    assert stranger == Answer(verdict=Verdict.WAIT, status="SSLCertVerificationError", away=True)
    assert known.verdict is Verdict.DELIVERED


def test_overrides_of_knative_are_added_to_every_event() -> None:
    with running_sink() as server:
        sink(server.url, extensions={"environment": "prod"}, token="s3cret").send(EVENT, 1)
    assert server.acknowledged[0]["environment"] == "prod"
    assert server.acknowledged[0]["receivecount"] == "1"
    assert (server.acknowledged[0]["id"], server.acknowledged[0]["data"]) == ("1", {"a": 1})
    assert server.authorization == "Bearer s3cret"
    assert EVENT.get_extension("environment") is None
