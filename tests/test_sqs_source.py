"""The source against a real queue and a sink that answers as told: end states, not calls."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import urllib3
from conftest import Aws, free_port, queue_depth, queue_state
from fake_sink import FakeSink, running_sink

import events.source.delivery
from events.source.config import SourceConfig
from events.source.metrics import SourceMetrics
from events.source.queue_checks import Queue
from events.source.sink import Sink
from events.source.sqs_source import SqsSource
from local.aws import aws_env
from local.stack import answers
from local.stack import running_source as local_source

PUT = (Path(__file__).parent / "events" / "s3_put.json").read_text()
TEST_EVENT = (Path(__file__).parent / "events" / "s3_test_event.json").read_text()


@pytest.fixture
def sink() -> Iterator[FakeSink]:
    with running_sink() as server:
        yield server


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back off at once, so that seven deliveries take no minutes."""
    monkeypatch.setattr(events.source.delivery, "BACKOFF_BASE", 0.0)
    monkeypatch.setattr(events.source.delivery, "BACKOFF_LEAST", 0.0)
    monkeypatch.setattr(events.source.delivery, "HOLD_CAP", 0.1)


@contextmanager
def running_source(
    aws: Aws, sink_url: str, metrics: SourceMetrics | None = None, **settings: Any
) -> Iterator[threading.Event]:
    config = SourceConfig(
        queue_url=aws.resources.queue_url,
        sink=sink_url,
        **{"wait_seconds": 1, "visibility_timeout": 30, **settings},
    )
    stop = threading.Event()
    queue = Queue(aws.resources.dlq_url, max_receive_count=8)
    source = SqsSource(config, aws.sqs, Sink.from_config(config), queue, metrics)
    thread = threading.Thread(target=source.run, args=(stop,))
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(20)
    assert not thread.is_alive()


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


def send(aws: Aws, *bodies: str) -> None:
    for body in bodies:
        aws.sqs.send_message(QueueUrl=aws.resources.queue_url, MessageBody=body)


def put(key: str) -> str:
    notification = json.loads(PUT)
    notification["Records"][0]["s3"]["object"]["key"] = key
    return json.dumps(notification)


def dead_letter(aws: Aws, seconds: float = 60) -> dict[str, str]:
    """Wait for the one message of the dead-letter queue: its attributes and its body."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = aws.sqs.receive_message(
            QueueUrl=aws.resources.dlq_url, WaitTimeSeconds=1, MessageAttributeNames=["All"]
        )
        for message in answer.get("Messages", []):
            attributes = message.get("MessageAttributes", {}).items()
            facts = {name: attribute["StringValue"] for name, attribute in attributes}
            return {**facts, "body": message["Body"]}
    raise AssertionError("nothing came to the dead-letter queue")


def value(metrics: SourceMetrics, name: str) -> float:
    return metrics.registry.get_sample_value(name) or 0.0


def failed(metrics: SourceMetrics, status: str) -> float:
    name = "shelfwatch_source_attempts_failed_total"
    return metrics.registry.get_sample_value(name, {"status": status}) or 0.0


def breaker(metrics: SourceMetrics) -> str:
    name = "shelfwatch_source_breaker"
    return next(
        state
        for state in ("closed", "half-open", "open")
        if metrics.registry.get_sample_value(name, {name: state})
    )


def test_a_message_is_deleted_once_the_sink_has_acknowledged(aws: Aws, sink: FakeSink) -> None:
    send(aws, put("a.jpg"), TEST_EVENT, put("b.jpg"))
    with running_source(aws, sink.url, token="s3cret"):
        wait_for(lambda: len(sink.acknowledged) == 2 and queue_state(aws) == (0, 0))
    assert sorted(str(event["subject"]) for event in sink.acknowledged) == ["a.jpg", "b.jpg"]
    assert sink.authorization == "Bearer s3cret"


@pytest.mark.parametrize("status", [302, 404, 429, 500, 502])
def test_a_message_stays_on_the_queue_when_the_sink_fails(
    aws: Aws, sink: FakeSink, status: int
) -> None:
    sink.reply = lambda _: status
    send(aws, PUT)
    with running_source(aws, sink.url):
        wait_for(lambda: len(sink.refused) >= 1)
    assert sink.acknowledged == []
    assert sum(queue_state(aws)) == 1


@pytest.mark.usefixtures("hasty")
def test_a_message_that_failed_is_delivered_again(aws: Aws, sink: FakeSink) -> None:
    statuses = iter([502, 500])
    sink.reply = lambda _: next(statuses, 204)
    send(aws, PUT)
    with running_source(aws, sink.url):
        wait_for(lambda: len(sink.acknowledged) == 1 and queue_state(aws) == (0, 0))
    assert len(sink.refused) == 2


@pytest.mark.usefixtures("hasty")
def test_a_full_sink_costs_no_receive_and_gets_less(aws: Aws, sink: FakeSink) -> None:
    statuses = iter([503] * 20)
    overloaded = b'{"type": "urn:shelfwatch:problem:overloaded"}'
    headers = {"content-type": "application/problem+json"}
    sink.reply = lambda _: (503, headers, overloaded) if next(statuses, None) else 204
    send(aws, *(put(f"{number}.jpg") for number in range(3)))
    metrics = SourceMetrics()
    with running_source(aws, sink.url, metrics):
        wait_for(lambda: len(sink.refused) == 20)
        limit = value(metrics, "shelfwatch_source_in_flight_limit")
        wait_for(lambda: len(sink.acknowledged) == 3 and queue_state(aws) == (0, 0))
    assert limit == 1
    assert value(metrics, "shelfwatch_source_messages_received_total") == 3


def test_the_sinks_retry_after_is_waited_for(aws: Aws, sink: FakeSink) -> None:
    times: list[float] = []

    def reply(_: object) -> tuple[int, dict[str, str], bytes]:
        times.append(time.monotonic())
        return (503 if len(times) == 1 else 204), {"Retry-After": "2"}, b""

    sink.reply = reply
    send(aws, PUT)
    with running_source(aws, sink.url):
        wait_for(lambda: len(sink.acknowledged) == 1)
    assert 2 <= times[1] - times[0] < 6


def test_a_message_waits_in_hand_when_nobody_listens(aws: Aws) -> None:
    send(aws, PUT)
    metrics = SourceMetrics()
    with running_source(aws, f"http://127.0.0.1:{free_port()}", metrics):
        wait_for(lambda: queue_state(aws) == (0, 1))
        wait_for(lambda: failed(metrics, "ConnectionRefusedError") >= 2)
        assert value(metrics, "shelfwatch_source_messages_received_total") == 1
    assert queue_state(aws) == (1, 0)  # given back when told to stop


@pytest.mark.usefixtures("hasty")
def test_what_keeps_failing_is_given_up_before_the_last_receive(aws: Aws, sink: FakeSink) -> None:
    sink.reply = lambda event: 500 if event["subject"] == "bad.jpg" else 204
    send(aws, put("bad.jpg"), put("good.jpg"))
    with running_source(aws, sink.url):
        letter = dead_letter(aws)
        wait_for(lambda: queue_state(aws) == (0, 0))
    assert len(sink.refused) == 7
    assert [event["subject"] for event in sink.acknowledged] == ["good.jpg"]
    assert letter["body"] == put("bad.jpg")
    assert (letter["reason"], letter["detail"]) == ("exhausted", "HTTP 500")
    assert letter["receive_count"] == "7"


@pytest.mark.parametrize(
    ("body", "reason", "detail"),
    [
        pytest.param("hello", "unreadable", "The body must be JSON, got 'hello'", id="text"),
        pytest.param(
            "[]", "unreadable", "An S3 notification must be a JSON object, got []", id="list"
        ),
        pytest.param(put("a.jpg"), "refused", "HTTP 422", id="refused"),
    ],
)
def test_what_no_retry_mends_is_given_up_at_once(
    aws: Aws, sink: FakeSink, body: str, reason: str, detail: str
) -> None:
    sink.reply = lambda event: 422 if event["subject"] == "a.jpg" else 204
    send(aws, body, put("good.jpg"))
    metrics = SourceMetrics()
    with running_source(aws, sink.url, metrics):
        letter = dead_letter(aws)
        wait_for(lambda: len(sink.acknowledged) == 1 and queue_state(aws) == (0, 0))
    assert letter["body"] == body
    assert (letter["reason"], letter["detail"]) == (reason, detail)
    assert letter["receive_count"] == "1"
    assert metrics.registry.get_sample_value(
        "shelfwatch_source_dead_letters_total", {"reason": reason}
    )


def test_what_cannot_be_copied_stays_on_the_queue(aws: Aws, sink: FakeSink) -> None:
    aws.sqs.delete_queue(QueueUrl=aws.resources.dlq_url)
    send(aws, "hello", PUT)
    with running_source(aws, sink.url):
        wait_for(lambda: len(sink.acknowledged) == 1 and sum(queue_state(aws)) == 1)
    assert sum(queue_state(aws)) == 1


def test_a_wrong_token_drains_nothing_into_the_dead_letter_queue(aws: Aws, sink: FakeSink) -> None:
    sink.reply = lambda _: 401
    send(aws, *(put(f"{number}.jpg") for number in range(5)))
    metrics = SourceMetrics()
    with running_source(aws, sink.url, metrics):
        wait_for(lambda: failed(metrics, "401") >= 4)
        sink.reply = lambda _: 204
        wait_for(lambda: len(sink.acknowledged) == 5 and queue_state(aws) == (0, 0))
    assert queue_depth(aws, aws.resources.dlq_url) == 0


@pytest.mark.usefixtures("hasty")
def test_a_sink_that_hangs_up_on_everyone_stops_the_line(
    aws: Aws, sink: FakeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a breaker, each of these would be received seven times within as many seconds."""
    monkeypatch.setattr(events.source.delivery, "BACKOFF_LEAST", 1.0)
    monkeypatch.setattr(events.source.delivery, "PAUSES_AWAY", 2)
    sink.reply = lambda _: None
    send(aws, *(put(f"{number}.jpg") for number in range(6)))
    metrics = SourceMetrics()
    with running_source(aws, sink.url, metrics):
        wait_for(lambda: breaker(metrics) == "open")
        received = value(metrics, "shelfwatch_source_messages_received_total")
        tried = len(sink.refused)
        time.sleep(3)
        wait_for(lambda: len(sink.refused) > tried)
        assert value(metrics, "shelfwatch_source_messages_received_total") - received <= 3
        probes = [event["subject"] for event in sink.refused[tried:]]
        assert len(probes) == len(set(probes)) >= 1
        sink.reply = lambda _: 204
        wait_for(lambda: len(sink.acknowledged) == 6 and queue_state(aws) == (0, 0))
        assert breaker(metrics) == "closed"
    assert queue_depth(aws, aws.resources.dlq_url) == 0


@pytest.mark.usefixtures("hasty")
def test_one_message_that_ends_every_connection_does_not_stop_the_line(
    aws: Aws, sink: FakeSink
) -> None:
    sink.reply = lambda event: None if event["subject"] == "killer.jpg" else 204
    send(aws, put("killer.jpg"), *(put(f"{number}.jpg") for number in range(20)))
    with running_source(aws, sink.url):
        letter = dead_letter(aws)
        wait_for(lambda: len(sink.acknowledged) == 20 and queue_state(aws) == (0, 0))
    assert letter["body"] == put("killer.jpg")
    assert (letter["reason"], letter["detail"]) == ("exhausted", "RemoteDisconnected")


def test_of_two_records_one_failure_keeps_the_message(aws: Aws, sink: FakeSink) -> None:
    records = json.loads(put("a.jpg"))["Records"] + json.loads(put("b.jpg"))["Records"]
    sink.reply = lambda event: 500 if event["subject"] == "b.jpg" else 204
    send(aws, json.dumps({"Records": records}))
    with running_source(aws, sink.url):
        wait_for(lambda: len(sink.refused) >= 1)
    assert sum(queue_state(aws)) == 1
    assert {event["subject"] for event in sink.acknowledged} == {"a.jpg"}


def test_a_refused_record_does_not_hold_up_the_next(aws: Aws, sink: FakeSink) -> None:
    records = [json.loads(put(key))["Records"][0] for key in ("a.jpg", "b.jpg")]
    sink.reply = lambda event: 403 if event["subject"] == "a.jpg" else 204
    send(aws, json.dumps({"Records": records}))
    with running_source(aws, sink.url):
        letter = dead_letter(aws)
        wait_for(lambda: queue_state(aws) == (0, 0))
    assert [event["subject"] for event in sink.acknowledged] == ["b.jpg"]
    assert (letter["reason"], json.loads(letter["body"])["Records"]) == ("refused", records[:1])


@pytest.mark.usefixtures("hasty")
def test_of_a_message_only_what_came_to_nothing_is_given_up(aws: Aws, sink: FakeSink) -> None:
    records = [json.loads(put(key))["Records"][0] for key in ("bad.jpg", "a.jpg", "b.jpg")]
    sink.reply = lambda event: 500 if event["subject"] == "bad.jpg" else 204
    send(aws, json.dumps({"Records": records}))
    with running_source(aws, sink.url):
        letter = dead_letter(aws)
        wait_for(lambda: queue_state(aws) == (0, 0))
    assert {event["subject"] for event in sink.acknowledged} == {"a.jpg", "b.jpg"}
    assert (letter["reason"], json.loads(letter["body"])["Records"]) == ("exhausted", records[:1])


def test_the_functions_own_words_are_in_the_letter_and_a_proxys_are_not(
    aws: Aws, sink: FakeSink
) -> None:
    headers = {"content-type": "application/problem+json"}
    kinds = {"ours.jpg": "urn:shelfwatch:problem:bucket-forbidden", "theirs.jpg": "about:blank"}

    def refuse(event: dict[str, object]) -> tuple[int, dict[str, str], bytes]:
        body = {
            "type": kinds[str(event["subject"])],
            "detail": "Bucket 'b' is not in EVENTS_BUCKETS",
        }
        return 403, headers, json.dumps(body).encode()

    sink.reply = refuse
    metrics = SourceMetrics()
    details = {}
    for key in kinds:
        send(aws, put(key))
        with running_source(aws, sink.url, metrics):
            details[key] = dead_letter(aws)["detail"]
            wait_for(lambda: queue_state(aws) == (0, 0))
    assert details == {
        "ours.jpg": "HTTP 403: Bucket 'b' is not in EVENTS_BUCKETS",
        "theirs.jpg": "HTTP 403",
    }
    assert failed(metrics, "403") == 2


def test_what_asks_for_no_audit_is_counted_by_kind(aws: Aws, sink: FakeSink) -> None:
    send(aws, TEST_EVENT, put("results/1.json"), put("results/1.jpg").replace("shelves", "photos"))
    metrics = SourceMetrics()
    with running_source(aws, sink.url, metrics, results_bucket="shelves"):
        wait_for(lambda: len(sink.acknowledged) == 1 and queue_state(aws) == (0, 0))
    kinds = {
        kind: metrics.registry.get_sample_value(
            "shelfwatch_source_records_ignored_total", {"kind": kind}
        )
        for kind in ("s3:TestEvent", "ours", "folder")
    }
    assert kinds == {"s3:TestEvent": 1, "ours": 1, "folder": 0}


def test_long_work_keeps_its_lease(aws: Aws, sink: FakeSink) -> None:
    """Seven seconds of work under a six-second lease: without a heartbeat it would come twice."""
    entered: list[float] = []

    def slow(_: object) -> int:
        entered.append(time.monotonic())
        time.sleep(7)
        return 204

    sink.reply = slow
    send(aws, PUT)
    with running_source(aws, sink.url, visibility_timeout=6):
        wait_for(lambda: len(sink.acknowledged) == 1 and queue_state(aws) == (0, 0))
    assert len(entered) == 1


def test_no_more_is_leased_than_can_be_worked_on(aws: Aws, sink: FakeSink) -> None:
    release = threading.Event()
    busy = threading.Semaphore(0)

    def hold(_: object) -> int:
        busy.release()
        release.wait(10)
        return 204

    sink.reply = hold
    send(aws, *(put(f"{number}.jpg") for number in range(6)))
    with running_source(aws, sink.url, in_flight=2):
        assert busy.acquire(timeout=10)
        assert busy.acquire(timeout=10)
        time.sleep(0.5)
        assert queue_state(aws) == (4, 2)
        release.set()
        wait_for(lambda: len(sink.acknowledged) == 6 and queue_state(aws) == (0, 0))


def test_told_to_stop_it_finishes_what_is_in_flight(aws: Aws, sink: FakeSink) -> None:
    entered, release = threading.Event(), threading.Event()

    def slow(_: object) -> int:
        entered.set()
        release.wait(30)
        return 204

    sink.reply = slow
    send(aws, *(put(f"{number}.jpg") for number in range(4)))
    with running_source(aws, sink.url, in_flight=1) as stop:
        assert entered.wait(10)
        stop.set()
        release.set()
    assert len(sink.acknowledged) == 1
    assert queue_state(aws) == (3, 0)  # the others wait for the next source, leased by nobody


def test_out_of_time_it_gives_back_what_is_in_hand(aws: Aws, sink: FakeSink) -> None:
    """Spot waits for nobody: at the end of the grace, a sink that hangs holds nothing up."""
    release = threading.Event()
    sink.reply = lambda _: 204 if release.wait(10) else 500
    send(aws, put("a.jpg"), put("b.jpg"))
    config = SourceConfig(queue_url=aws.resources.queue_url, sink=sink.url, wait_seconds=1)
    source = SqsSource(config, aws.sqs, Sink.from_config(config), Queue(aws.resources.dlq_url, 8))
    stop = threading.Event()
    thread = threading.Thread(target=source.run, args=(stop,))
    thread.start()
    wait_for(lambda: queue_state(aws) == (0, 2) and len(source._leases) == 2)
    stop.set()
    source.abandon()
    assert queue_state(aws) == (2, 0)
    release.set()
    thread.join(20)
    assert not thread.is_alive()


def test_the_process_tells_its_health_and_ends_on_sigterm(
    aws: Aws, sink: FakeSink, tmp_path: Path
) -> None:
    port = free_port()
    env = {**aws_env(aws.endpoint_url), "METRICS_PORT": str(port)}
    send(aws, PUT)
    with local_source(sink.url, aws.resources.queue_url, env, tmp_path) as source:
        source.wait_until(lambda: answers(f"http://127.0.0.1:{port}/health/ready"), 20)
        source.wait_until(lambda: answers(f"http://127.0.0.1:{port}/health/live"), 20)
        wait_for(lambda: queue_state(aws) == (0, 0))
        page = urllib3.request("GET", f"http://127.0.0.1:{port}/metrics").data.decode()
        source.process.terminate()
        assert source.process.wait(30) == 0
    assert "shelfwatch_source_events_delivered_total 1.0" in page
    assert 'shelfwatch_source_breaker{shelfwatch_source_breaker="closed"} 1.0' in page


def test_the_process_does_not_start_where_its_port_is_taken(
    aws: Aws, sink: FakeSink, tmp_path: Path
) -> None:
    """As by a second source on one machine."""
    taken = sink.server_address[1]
    env = {**aws_env(aws.endpoint_url), "METRICS_PORT": str(taken)}
    with local_source(sink.url, aws.resources.queue_url, env, tmp_path) as source:
        assert source.process.wait(20) == 2
    last = json.loads((tmp_path / "source.log").read_text().splitlines()[-1])
    assert last["event"] == "source.misconfigured"
    assert last["error"].startswith("`METRICS_PORT` must be a free port")
    assert last["error"].endswith(f"got 127.0.0.1:{taken}")


def test_the_process_does_not_start_without_a_dead_letter_queue(
    aws: Aws, sink: FakeSink, tmp_path: Path
) -> None:
    send(aws, PUT)
    aws.sqs.delete_queue(QueueUrl=aws.resources.dlq_url)
    env = aws_env(aws.endpoint_url)
    with local_source(sink.url, aws.resources.queue_url, env, tmp_path) as source:
        assert source.process.wait(20) == 2
    assert queue_state(aws) == (1, 0)
    last = json.loads((tmp_path / "source.log").read_text().splitlines()[-1])
    assert last["event"] == "source.misconfigured"
    assert "must name a queue that exists" in last["error"]
