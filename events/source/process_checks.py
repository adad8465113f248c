"""What the source needs of these settings, looked at before it begins: `--check`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

import boto3
import urllib3

from events.checks import (
    BOTO_CONFIG,
    NO_REGION,
    Check,
    CheckFailed,
    dead_letters_check,
    failed_check,
    has_region,
    identity_checks,
    queue_check,
)
from events.source.config import SettingError, SourceConfig
from events.source.sink import Sink

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
    if config.results_bucket:
        s3 = boto3.client("s3", config=BOTO_CONFIG)

        def results() -> str:
            # What the source itself asks of it at its start; it may neither list nor read.
            s3.get_bucket_notification_configuration(Bucket=config.results_bucket)
            return f"{config.results_bucket} (RESULTS_BUCKET)"

        yield Check("bucket", results)
    yield Check("sink", lambda: _sink(config))


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
