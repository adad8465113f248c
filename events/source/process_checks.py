"""What the source needs of these settings, looked at before it begins: `--check`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3
import urllib3

from events.checks import (
    BOTO_CONFIG,
    Check,
    CheckFailed,
    dead_letters_check,
    failed_check,
    has_region,
    identity_checks,
    queue_check,
)
from events.settings import NO_REGION, SettingError
from events.source.config import SourceConfig
from events.source.queue_checks import Queue, attributes_of, faults_of
from events.source.sink import Sink
from events.sqs import parse_redrive, url_of

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

CONNECT_SECONDS = 5.0


def source_checks(env: Mapping[str, str]) -> Iterator[Check]:
    """List what to look at; odd settings are the last."""
    try:
        config = SourceConfig.from_env(env)
    except SettingError as err:
        yield failed_check("settings", str(err))
        return
    yield Check("settings", lambda: f"{config.in_flight} events in flight at most")
    if not has_region():
        yield failed_check("region", NO_REGION)
        return
    sts = boto3.client("sts", config=BOTO_CONFIG)
    sqs = boto3.client("sqs", config=BOTO_CONFIG)
    yield from identity_checks(sts)
    yield queue_check(sqs, config.queue_url)
    yield dead_letters_check(sqs, config.queue_url)
    yield Check("rules", lambda: _rules(config, sqs))
    if config.results_bucket:
        s3 = boto3.client("s3", config=BOTO_CONFIG)

        def results() -> str:
            # What the source itself asks of it at its start; it may neither list nor read.
            s3.get_bucket_notification_configuration(Bucket=config.results_bucket)
            return f"{config.results_bucket} (RESULTS_BUCKET)"

        yield Check("bucket", results)
    yield Check("sink", lambda: _sink(config))


def _rules(config: SourceConfig, sqs: SQSClient) -> str:
    """Look for what the source would log at its start, and go on all the same."""
    attributes = attributes_of(sqs, config.queue_url)
    arn, receives = parse_redrive(attributes.get("RedrivePolicy", ""))
    dlq = attributes_of(sqs, url_of(sqs, arn)) if arn else attributes
    faults = faults_of(config, attributes, Queue(max_receive_count=receives), dlq)
    if faults:
        raise CheckFailed("; ".join(f"{name} ({_facts(facts)})" for name, facts in faults))
    return "who may send, sizes and times are as the source needs them"


def _facts(facts: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def _sink(config: SourceConfig) -> str:
    """Ask the sink's host for its health, as events are sent: any answer says that it is there."""
    parts = urlsplit(config.sink)
    health = f"{parts.scheme}://{parts.netloc}/health/ready"
    http = Sink.from_config(config).http
    try:
        answer = http.request("GET", health, timeout=CONNECT_SECONDS)
    except urllib3.exceptions.HTTPError as err:
        msg = f"{parts.netloc} does not answer ({type(err).__name__}): start it, or mend `K_SINK`"
        raise CheckFailed(msg) from err
    return f"{config.sink} answers {answer.status}"
