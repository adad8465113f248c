"""What replay and sweep need of their options, looked at before they begin: `--check`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

import boto3

from events.checks import (
    BOTO_CONFIG,
    Check,
    bucket_check,
    dead_letters_check,
    failed_check,
    identity_checks,
    queue_check,
)
from events.repair.photos import watched_by
from events.sqs import queue_arn

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient


def sweep_checks(options: argparse.Namespace) -> Iterator[Check]:
    """List what a sweep needs; a fault of the options is the last."""
    if options.fault:
        yield failed_check("settings", options.fault)
        return
    yield Check("settings", lambda: f"photos of {', '.join(options.bucket)}")
    yield from identity_checks(boto3.client("sts", config=BOTO_CONFIG))
    s3 = boto3.client("s3", config=BOTO_CONFIG)
    sqs = boto3.client("sqs", config=BOTO_CONFIG)
    for bucket in options.bucket:
        yield _photos_check(s3, bucket)
        if not options.suffix:
            yield _rule_check(s3, bucket, sqs, options.queue_url)
    yield bucket_check(s3, options.results_bucket, "RESULTS_BUCKET")
    yield queue_check(sqs, options.queue_url)


def replay_checks(options: argparse.Namespace) -> Iterator[Check]:
    """List what a replay needs; a fault of the options is the last."""
    if options.fault:
        yield failed_check("settings", options.fault)
        return
    yield Check("settings", lambda: f"dead letters back to {options.queue_url}")
    yield from identity_checks(boto3.client("sts", config=BOTO_CONFIG))
    sqs = boto3.client("sqs", config=BOTO_CONFIG)
    yield queue_check(sqs, options.queue_url)
    if options.dlq_url:
        yield _given_dlq_check(sqs, options)
    else:
        yield dead_letters_check(sqs, options.queue_url)


def _photos_check(s3: S3Client, bucket: str) -> Check:
    """Check that the bucket's versions may be listed, as a sweep does."""

    def look() -> str:
        s3.list_object_versions(Bucket=bucket, MaxKeys=1)
        return f"{bucket} (EVENTS_BUCKETS)"

    return Check("bucket", look)


def _rule_check(s3: S3Client, bucket: str, sqs: SQSClient, queue_url: str) -> Check:
    """Check that the bucket's rules may be read: they say which keys are photos."""

    def look() -> str:
        keys = [
            f"{rule.prefix}*{rule.suffix}"
            for rule in watched_by(s3, bucket, queue_arn(sqs, queue_url))
        ]
        return f"{bucket} announces {', '.join(keys)}"

    return Check("rule", look)


def _given_dlq_check(sqs: SQSClient, options: argparse.Namespace) -> Check:
    if options.dlq_url == options.queue_url:
        words = f"`--dlq-url` must be another queue than --queue-url, got {options.dlq_url!r}"
        return failed_check("DLQ", words)
    return Check("DLQ", queue_check(sqs, options.dlq_url).look)
