"""The source against a real queue and a sink that answers as told: end states, not calls."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import urllib3
from conftest import Aws, queue_state

from events.leases import Leases
from events.sqs_source import SettingError, Sink, SourceConfig, SqsSource

PUT = (Path(__file__).parent / "events" / "s3_put.json").read_text()
TEST_EVENT = (Path(__file__).parent / "events" / "s3_test_event.json").read_text()


class FakeSink(ThreadingHTTPServer):
    """Keeps the events it acknowledged; `answer` decides the status of each."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer: Callable[[dict[str, object]], int] = lambda _: 204
        self.acknowledged: list[dict[str, object]] = []
        self.refused = 0
        self.authorization: str | None = None
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: FakeSink

    def do_POST(self) -> None:
        event = json.loads(self.rfile.read(int(self.headers["content-length"])))
        status = self.server.answer(event)
        if 200 <= status < 300:
            self.server.acknowledged.append(event)
        else:
            self.server.refused += 1
        self.server.authorization = self.headers["authorization"]
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def sink() -> Iterator[FakeSink]:
    server = FakeSink()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@contextmanager
def running_source(aws: Aws, sink_url: str, **settings: object) -> Iterator[threading.Event]:
    config = SourceConfig(
        aws.resources.queue_url,
        sink_url,
        **{"wait_seconds": 1, "visibility_timeout": 30, **settings},  # type: ignore[arg-type]
    )
    stop = threading.Event()
    with urllib3.PoolManager(timeout=5, retries=False) as http:
        source = SqsSource(config, aws.sqs, Sink(config.sink, http, config.token))  # type: ignore[arg-type]
        thread = threading.Thread(target=source.run, args=(stop,))
        thread.start()
        try:
            yield stop
        finally:
            stop.set()
            thread.join(20)
        assert not thread.is_alive()


def wait_for(condition: Callable[[], bool], seconds: float = 15) -> None:
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


def test_a_message_is_deleted_once_the_sink_has_acknowledged(aws: Aws, sink: FakeSink) -> None:
    send(aws, put("a.jpg"), TEST_EVENT, put("b.jpg"))
    with running_source(aws, sink.url, token="s3cret"):
        wait_for(lambda: len(sink.acknowledged) == 2 and queue_state(aws) == (0, 0))
    assert sorted(str(event["subject"]) for event in sink.acknowledged) == ["a.jpg", "b.jpg"]
    assert sink.authorization == "Bearer s3cret"


@pytest.mark.parametrize("status", [302, 400, 503])
def test_a_message_stays_on_the_queue_when_the_sink_refuses(
    aws: Aws, sink: FakeSink, status: int
) -> None:
    sink.answer = lambda _: status
    send(aws, PUT)
    with running_source(aws, sink.url):
        wait_for(lambda: sink.refused >= 1)
    assert sink.acknowledged == []
    assert sum(queue_state(aws)) == 1


def test_a_refused_message_is_delivered_again(aws: Aws, sink: FakeSink) -> None:
    statuses = iter([503, 500])
    sink.answer = lambda _: next(statuses, 204)
    send(aws, PUT)
    with running_source(aws, sink.url):
        wait_for(lambda: len(sink.acknowledged) == 1 and queue_state(aws) == (0, 0), 40)
    assert sink.refused == 2


def test_a_message_stays_when_nobody_listens(aws: Aws) -> None:
    send(aws, PUT)
    with running_source(aws, "http://127.0.0.1:9"):
        wait_for(lambda: queue_state(aws)[1] == 1)
    assert sum(queue_state(aws)) == 1


def test_of_two_records_one_refusal_keeps_the_message(aws: Aws, sink: FakeSink) -> None:
    records = json.loads(put("a.jpg"))["Records"] + json.loads(put("b.jpg"))["Records"]
    sink.answer = lambda event: 503 if event["subject"] == "b.jpg" else 204
    send(aws, json.dumps({"Records": records}))
    with running_source(aws, sink.url):
        wait_for(lambda: sink.refused >= 1)
    assert sum(queue_state(aws)) == 1
    assert {event["subject"] for event in sink.acknowledged} == {"a.jpg"}


def test_an_unknown_message_is_kept_and_stops_nobody(aws: Aws, sink: FakeSink) -> None:
    send(aws, "hello", PUT)
    with running_source(aws, sink.url):
        wait_for(lambda: len(sink.acknowledged) == 1 and sum(queue_state(aws)) == 1)
    assert sum(queue_state(aws)) == 1


def test_long_work_keeps_its_lease(aws: Aws, sink: FakeSink) -> None:
    """Four seconds of work under a three-second lease: without a heartbeat it would come twice."""
    entered: list[float] = []

    def slow(_: object) -> int:
        entered.append(time.monotonic())
        time.sleep(4)
        return 204

    sink.answer = slow
    send(aws, PUT)
    with running_source(aws, sink.url, visibility_timeout=3):
        wait_for(lambda: len(sink.acknowledged) == 1 and queue_state(aws) == (0, 0))
    assert len(entered) == 1


def test_no_more_is_leased_than_can_be_worked_on(aws: Aws, sink: FakeSink) -> None:
    release = threading.Event()
    busy = threading.Semaphore(0)

    def hold(_: object) -> int:
        busy.release()
        release.wait(10)
        return 204

    sink.answer = hold
    send(aws, *(put(f"{number}.jpg") for number in range(6)))
    with running_source(aws, sink.url, in_flight=2):
        assert busy.acquire(timeout=10)
        assert busy.acquire(timeout=10)
        time.sleep(0.5)
        assert queue_state(aws) == (4, 2)
        release.set()
        wait_for(lambda: len(sink.acknowledged) == 6 and queue_state(aws) == (0, 0))


def test_told_to_stop_it_finishes_what_is_in_flight(aws: Aws, sink: FakeSink) -> None:
    entered = threading.Event()

    def slow(_: object) -> int:
        entered.set()
        time.sleep(1)
        return 204

    sink.answer = slow
    send(aws, *(put(f"{number}.jpg") for number in range(4)))
    with running_source(aws, sink.url, in_flight=1) as stop:
        assert entered.wait(10)
        stop.set()
    assert len(sink.acknowledged) == 1
    assert queue_state(aws) == (3, 0)  # the others wait for the next source, leased by nobody


def test_a_released_message_is_not_held_any_more(aws: Aws) -> None:
    send(aws, PUT)
    with Leases(aws.sqs, aws.resources.queue_url, 3) as leases:  # type: ignore[arg-type]
        (message,) = aws.sqs.receive_message(
            QueueUrl=aws.resources.queue_url, VisibilityTimeout=30
        )["Messages"]
        leases.hold(message["ReceiptHandle"])
        leases.release(message["ReceiptHandle"], 0)
        assert len(leases) == 0
        time.sleep(1.5)  # a beat is a second
        assert queue_state(aws) == (1, 0)


def test_settings_come_from_the_environment() -> None:
    env = {"QUEUE_URL": "http://q", "K_SINK": "http://s", "IN_FLIGHT": "4"}
    config = SourceConfig.from_env(env)
    assert (config.queue_url, config.sink, config.in_flight) == ("http://q", "http://s", 4)
    assert config == SourceConfig("http://q", "http://s", in_flight=4)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"QUEUE_URL": ""}, "QUEUE_URL is not set"),
        ({"K_SINK": ""}, "K_SINK is not set"),
        ({"IN_FLIGHT": "0"}, "IN_FLIGHT is '0'"),
        ({"IN_FLIGHT": "two"}, "IN_FLIGHT is 'two'"),
        ({"RECEIVE_WAIT_SECONDS": "21"}, "RECEIVE_WAIT_SECONDS"),
        ({"VISIBILITY_TIMEOUT": "1"}, "VISIBILITY_TIMEOUT"),
        ({"SINK_TIMEOUT": "-5"}, "SINK_TIMEOUT"),
        ({"AUDIT_GENERATION": "1.5"}, "AUDIT_GENERATION"),
    ],
)
def test_an_odd_setting_is_named(changes: dict[str, str], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        SourceConfig.from_env({"QUEUE_URL": "http://q", "K_SINK": "http://s", **changes})
