"""What the service needs of its settings, looked at before it begins: `--check`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from events.checks import (
    Check,
    CheckFailed,
    bucket_check,
    failed_check,
    identity_checks,
    topic_check,
)
from events.settings import SettingError
from function.config import Config
from function.detector import Detector
from function.errors import ModelError
from function.s3 import boto_config, make_session


def service_checks(env: Mapping[str, str]) -> Iterator[Check]:
    """List what to look at, by what the settings ask for; odd settings are the last."""
    try:
        config = Config.from_env(env)
    except SettingError as err:
        yield failed_check("settings", str(err))
        return
    yield Check("settings", lambda: _settings(config))
    yield Check("model", lambda: _model(config))
    buckets = {
        **dict.fromkeys(config.events_buckets, "EVENTS_BUCKETS"),
        **dict.fromkeys(config.predict_s3_buckets, "PREDICT_S3_BUCKETS"),
        config.uploads_bucket: "UPLOADS_BUCKET",
        config.references_bucket: "REFERENCES_BUCKET",
        config.results_bucket: "RESULTS_BUCKET",
    }
    named = {bucket: setting for bucket, setting in buckets.items() if bucket}
    if not (named or config.topic_arn):
        return
    try:
        session = make_session()
    except SettingError as err:
        yield failed_check("region", str(err))
        return
    sts = session.client("sts", config=boto_config())
    yield from identity_checks(sts)
    s3 = session.client("s3", config=boto_config())
    for bucket, setting in named.items():
        yield bucket_check(s3, bucket, setting)
    if config.topic_arn:
        yield topic_check(session.client("sns", config=boto_config()), config.topic_arn)


def _settings(config: Config) -> str:
    if config.events_buckets and config.events_auth == "token" and not config.events_token:
        msg = (
            "`EVENTS_TOKEN` must be set where `EVENTS_BUCKETS` is, got nothing: set it, or "
            "`EVENTS_AUTH` to 'none'"
        )
        raise CheckFailed(msg)
    if config.topic_arn and not config.results_bucket:
        why = "a redelivery would audit anew"
        msg = f"`RESULTS_BUCKET` must be set where `TOPIC_ARN` is, got nothing: {why}"
        raise CheckFailed(msg)
    known = sorted(config.events_buckets)
    return f"events of {', '.join(known)}" if known else "no events, HTTP alone"


def _model(config: Config) -> str:
    began = time.monotonic()
    try:
        detector = Detector.load(config.model_path, config.threads, config.revision)
        detector.warm_up()
    except ModelError as err:
        raise CheckFailed(str(err)) from err
    seconds = time.monotonic() - began
    return f"{detector.model.name}, {detector.model.precision}, warm after {seconds:.1f} s"
