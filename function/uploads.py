"""Photos from callers without AWS keys: where to put one, and what became of it.

Everything goes on as for any other photo: S3 announces it, and its event is audited and published.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypedDict
from urllib.parse import quote

from botocore.exceptions import BotoCoreError, ClientError

from events.codec import Json
from events.outbox import Outbox
from events.s3_notification import S3Object, object_id
from events.types import OUR_PREFIXES
from function.config import Config
from function.errors import BucketForbidden, ImageGone, InvalidParameter
from function.image import MAX_IMAGE_BYTES
from function.parameters import check_names, json_object, parse_json
from function.s3 import boto_config, failure_of, make_session, split_uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FIELDS = ("store", "view", "type", "bytes")
MAX_REQUEST_BYTES = 4096  # four short fields
# Folders of the key, and so what events and filter policies call store and camera.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
ENDINGS = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}
# 20 MiB over a store's 1 Mbit/s take three.
UPLOAD_MINUTES = 10
# An audit takes a second or two once its event is there; asking more often only costs.
RETRY_SECONDS = 2
# Audits of one photo that are looked for: each is a person's `events.repair.sweep --again`.
MAX_GENERATIONS = 16


class OfferJson(TypedDict):
    """Where to put a photo: `method` to `url` with just these `headers`, until `expires_at`."""

    uri: str
    method: str
    url: str
    headers: dict[str, str]
    expires_at: str
    result: str  # the path that answers what became of it


@dataclass(frozen=True, kw_only=True)
class Uploads:
    """One bucket that callers may put photos into, and where their results are kept."""

    s3: S3Client
    bucket: str
    outbox: Outbox
    generation: int = 0

    def offer(self, body: bytes, now: datetime) -> OfferJson:
        """Offer a place of its own in the bucket to a photo of just this type and size.

        Raises `InvalidParameter`, or `DependencyFailed` without credentials.
        """
        store, view, media_type, size = _read_wish(body)
        key = f"{store}/{view}/{now:%Y%m%dT%H%M%S%f}Z.{ENDINGS[media_type]}"
        try:
            url = self.s3.generate_presigned_url(
                "put_object",
                Params={
                    "Bucket": self.bucket,
                    "Key": key,
                    "ContentType": media_type,
                    "ContentLength": size,
                    "IfNoneMatch": "*",  # a second photo wants a second offer
                },
                ExpiresIn=UPLOAD_MINUTES * 60,
            )
        except BotoCoreError as err:
            raise failure_of(err) from err
        uri = f"s3://{self.bucket}/{key}"
        return {
            "uri": uri,
            "method": "PUT",
            "url": url,
            "headers": {
                "Content-Type": media_type,
                "Content-Length": str(size),
                "If-None-Match": "*",
            },
            "expires_at": (now + timedelta(minutes=UPLOAD_MINUTES)).isoformat(timespec="seconds"),
            "result": f"results?uri={quote(uri, safe='')}",
        }

    def result(self, uri: str) -> Json | None:
        """Read the newest result of an object's newest version; None while it is on its way.

        Raises `InvalidParameter`, `BucketForbidden`, `ImageGone` or `DependencyFailed`.
        """
        bucket, key = split_uri(uri, "uri")
        if bucket != self.bucket:
            msg = f"The bucket must be that of `UPLOADS_BUCKET`, got {bucket!r}"
            raise BucketForbidden(msg)
        try:
            return self._newest(self._find(key))
        except (ClientError, BotoCoreError) as err:
            raise failure_of(err) from err

    def _find(self, key: str) -> S3Object:
        try:
            head = self.s3.head_object(Bucket=self.bucket, Key=key)
        except ClientError as err:
            # A HEAD has no body that could say more.
            if err.response["ResponseMetadata"]["HTTPStatusCode"] in (404, 405):
                msg = f"There is no s3://{self.bucket}/{key}"
                raise ImageGone(msg) from err
            raise
        version = head.get("VersionId", "")
        return S3Object(
            bucket=self.bucket,
            key=key,
            version_id="" if version == "null" else version,
            etag=head["ETag"].strip('"'),
            size=head["ContentLength"],
        )

    def _newest(self, s3_object: S3Object) -> Json | None:
        newest = None
        for generation in range(self.generation, self.generation + MAX_GENERATIONS):
            stored = self.outbox.get(object_id(s3_object, generation))
            if stored is None:
                break
            newest = stored.data
        return newest


def _read_wish(body: bytes) -> tuple[str, str, str, int]:
    """Read what is to be uploaded: store, view, media type, bytes. Raises `InvalidParameter`."""
    if len(body) > MAX_REQUEST_BYTES:
        msg = f"The body must have at most {MAX_REQUEST_BYTES} bytes, got {len(body)}"
        raise InvalidParameter(msg)
    fields = json_object(parse_json(body), "The body")
    check_names("The body's field", fields, FIELDS)
    media_type, size = fields.get("type"), fields.get("bytes")
    if not isinstance(media_type, str) or media_type not in ENDINGS:
        msg = f"`type` must be one of {', '.join(ENDINGS)}, got {media_type!r}"
        raise InvalidParameter(msg)
    if type(size) is not int or not 0 < size <= MAX_IMAGE_BYTES:
        msg = f"`bytes` must be a whole number from 1 to {MAX_IMAGE_BYTES}, got {size!r}"
        raise InvalidParameter(msg)
    return _name(fields, "store"), _name(fields, "view"), media_type, size


def _name(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not NAME.fullmatch(value):
        msg = f"`{name}` must be 1 to 64 letters, digits, '.', '-' or '_', got {value!r}"
        raise InvalidParameter(msg)
    if name == "store" and f"{value}/" in OUR_PREFIXES:
        msg = f"`store` must be no folder of the results' own, got {value!r}"
        raise InvalidParameter(msg)
    return value


def now() -> datetime:
    """Tell the time that an offer is made at."""
    return datetime.now(UTC)


def make_uploads(config: Config) -> Uploads | None:
    """Build what offers uploads; None unless a bucket, a token and the results' bucket are set.

    Raises `SettingError`.
    """
    if not (config.uploads_bucket and config.uploads_token and config.results_bucket):
        return None
    from botocore.config import Config as BotoConfig

    # Version 4 signs the headers; what boto3 still takes for some regions does not.
    settings = boto_config().merge(BotoConfig(signature_version="s3v4"))
    s3 = make_session().client("s3", config=settings)
    return Uploads(
        s3=s3,
        bucket=config.uploads_bucket,
        outbox=Outbox(s3, config.results_bucket),
        generation=config.audit_generation,
    )
