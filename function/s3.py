"""What is read from S3: announced photos, references, and pictures that callers name.

Clients of AWS are made only where a setting asks for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from events.s3_notification import S3Object
from function.config import Config, ConfigError
from function.errors import (
    BucketForbidden,
    DependencyFailed,
    ImageGone,
    ImageTooLarge,
    InvalidParameter,
)
from function.image import MAX_IMAGE_BYTES
from function.reference import MAX_REFERENCE_BYTES, Reference, parse_reference

if TYPE_CHECKING:
    import boto3
    from botocore.config import Config as BotoConfig
    from mypy_boto3_s3 import S3Client

MAX_KEY_BYTES = 1024  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
# S3's answers for what is not there: no such key or version, a delete marker (405), or other
# content under the key (412; its own notification follows).
# https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
GONE = (404, 405, 412)
REFERENCES = "references/"  # how shelves should stand, a JSON object a folder of images
# The bucket itself is not the image: a missing one is our mistake, and worth another try.
OUR_FAULT = ("NoSuchBucket",)


@dataclass(frozen=True)
class S3Pictures:
    """Pictures that callers name instead of sending: objects of the listed buckets."""

    s3: S3Client
    buckets: frozenset[str]

    def read(self, uri: str) -> bytes:
        """Read s3://bucket/key. Raises `BucketForbidden`, `ImageError` or `DependencyFailed`."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        # What cannot be printed (a lone surrogate) cannot be sent to S3 either.
        well_formed = uri.startswith("s3://") and bucket and key and uri.isprintable()
        if not well_formed or len(key.encode()) > MAX_KEY_BYTES:
            msg = f"`image.s3` must be s3://bucket/key, got {uri!r}"
            raise InvalidParameter(msg)
        if bucket not in self.buckets:
            msg = f"The bucket must be one of `PREDICT_S3_BUCKETS`, got {bucket!r}"
            raise BucketForbidden(msg)
        try:
            return fetch(self.s3, S3Object(bucket, key))
        except (ClientError, BotoCoreError) as err:
            msg = "S3 refused a call or did not answer"
            raise DependencyFailed(msg) from err


def fetch(s3: S3Client, found: S3Object) -> bytes:
    """Read the announced version of the object; without versions, the announced content.

    Raises `ImageGone`, `ImageTooLarge`, `DependencyFailed` and botocore's errors.
    """
    announced = {"VersionId": found.version_id} if found.version_id else {}
    if not announced and found.etag:
        announced = {"IfMatch": f'"{found.etag}"'}
    try:
        answer = s3.get_object(Bucket=found.bucket, Key=found.key, **announced)  # type: ignore[arg-type]
    except ClientError as err:
        status = err.response["ResponseMetadata"]["HTTPStatusCode"]
        if status in GONE and err.response["Error"]["Code"] not in OUR_FAULT:
            msg = f"{found.uri} is gone"
            raise ImageGone(msg) from err
        raise
    length = answer.get("ContentLength", 0)  # some proxies drop it
    if length > MAX_IMAGE_BYTES:
        answer["Body"].close()
        msg = f"{found.uri} must have at most {MAX_IMAGE_BYTES} bytes, got {length}"
        raise ImageTooLarge(msg)
    body = answer["Body"].read()
    if announced and found.size is not None and len(body) != found.size:
        # Cut on the way, not damaged for good: a rejection would be final.
        msg = f"{found.uri} came with {len(body)} of {found.size} bytes"
        raise DependencyFailed(msg)
    return body


def fetch_reference(s3: S3Client, bucket: str, folder: str) -> Reference | None:
    """Read references/<folder>.json; None where there is none.

    Raises `InvalidReference` and botocore's errors.
    """
    try:
        answer = s3.get_object(Bucket=bucket, Key=f"{REFERENCES}{folder}.json")
    except ClientError as err:
        if err.response["Error"]["Code"] == "NoSuchKey":
            return None
        raise
    # One byte more than allowed is enough to know.
    return parse_reference(answer["Body"].read(MAX_REFERENCE_BYTES + 1))


def make_s3_pictures(config: Config) -> S3Pictures | None:
    """Build what reads s3:// pictures; None unless buckets are listed and callers have a token.

    Without a token anybody could have private photos read to them. Raises `ConfigError`.
    """
    if not (config.predict_s3_buckets and config.predict_token):
        return None
    return S3Pictures(make_session().client("s3", config=boto_config()), config.predict_s3_buckets)


def make_session() -> boto3.Session:
    """Make what clients of AWS are made from. Raises `ConfigError` where no region is set."""
    # Imported here, as boto3 takes a third of a second and a function without events needs none.
    import boto3

    session = boto3.Session()
    if not session.region_name:
        msg = "`AWS_DEFAULT_REGION` must be set"
        raise ConfigError(msg)
    return session


def boto_config() -> BotoConfig:
    """Configure clients of AWS for the time that an event or a request has."""
    from botocore.config import Config as BotoConfig

    # Three tries fit into the source's 55 s, with an inference between them.
    return BotoConfig(
        connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3}
    )
