"""Store each result once, before its event is published.

`results/<id>.json` holds exactly the data of the event with that id. The object's metadata holds
the time and the trace of the first delivery. The first writer wins and everybody publishes what is
stored, so no audit is published in two versions. "Published" is a key of its own, written
afterwards to save a second publish: losing it costs a duplicate, never an event.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from events.codec import Json
from events.types import PUBLISHED, RESULTS

if TYPE_CHECKING:
    import boto3
    from botocore.config import Config as BotoConfig
    from mypy_boto3_s3 import S3Client

# Conditional writes: 412 the key exists, 409 another write of it is under way.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
LOST_THE_RACE = (409, 412)


def make_s3_client(session: boto3.Session, settings: BotoConfig) -> S3Client:
    """Make a client of S3 that sends what it stores with the request.

    botocore asks first whether a body may come (`Expect: 100-continue`), and waits for the answer:
    a way there and back more for each, where ours have 10 kB or nothing.
    https://docs.aws.amazon.com/boto3/latest/guide/events.html describes the hook.
    """
    # Imported here: it brings a hundred modules, and a function without events needs none.
    from botocore.handlers import add_expect_header

    s3: S3Client = session.client("s3", config=settings)
    s3.meta.events.unregister("before-call.s3", add_expect_header)
    return s3


@dataclass(frozen=True)
class Stored:
    """An audit's data, and the attributes that its event has from the first delivery."""

    data: Json
    # Printable ASCII, as S3 takes no other metadata; empty where an older release stored it.
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Outbox:
    """The results of one bucket."""

    s3: S3Client
    bucket: str

    def uri(self, audit_id: str) -> str:
        """Name the object that holds an audit's data."""
        return f"s3://{self.bucket}/{_result_key(audit_id)}"

    def get(self, audit_id: str) -> Stored | None:
        """Read an audit, None where it was not done yet. Raises botocore's errors."""
        try:
            answer = self.s3.get_object(Bucket=self.bucket, Key=_result_key(audit_id))
        except self.s3.exceptions.NoSuchKey:
            return None
        return Stored(json.loads(answer["Body"].read()), answer.get("Metadata", {}))

    def put(self, audit_id: str, audit: Stored) -> Stored:
        """Store an audit unless there is one; return what is stored.

        Raises botocore's errors, also when another write of the same audit is not finished yet.
        """
        body = json.dumps(audit.data, separators=(",", ":")).encode()
        try:
            self.s3.put_object(
                Bucket=self.bucket,
                Key=_result_key(audit_id),
                Body=body,
                ContentType="application/json",
                Metadata=audit.attributes,
                IfNoneMatch="*",
            )
        except ClientError as err:
            if err.response["ResponseMetadata"]["HTTPStatusCode"] not in LOST_THE_RACE:
                raise
            stored = self.get(audit_id)
            if stored is None:  # the other write is still under way: the next delivery finds it
                raise
            return stored
        return audit

    def has(self, audit_id: str) -> bool:
        """Tell whether an audit was done. Raises botocore's errors."""
        return self._exists(_result_key(audit_id))

    def is_published(self, audit_id: str) -> bool:
        """Tell whether an audit's event is known to have been published."""
        return self._exists(PUBLISHED + audit_id)

    def _exists(self, key: str) -> bool:
        try:
            self.s3.head_object(Bucket=self.bucket, Key=key)
        except ClientError as err:
            # A missing bucket is a 404 as well, and a HEAD has no body to tell them apart: whoever
            # begins by reading or listing the bucket learns it there.
            if err.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return False
            raise
        return True

    def mark_published(self, audit_id: str) -> None:
        """Note that an audit's event has been published."""
        self.s3.put_object(Bucket=self.bucket, Key=PUBLISHED + audit_id, Body=b"")


def _result_key(audit_id: str) -> str:
    return f"{RESULTS}{audit_id}.json"
