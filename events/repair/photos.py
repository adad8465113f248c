"""What is in a bucket, and what of it the bucket's rules announce."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from events.s3_notification import S3Object

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import (
        ObjectVersionTypeDef,
        QueueConfigurationOutputTypeDef,
        TopicConfigurationOutputTypeDef,
    )

PAGE_SIZE = 1000  # as many as S3 gives
# What must be restored before it can be read. GLACIER_IR is read at once. In which tier an object
# of INTELLIGENT_TIERING lies, a listing does not tell.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-class-intro.html
ARCHIVES = frozenset({"GLACIER", "DEEP_ARCHIVE"})


@dataclass(frozen=True)
class Photo:
    """One version of an object in the bucket, and when it was uploaded."""

    s3_object: S3Object
    time: datetime
    archived: bool = False  # to be restored before it can be read


@dataclass(frozen=True)
class Watched:
    """Keys that a bucket's rule announces."""

    prefix: str = ""
    suffix: str = ""

    def holds(self, key: str) -> bool:
        """Tell whether the rule announces a key."""
        return key.startswith(self.prefix) and key.endswith(self.suffix)


def photos(s3: S3Client, bucket: str, prefix: str) -> Iterator[list[Photo]]:
    """List every version of every object, a page of at most 1000 at a time.

    Unversioned buckets list, too: their objects are the version "null". Raises botocore's errors.
    """
    pages = s3.get_paginator("list_object_versions").paginate(
        Bucket=bucket,
        Prefix=prefix,
        OptionalObjectAttributes=["RestoreStatus"],
        PaginationConfig={"PageSize": PAGE_SIZE},
    )
    for page in pages:
        yield [
            Photo(
                S3Object(
                    bucket=bucket,
                    key=version["Key"],
                    version_id="" if version["VersionId"] == "null" else version["VersionId"],
                    etag=version["ETag"].strip('"'),
                    size=version["Size"],
                ),
                version["LastModified"],
                _archived(version),
            )
            for version in page.get("Versions", [])
        ]


def watched_by(s3: S3Client, bucket: str, queue_arn: str) -> list[Watched]:
    """Read from the bucket's rules which keys it announces to a queue; all where none may lead
    there. Raises botocore's errors.

    A bucket has rules for other listeners, too, and what they watch need not be photos. A rule of
    the queue's own is the best word, then those of topics, which may lead to the queue. EventBridge
    keeps its filters to itself. Where all rules lead to other queues, the photos are sent on from
    one of them.
    """
    rules = s3.get_bucket_notification_configuration(Bucket=bucket)
    queues = rules.get("QueueConfigurations", [])
    ours = _created([rule for rule in queues if rule["QueueArn"] == queue_arn])
    topics = _created(rules.get("TopicConfigurations", []))
    others = _created([] if "EventBridgeConfiguration" in rules else queues)
    return ours or topics or others or [Watched()]


def _archived(version: ObjectVersionTypeDef) -> bool:
    restored = "RestoreExpiryDate" in version.get("RestoreStatus", {})
    return version.get("StorageClass") in ARCHIVES and not restored


def _created(
    rules: Sequence[QueueConfigurationOutputTypeDef | TopicConfigurationOutputTypeDef],
) -> list[Watched]:
    """Read what those rules watch that announce created objects."""
    return [
        Watched(
            **{
                filtered["Name"].lower(): unquote_plus(filtered["Value"])
                for filtered in rule.get("Filter", {}).get("Key", {}).get("FilterRules", [])
            }
        )
        for rule in rules
        if any(event.startswith("s3:ObjectCreated:") for event in rule["Events"])
    ]
