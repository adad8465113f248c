"""What is read from S3: announced photos, references, and pictures that callers name.

Clients of AWS are made only where a setting asks for them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from unicodedata import category

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
)

from events.s3_notification import S3Object
from events.settings import NO_REGION, SettingError
from events.types import REFERENCES
from function.config import Config
from function.errors import (
    BucketForbidden,
    CredentialsRefused,
    DependencyFailed,
    ImageArchived,
    ImageGone,
    ImageTooLarge,
    InvalidParameter,
    TryAgain,
)
from function.image import MAX_IMAGE_BYTES
from function.reference import MAX_REFERENCE_BYTES, Reference, parse_reference

if TYPE_CHECKING:
    import boto3
    from botocore.config import Config as BotoConfig
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, GetObjectRequestTypeDef

MAX_KEY_BYTES = 1024  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
# S3's answers for what is not there: no such key or version, a delete marker, or other content
# under the key (its own notification follows). All else is no word about the image: a missing
# bucket, a proxy's 404, a key of KMS.
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
GONE = frozenset({"NoSuchKey", "NoSuchVersion", "MethodNotAllowed", "PreconditionFailed"})
# What some stores answer to the version "null" where there is none, or no versions at all.
NO_SUCH_VERSION = frozenset({"InvalidArgument", "NotImplemented"})
ARCHIVED = "InvalidObjectState"
# What AWS's services answer where it is the token or the clock that is wrong: as true of every
# other image, and mended by whoever runs the service.
# https://docs.aws.amazon.com/sns/latest/api/CommonErrors.html has those of SNS.
CREDENTIALS = frozenset(
    {
        *("ExpiredToken", "ExpiredTokenException", "IncompleteSignature", "InvalidAccessKeyId"),
        *("InvalidClientTokenId", "InvalidSecurity", "InvalidSignatureException", "InvalidToken"),
        *("MissingAuthenticationToken", "RequestExpired", "RequestTimeTooSkewed"),
        *("SignatureDoesNotMatch", "TokenRefreshRequired", "UnrecognizedClientException"),
    }
)
ERROR_CODE = re.compile(r"[\w.-]{1,64}")  # AWS's word; anything else is not repeated to a caller


@dataclass(frozen=True)
class S3Pictures:
    """Pictures that callers name instead of sending: objects of the listed buckets."""

    s3: S3Client
    buckets: frozenset[str]

    def read(self, uri: str) -> bytes:
        """Read s3://bucket/key. Raises `BucketForbidden`, `ImageError` or `DependencyFailed`."""
        bucket, key = split_uri(uri, "image.s3")
        if bucket not in self.buckets:
            msg = f"The bucket must be one of `PREDICT_S3_BUCKETS`, got {bucket!r}"
            raise BucketForbidden(msg)
        try:
            return open_object(self.s3, S3Object(bucket=bucket, key=key)).read()
        except (ClientError, BotoCoreError) as err:
            raise failure_of(err) from err


def split_uri(uri: str, name: str) -> tuple[str, str]:
    """Split s3://bucket/key. Raises `InvalidParameter` that calls it `name`."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    # A lone surrogate cannot be sent to S3; odd spaces and joiners can, and screenshots have them.
    odd = any(category(character) in ("Cc", "Cs") for character in uri)
    well_formed = uri.startswith("s3://") and bucket and key and not odd
    if not well_formed or len(key.encode()) > MAX_KEY_BYTES:
        msg = f"`{name}` must be s3://bucket/key, got {uri!r}"
        raise InvalidParameter(msg)
    return bucket, key


@dataclass(frozen=True)
class OpenObject:
    """An object that S3 has begun to send."""

    s3_object: S3Object  # as S3 describes it, where the notification left something out
    body: StreamingBody
    length: int  # bytes; 0 where a proxy dropped the header

    def read(self) -> bytes:
        """Read it whole. Raises `ImageTooLarge`, `DependencyFailed` and botocore's errors."""
        if self.length > MAX_IMAGE_BYTES:
            raise self._too_large(self.length)
        # Where nobody says the length, one byte more than allowed is enough to know.
        data = self.body.read(None if self.length else MAX_IMAGE_BYTES + 1)
        if len(data) > MAX_IMAGE_BYTES:
            raise self._too_large("more")
        if self.s3_object.size and len(data) != self.s3_object.size:
            # Cut on the way, not damaged for good: a rejection would be final.
            msg = f"{self.s3_object.uri} came with {len(data)} of {self.s3_object.size} bytes"
            raise DependencyFailed(msg)
        return data

    def _too_large(self, got: object) -> ImageTooLarge:
        self.body.close()
        msg = f"{self.s3_object.uri} must have at most {MAX_IMAGE_BYTES} bytes, got {got}"
        return ImageTooLarge(msg)


def open_object(s3: S3Client, announced: S3Object) -> OpenObject:
    """Ask for the announced version of an object; without versions, for the announced content.

    What the notification left out is read from the answer. Raises `ImageGone`, `ImageArchived`,
    `DependencyFailed` and botocore's errors.
    """
    answer = _get(s3, announced)
    length, version_id = answer.get("ContentLength", 0), answer.get("VersionId", "null")
    return OpenObject(
        replace(
            announced,
            version_id=announced.version_id or ("" if version_id == "null" else version_id),
            etag=announced.etag or answer.get("ETag", "").strip('"'),
            size=announced.size or length,
        ),
        answer["Body"],
        length,
    )


def _get(s3: S3Client, announced: S3Object) -> GetObjectOutputTypeDef:
    request: GetObjectRequestTypeDef = {"Bucket": announced.bucket, "Key": announced.key}
    if announced.version_id:
        request["VersionId"] = announced.version_id
    elif announced.etag:
        request["IfMatch"] = f'"{announced.etag}"'
    try:
        return s3.get_object(**request)
    except ClientError as err:
        code = err.response["Error"]["Code"]
        if code == ARCHIVED:
            msg = f"{announced.uri} is archived; restore it first"
            raise ImageArchived(msg) from err
        if code not in GONE:
            raise
    if "IfMatch" in request:
        # Other versions may lie on it since the bucket's versioning was switched on.
        request["VersionId"] = "null"
        try:
            return s3.get_object(**request)
        except ClientError as err:
            if err.response["Error"]["Code"] not in GONE | NO_SUCH_VERSION:
                raise
    msg = f"{announced.uri} is gone"
    raise ImageGone(msg)


def failure_of(err: ClientError | BotoCoreError) -> TryAgain:
    """Say what AWS answered by its code, never by its message, and whose fault that is."""
    if isinstance(err, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError):
        return CredentialsRefused("AWS was not asked: there are no credentials")
    if not isinstance(err, ClientError):
        return DependencyFailed(f"AWS did not answer: {type(err).__name__}")
    code = err.response["Error"]["Code"]
    words = code if ERROR_CODE.fullmatch(code) else "an error"
    refused = CredentialsRefused if code in CREDENTIALS else DependencyFailed
    return refused(f"AWS answered {words} to {err.operation_name}")


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
    """Build the reader of s3:// pictures; None unless buckets are listed and callers have a token.

    Without a token anybody could read private photos through it. Raises `SettingError`.
    """
    if not (config.predict_s3_buckets and config.predict_token):
        return None
    return S3Pictures(make_session().client("s3", config=boto_config()), config.predict_s3_buckets)


def make_session() -> boto3.Session:
    """Make what clients of AWS are made from. Raises `SettingError` where no region is set."""
    # Imported here, as boto3 takes a third of a second and a function without events needs none.
    import boto3

    session = boto3.Session()
    if not session.region_name:
        raise SettingError(NO_REGION)
    return session


def boto_config() -> BotoConfig:
    """Configure clients of AWS for the time that an event or a request has."""
    from botocore.config import Config as BotoConfig

    return BotoConfig(
        connect_timeout=3,
        read_timeout=10,
        # Three tries fit into the source's 55 s, with an inference between them.
        retries={"mode": "standard", "total_max_attempts": 3},
        # TLS guards the way. A sum of what is sent and one of what comes cost a fifth of a call.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # Else botocore writes a new one, of thirty parts, for each call.
        user_agent="shelfwatch",
    )
