"""The whole path with its real processes: bucket, queue, source, function, topic, subscriber."""

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import GOOD_SAMPLE, Aws, free_port, queue_depth
from fake_sink import running_sink
from schemas import validate

from events.types import IMAGE_REJECTED, SHELF_AUDITED
from local.aws import aws_env
from local.stack import running_function, running_source
from local.subscriber import receive_events

TOKEN = {"EVENTS_TOKEN": "s3cret"}


def function_env(aws: Aws, **settings: str) -> dict[str, str]:
    return {
        **aws_env(aws.endpoint_url),
        **TOKEN,
        "EVENTS_BUCKETS": aws.resources.bucket,
        "RESULTS_BUCKET": aws.resources.results_bucket,
        "TOPIC_ARN": aws.resources.topic_arn,
        "K_REVISION": "detector-00003",
        **settings,
    }


def source_env(aws: Aws, **settings: str) -> dict[str, str]:
    return {**aws_env(aws.endpoint_url), **TOKEN, **settings}


def receive(aws: Aws, count: int, seconds: float = 60) -> list[dict[str, object]]:
    """Receive events until there are `count`, and then all that are left."""
    events: list[dict[str, object]] = []
    deadline = time.monotonic() + seconds
    while True:
        more = list(receive_events(aws.sqs, aws.s3, aws.resources.subscriber_url))
        events += more
        if not more and (len(events) >= count or time.monotonic() > deadline):
            return events


def wait_until_empty(aws: Aws) -> None:
    """Wait until every message has been worked off."""
    deadline = time.monotonic() + 110  # one that met three kills stays away for up to 45 s
    while queue_depth(aws, aws.resources.queue_url):
        assert time.monotonic() < deadline, "messages are still on the queue"
        time.sleep(0.1)


# Log lines about the process, its start and its end, not about an event.
OF_THE_PROCESS = ("model.", "source.", "check.", "function.")


def event_lines(log: Path) -> list[dict[str, object]]:
    """Read the lines of a process's log that are about events."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    ours = [line for line in lines if line["logger"].startswith(("events", "function"))]
    return [line for line in ours if not line["event"].startswith(OF_THE_PROCESS)]


def test_every_uploaded_photo_ends_as_an_event(aws: Aws, tmp_path: Path) -> None:
    keys = ["store-17/cam-2/café + bar.jpg", "plain.jpg", "store-2/cam-1/broken.jpg"]
    with (
        running_function(free_port(), function_env(aws), tmp_path) as (url, _),
        running_source(url, aws.resources.queue_url, source_env(aws), tmp_path),
    ):
        for key in keys:
            body = b"no image" if "broken" in key else GOOD_SAMPLE.read_bytes()
            aws.s3.put_object(Bucket=aws.resources.bucket, Key=key, Body=body)
        events = {str(event["subject"]): event for event in receive(aws, len(keys))}
        assert set(events) == set(keys)
        for event in events.values():
            validate(str(event["type"]), event["data"])
        assert events[keys[0]]["type"] == events[keys[1]]["type"] == SHELF_AUDITED
        assert events[keys[2]]["type"] == IMAGE_REJECTED
        data: Any = events[keys[0]]["data"]
        assert data["count"] == len(data["detections"]) > 50
        assert data["model"]["revision"] == "detector-00003"
        assert "store" not in events[keys[1]]
        # One photo again under its key: a new version, so a new audit.
        aws.s3.put_object(Bucket=aws.resources.bucket, Key=keys[0], Body=GOOD_SAMPLE.read_bytes())
        (again,) = receive(aws, 1)
        assert again["id"] != events[keys[0]]["id"]
    ids = {again["id"], *(event["id"] for event in events.values())}
    for process in ("function", "source"):
        lines = event_lines(tmp_path / f"{process}.log")
        assert {line.get("event_id") for line in lines} == ids, process
        assert all(line.get("trace_id") == line["event_id"] for line in lines), process
    assert queue_depth(aws, aws.resources.queue_url) == 0
    assert queue_depth(aws, aws.resources.dlq_url) == 0


@pytest.mark.slow
def test_results_in_the_photos_bucket_do_not_come_back(aws: Aws, tmp_path: Path) -> None:
    """S3 announces them as it does the photos; to audit them would never end."""
    bucket = aws.resources.bucket
    with (
        running_function(free_port(), function_env(aws, RESULTS_BUCKET=bucket), tmp_path) as (
            url,
            _,
        ),
        running_source(
            url, aws.resources.queue_url, source_env(aws, RESULTS_BUCKET=bucket), tmp_path
        ),
    ):
        aws.s3.put_object(Bucket=bucket, Key="a.jpg", Body=GOOD_SAMPLE.read_bytes())
        (event,) = receive(aws, 1)
        wait_until_empty(aws)
    assert receive(aws, 0) == []
    keys = [one["Key"] for one in aws.s3.list_objects_v2(Bucket=bucket)["Contents"]]
    ours = [f"published/{event['id']}", f"results/{event['id']}.json"]
    assert keys == ["a.jpg", *ours]
    lines = map(json.loads, (tmp_path / "source.log").read_text().splitlines())
    ignored = [line for line in lines if line["event"] == "record.ignored"]
    assert {(line["kind"], line["uri"]) for line in ignored} == {
        ("ours", f"s3://{bucket}/{key}") for key in ours
    }


def test_the_source_begins_though_s3_is_silent(aws: Aws, tmp_path: Path) -> None:
    """It asks S3 only to warn of a bucket of results that feeds a queue."""
    with running_sink() as sink, socket.create_server(("127.0.0.1", 0)) as silent:
        silent_url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        env = source_env(aws, RESULTS_BUCKET="results", AWS_ENDPOINT_URL_S3=silent_url)
        with running_source(sink.url, aws.resources.queue_url, env, tmp_path):
            aws.s3.put_object(Bucket=aws.resources.bucket, Key="a.jpg", Body=b"")
            deadline = time.monotonic() + 15
            while not sink.acknowledged:
                assert time.monotonic() < deadline, "nothing was delivered"
                time.sleep(0.1)
    assert sink.acknowledged[0]["subject"] == "a.jpg"


@pytest.mark.slow
def test_two_deliveries_of_one_notification_give_one_id(aws: Aws, tmp_path: Path) -> None:
    """Also when the first was published and its message could not be deleted any more."""
    aws.s3.put_object(Bucket=aws.resources.bucket, Key="a.jpg", Body=GOOD_SAMPLE.read_bytes())
    (message,) = aws.sqs.receive_message(
        QueueUrl=aws.resources.queue_url, WaitTimeSeconds=5, VisibilityTimeout=0
    )["Messages"]
    body = message["Body"]
    ids = []
    for bucket, copies in ((aws.resources.results_bucket, 2), ("", 2)):
        for _ in range(copies):
            aws.sqs.send_message(QueueUrl=aws.resources.queue_url, MessageBody=body)
        env = function_env(aws, RESULTS_BUCKET=bucket)
        with (
            running_function(free_port(), env, tmp_path) as (url, _),
            running_source(url, aws.resources.queue_url, source_env(aws, IN_FLIGHT="1"), tmp_path),
        ):
            wait_until_empty(aws)
        ids.append([event["id"] for event in receive(aws, 1)])
    with_outbox, without = ids
    assert len(with_outbox) == 1  # three deliveries: the outbox knew the others
    assert len(without) == 2
    assert {*with_outbox, *without} == {with_outbox[0]}


@pytest.mark.slow
def test_a_photo_waits_for_a_function_that_is_down(aws: Aws, tmp_path: Path) -> None:
    port = free_port()
    with running_source(
        f"http://127.0.0.1:{port}", aws.resources.queue_url, source_env(aws), tmp_path
    ):
        aws.s3.put_object(Bucket=aws.resources.bucket, Key="a.jpg", Body=GOOD_SAMPLE.read_bytes())
        assert receive(aws, 1, seconds=3) == []
        assert queue_depth(aws, aws.resources.queue_url) == 1
        with running_function(port, function_env(aws), tmp_path):
            (event,) = receive(aws, 1, seconds=40)
    assert event["subject"] == "a.jpg"
    assert queue_depth(aws, aws.resources.queue_url) == 0


def test_without_the_token_nothing_is_published(aws: Aws, tmp_path: Path) -> None:
    with (
        running_function(free_port(), function_env(aws), tmp_path) as (url, _),
        running_source(url, aws.resources.queue_url, aws_env(aws.endpoint_url), tmp_path),
    ):
        aws.s3.put_object(Bucket=aws.resources.bucket, Key="a.jpg", Body=GOOD_SAMPLE.read_bytes())
        deadline = time.monotonic() + 30
        while (log := (tmp_path / "source.log").read_text()).count('"HTTP 401: ') < 2:
            assert time.monotonic() < deadline, log
            time.sleep(0.1)
        assert receive(aws, 0) == []
    assert queue_depth(aws, aws.resources.queue_url) == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_function_killed_at_work_loses_nothing(aws: Aws, tmp_path: Path) -> None:
    """Some are published twice, when the kill came between the publish and the answer."""
    waves = [[f"store-1/cam-1/{wave}-{number}.jpg" for number in range(4)] for wave in range(3)]
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running_source(url, aws.resources.queue_url, source_env(aws), tmp_path):
        for keys in waves:
            with running_function(port, function_env(aws), tmp_path) as (_, function):
                for key in keys:
                    body = GOOD_SAMPLE.read_bytes()
                    aws.s3.put_object(Bucket=aws.resources.bucket, Key=key, Body=body)
                time.sleep(0.3)
                function.kill()
        with running_function(port, function_env(aws), tmp_path):
            wait_until_empty(aws)
    events = receive(aws, sum(map(len, waves)))
    assert {event["subject"] for event in events} == {key for keys in waves for key in keys}
    assert len({event["id"] for event in events}) == sum(map(len, waves))
    assert queue_depth(aws, aws.resources.dlq_url) == 0
