"""What is in a bucket, and what of it the bucket's rules announce."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from events.s3_notification import S3Object

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PAGE_SIZE = 1000  # as many as S3 gives


@dataclass(frozen=True)
class Photo:
    """One version of an object in the bucket, and when it was uploaded."""

    s3_object: S3Object
    time: datetime


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
        Bucket=bucket, Prefix=prefix, PaginationConfig={"PageSize": PAGE_SIZE}
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
            )
            for version in page.get("Versions", [])
        ]


def watched_by(s3: S3Client, bucket: str) -> list[Watched]:
    """Read from the bucket's rules which keys it announces; all where it has none.

    Raises botocore's errors.
    """
    rules = s3.get_bucket_notification_configuration(Bucket=bucket)
    configurations = [
        *rules.get("QueueConfigurations", []),
        *rules.get("TopicConfigurations", []),
    ]
    return [
        Watched(
            **{
                rule["Name"].lower(): unquote_plus(rule["Value"])
                for rule in configuration.get("Filter", {}).get("Key", {}).get("FilterRules", [])
            }
        )
        for configuration in configurations
        if any(event.startswith("s3:ObjectCreated:") for event in configuration["Events"])
    ] or [Watched()]
