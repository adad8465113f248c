"""Sweep and replay make good what went wrong, through the real function and source."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import GOOD_SAMPLE, ROOT, Aws, free_port, queue_state
from notifications import events_from_body
from test_path import function_env, receive, source_env, wait_until_empty

from events.s3_notification import object_from_event
from local.aws import aws_env
from local.stack import running_function, running_source

pytestmark = pytest.mark.slow

KEYS = [f"store-{number % 3}/cam-1/café + {number}.jpg" for number in range(6)]
SWEEP = ("events.repair.sweep", "--older-than", "0s")
REPLAY = ("events.repair.replay", "--prefix", "store-")


@contextmanager
def path_running(aws: Aws, logs: Path) -> Iterator[None]:
    with (
        running_function(free_port(), function_env(aws), logs) as (url, _),
        running_source(url, aws.resources.queue_url, source_env(aws), logs),
    ):
        yield


def published(aws: Aws) -> list[dict[str, object]]:
    """Wait until the queue is worked off, then take the events that came of it."""
    wait_until_empty(aws)
    return receive(aws, 0)


def command(aws: Aws, module: str, *arguments: str) -> str:
    """Run a command as an operator does; return what it printed."""
    env = {
        **aws_env(aws.endpoint_url),
        "EVENTS_BUCKETS": aws.resources.bucket,
        "RESULTS_BUCKET": aws.resources.results_bucket,
        "QUEUE_URL": aws.resources.queue_url,
    }
    result = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def put(aws: Aws, keys: list[str]) -> None:
    for key in keys:
        body = GOOD_SAMPLE.read_bytes()
        aws.s3.put_object(Bucket=aws.resources.bucket, Key=key, Body=body)


def take_all(aws: Aws) -> list[dict[str, str]]:
    """Take every message from the queue, as if S3 had never sent it."""
    url = aws.resources.queue_url
    taken: list[dict[str, str]] = []
    while messages := aws.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            aws.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        taken += messages
    return taken


def test_a_sweep_recovers_every_dropped_notification_and_a_second_publishes_nothing(
    aws: Aws, tmp_path: Path
) -> None:
    put(aws, KEYS)
    notifications = take_all(aws)
    dropped, kept = notifications[:4], notifications[4:]
    lost = {
        object_from_event(event).key: event.get_id()
        for message in dropped
        for event in events_from_body(message["Body"])
    }
    for message in kept:
        aws.sqs.send_message(QueueUrl=aws.resources.queue_url, MessageBody=message["Body"])
    with path_running(aws, tmp_path):
        first = published(aws)
        assert {event["subject"] for event in first} == set(KEYS) - set(lost)

        assert "6 looked at, 4 to be audited, 0 sent" in command(aws, *SWEEP)
        assert "4 to be audited, 4 sent" in command(aws, *SWEEP, "--send")
        found = published(aws)
        # Their ids are those that their own notifications would have given them.
        assert {event["subject"]: event["id"] for event in found} == lost
        assert len(found) == len(lost)

        assert "0 to be audited, 0 sent" in command(aws, *SWEEP, "--send")
        # A notification that was only late publishes nothing either.
        late = dropped[0]["Body"]
        aws.sqs.send_message(QueueUrl=aws.resources.queue_url, MessageBody=late)
        assert published(aws) == []

        # The model turns out to be bad: each photo is audited once more, under an id of its own.
        data: Any = found[0]["data"]
        digest = str(data["model"]["digest"])
        command(aws, *SWEEP, "--send", "--again", "--model", digest)
        anew = published(aws)
    assert sorted(str(event["subject"]) for event in anew) == sorted(KEYS)
    assert not {event["id"] for event in anew} & {event["id"] for event in first + found}


def test_what_is_replayed_twice_is_published_once(aws: Aws, tmp_path: Path) -> None:
    """SQS moved all of them; a run that was cut short left one copy behind."""
    put(aws, KEYS)
    urls = aws.resources
    while queue_state(aws) != (0, 0):
        aws.sqs.receive_message(
            QueueUrl=urls.queue_url, MaxNumberOfMessages=10, VisibilityTimeout=0
        )
    aws.sqs.send_message(QueueUrl=urls.dlq_url, MessageBody="no notification")
    assert queue_state(aws, urls.dlq_url) == (len(KEYS) + 1, 0)
    with path_running(aws, tmp_path):
        assert command(aws, *REPLAY).count("send  unknown") == len(KEYS)
        assert published(aws) == []
        (left_behind,) = aws.sqs.receive_message(QueueUrl=urls.dlq_url, VisibilityTimeout=0)[
            "Messages"
        ]
        assert "Records" in left_behind["Body"]
        command(aws, *REPLAY, "--send")
        events = published(aws)
        assert sorted(str(event["subject"]) for event in events) == sorted(KEYS)
        assert queue_state(aws, urls.dlq_url) == (1, 0)

        aws.sqs.send_message(QueueUrl=urls.dlq_url, MessageBody=left_behind["Body"])
        command(aws, *REPLAY, "--send")
        assert published(aws) == []
