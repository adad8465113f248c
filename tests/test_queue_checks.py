"""A queue that would lose messages is found before the source takes any from it."""

import json
import logging
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from conftest import Aws

from events.source import queue_checks
from events.source.config import SourceConfig
from events.source.queue_checks import NoDeadLetters, Queue, check_queue, check_results_bucket
from events.sqs import queue_arn


def config(aws: Aws, **settings: Any) -> SourceConfig:
    return SourceConfig(queue_url=aws.resources.queue_url, sink="http://s", **settings)


def check(aws: Aws, **settings: object) -> Queue:
    return check_queue(config(aws, **settings), aws.sqs, threading.Event())


def findings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.ERROR]


def change(aws: Aws, **attributes: str) -> None:
    aws.sqs.set_queue_attributes(QueueUrl=aws.resources.queue_url, Attributes=attributes)


def test_our_own_queue_passes(aws: Aws, caplog: pytest.LogCaptureFixture) -> None:
    queue = check(aws)
    assert (queue.dlq_url, queue.max_receive_count) == (aws.resources.dlq_url, 8)
    assert queue.last_receive == 7
    assert findings(caplog) == []


def test_a_queue_without_dead_letter_queue_ends_the_start(aws: Aws) -> None:
    change(aws, RedrivePolicy="")
    with pytest.raises(NoDeadLetters, match="`RedrivePolicy` of the queue must be set"):
        check(aws)


def test_a_dead_letter_queue_that_is_gone_ends_the_start(aws: Aws) -> None:
    aws.sqs.delete_queue(QueueUrl=aws.resources.dlq_url)
    with pytest.raises(NoDeadLetters, match="must name a queue that exists, got 'arn:aws:sqs"):
        check(aws)


@pytest.mark.parametrize(
    ("attributes", "finding"),
    [
        ({"MaximumMessageSize": "4096"}, "check.message_size_too_small"),
        ({"Policy": ""}, "check.policy_keeps_s3_out"),
        ({"MessageRetentionPeriod": "1209600"}, None),
    ],
)
def test_each_fault_has_its_line(
    aws: Aws, caplog: pytest.LogCaptureFixture, attributes: dict[str, str], finding: str | None
) -> None:
    change(aws, **attributes)
    assert check(aws).dlq_url
    assert findings(caplog) == ([finding] if finding else [])


S3, SNS, EVENTBRIDGE = (f"{name}.amazonaws.com" for name in ("s3", "sns", "events"))


@pytest.mark.parametrize(
    ("statement", "queue_holds", "kept_out"),
    [
        ({}, "notifications", ""),
        ({"Principal": {"Service": [SNS]}}, "notifications", ""),  # S3, then a topic
        ({"Principal": {"Service": EVENTBRIDGE}}, "notifications", ""),
        ({"Principal": {"AWS": "*"}}, "notifications", ""),
        ({"Principal": {"AWS": ["*"]}}, "events", ""),
        ({"Principal": "*", "Action": "SQS:Send*", "Resource": "*"}, "events", ""),
        ({"Principal": {"Service": EVENTBRIDGE}}, "events", "sns"),
        ({"Principal": {"AWS": "arn:aws:iam::000000000000:root"}}, "notifications", "s3"),
        ({"Action": ["sqs:ReceiveMessage"]}, "notifications", "s3"),
        ({"Resource": "arn:aws:sqs:us-east-1:000000000000:other"}, "notifications", "s3"),
        ({"Effect": "Deny"}, "notifications", "s3"),
    ],
)
def test_a_policy_must_let_in_who_brings_the_messages(
    aws: Aws,
    caplog: pytest.LogCaptureFixture,
    statement: dict[str, object],
    queue_holds: str,
    kept_out: str,
) -> None:
    good = {
        "Effect": "Allow",
        "Principal": {"Service": S3},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn(aws.sqs, aws.resources.queue_url),
    }
    policy = {"Version": "2012-10-17", "Statement": {**good, **statement}}
    change(aws, Policy=json.dumps(policy))
    check(aws, queue_holds=queue_holds)
    assert findings(caplog) == ([f"check.policy_keeps_{kept_out}_out"] if kept_out else [])


def test_too_few_receives_have_a_line(aws: Aws, caplog: pytest.LogCaptureFixture) -> None:
    arn = queue_arn(aws.sqs, aws.resources.dlq_url)
    change(aws, RedrivePolicy=json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 1}))
    assert check(aws).last_receive == 1
    assert findings(caplog) == ["check.too_few_receives"]


@pytest.mark.parametrize(
    ("attribute", "value", "finding"),
    [
        ("MessageRetentionPeriod", "3600", "check.dead_letters_expire_too_soon"),
        ("MaximumMessageSize", "65536", "check.dead_letters_too_small"),
    ],
)
def test_a_smaller_dead_letter_queue_has_a_line(
    aws: Aws, caplog: pytest.LogCaptureFixture, attribute: str, value: str, finding: str
) -> None:
    aws.sqs.set_queue_attributes(QueueUrl=aws.resources.dlq_url, Attributes={attribute: value})
    check(aws)
    assert findings(caplog) == [finding]


def test_a_lease_shorter_than_the_sink_has_a_line(
    aws: Aws, caplog: pytest.LogCaptureFixture
) -> None:
    check(aws, visibility_timeout=30)
    assert findings(caplog) == ["check.visibility_within_sink_timeout"]


def refusing(sqs: Any, call: str, code: str, times: int) -> Any:
    """The emulator's SQS, which refuses a call the first few times."""
    refusals = iter(range(times))

    def ask(**asked: Any) -> Any:
        if next(refusals, None) is None:
            return getattr(sqs, call)(**asked)
        raise ClientError({"Error": {"Code": code, "Message": ""}}, call)

    calls = {name: getattr(sqs, name) for name in ("get_queue_attributes", "get_queue_url")}
    return SimpleNamespace(exceptions=sqs.exceptions, **{**calls, call: ask})


def test_a_queue_that_may_not_be_read_is_taken_as_it_is(aws: Aws) -> None:
    denied = refusing(aws.sqs, "get_queue_attributes", "AccessDenied", 1)
    queue = check_queue(config(aws), denied, threading.Event())
    assert (queue, queue.last_receive) == (Queue(), 0)


def test_dead_letters_that_may_not_be_looked_up_are_left_to_sqs(aws: Aws) -> None:
    denied = refusing(aws.sqs, "get_queue_url", "AccessDenied", 1)
    assert check_queue(config(aws), denied, threading.Event()) == Queue("", 8)


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("get_queue_attributes", "ExpiredToken"),
        ("get_queue_attributes", "InvalidClientTokenId"),
        ("get_queue_attributes", "AWS.SimpleQueueService.NonExistentQueue"),
        ("get_queue_url", "ThrottlingException"),
    ],
)
def test_a_refusal_that_passes_is_waited_for(
    aws: Aws, monkeypatch: pytest.MonkeyPatch, call: str, code: str
) -> None:
    monkeypatch.setattr(queue_checks, "PAUSE_SECONDS", 0.01)
    queue = check_queue(config(aws), refusing(aws.sqs, call, code, 2), threading.Event())
    assert (queue.dlq_url, queue.last_receive) == (aws.resources.dlq_url, 7)


@pytest.mark.parametrize(
    ("prefix", "watched"),
    [("", True), ("results/", True), ("results/2026", True), ("publ", True), ("photos/", False)],
)
def test_results_that_would_come_back_have_a_line(
    aws: Aws, caplog: pytest.LogCaptureFixture, prefix: str, watched: bool
) -> None:
    rule = {
        "QueueArn": queue_arn(aws.sqs, aws.resources.queue_url),
        "Events": ["s3:ObjectCreated:*"],
        "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": prefix}]}},
    }
    bucket = aws.resources.results_bucket
    aws.s3.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={"QueueConfigurations": [rule]}
    )
    check_results_bucket(config(aws, results_bucket=bucket), aws.s3)
    assert findings(caplog) == (["check.results_are_watched"] if watched else [])


def test_a_bucket_that_cannot_be_read_is_no_fault(
    aws: Aws, caplog: pytest.LogCaptureFixture
) -> None:
    check_results_bucket(config(aws, results_bucket="gone"), aws.s3)
    assert findings(caplog) == []


def test_a_queue_of_events_lets_in_the_topic_and_not_s3(
    aws: Aws, caplog: pytest.LogCaptureFixture
) -> None:
    check(aws, queue_holds="events")
    assert findings(caplog) == ["check.policy_keeps_sns_out"]
