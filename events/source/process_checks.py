"""What the source needs of these settings, looked at before it begins: `--check`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

import boto3
import urllib3

from events.checks import (
    Check,
    CheckFailed,
    clock_check,
    credentials_check,
    failed_check,
    queue_check,
)
from events.source.config import SettingError, SourceConfig
from events.sqs import parse_redrive

CONNECT_SECONDS = 5.0


def source_checks(env: Mapping[str, str]) -> Iterator[Check]:
    """List what to look at; odd settings are the last."""
    try:
        config = SourceConfig.from_env(env)
    except SettingError as err:
        yield failed_check("settings", str(err))
        return
    yield Check("settings", lambda: f"{config.in_flight} events in flight at most")
    sts, sqs = boto3.client("sts"), boto3.client("sqs")
    yield credentials_check(sts)
    yield clock_check(sts)
    yield queue_check(sqs, config.queue_url)

    def dead_letters() -> str:
        answer = sqs.get_queue_attributes(
            QueueUrl=config.queue_url, AttributeNames=["RedrivePolicy"]
        )
        arn, receives = parse_redrive(answer["Attributes"].get("RedrivePolicy", ""))
        if not arn:
            msg = "the queue has no RedrivePolicy: give it one, or lost messages are lost for good"
            raise CheckFailed(msg)
        sqs.get_queue_url(QueueName=arn.rpartition(":")[2])
        return f"{arn} after {receives} receives"

    yield Check("DLQ", dead_letters)
    if config.results_bucket:
        s3 = boto3.client("s3")

        def results() -> str:
            # What the source itself asks of it at its start; it may neither list nor read.
            s3.get_bucket_notification_configuration(Bucket=config.results_bucket)
            return f"{config.results_bucket} (RESULTS_BUCKET)"

        yield Check("bucket", results)
    yield Check("sink", lambda: _sink(config.sink))


def _sink(url: str) -> str:
    """Ask the sink's host for its health: any answer says that it is there."""
    parts = urlsplit(url)
    health = f"{parts.scheme}://{parts.netloc}/health/ready"
    try:
        answer = urllib3.request("GET", health, retries=False, timeout=CONNECT_SECONDS)
    except urllib3.exceptions.HTTPError as err:
        msg = f"{parts.netloc} does not answer ({type(err).__name__}): start it, or mend `K_SINK`"
        raise CheckFailed(msg) from err
    return f"{url} answers {answer.status}"
