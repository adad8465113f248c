"""The clients of AWS, made only where a setting asks for them, and what works with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from function.audit import Auditor
from function.config import Config, ConfigError
from function.detector import Detector
from function.inputs import S3Pictures
from function.metrics import Metrics

if TYPE_CHECKING:
    import boto3
    from botocore.config import Config as BotoConfig


def make_auditor(config: Config, detector: Detector, metrics: Metrics) -> Auditor | None:
    """Build what answers events; None where no bucket may be read. Raises `ConfigError`."""
    if not config.events_buckets:
        return None
    from events.outbox import Outbox

    session, boto_config = _session(), _boto_config()
    s3 = session.client("s3", config=boto_config)
    return Auditor(
        detector,
        config.thresholds,
        metrics,
        s3,
        config.events_buckets,
        Outbox(s3, config.results_bucket) if config.results_bucket else None,
        session.client("sns", config=boto_config) if config.topic_arn else None,
        config.topic_arn,
        config.references_bucket,
    )


def make_s3_pictures(config: Config) -> S3Pictures | None:
    """Build what reads s3:// pictures; None unless buckets are listed and callers have a token.

    Without a token anybody could have private photos read to them. Raises `ConfigError`.
    """
    if not (config.predict_s3_buckets and config.predict_token):
        return None
    return S3Pictures(_session().client("s3", config=_boto_config()), config.predict_s3_buckets)


def _session() -> boto3.Session:
    # Imported here, as boto3 takes a third of a second and a function without events needs none.
    import boto3

    session = boto3.Session()
    if not session.region_name:
        msg = "AWS_DEFAULT_REGION is not set"
        raise ConfigError(msg)
    return session


def _boto_config() -> BotoConfig:
    from botocore.config import Config as BotoConfig

    # Three tries fit into the source's 55 s, with an inference between them.
    return BotoConfig(
        connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3}
    )
