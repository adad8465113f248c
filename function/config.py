"""Every setting of the function, one environment variable a field."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from events.settings import (
    SettingError,
    bucket,
    buckets,
    events_auth,
    names,
    secret,
    whole_number,
)
from events.sqs import is_fifo
from events.types import MAX_GENERATION
from function.detections import MUST_BE, Thresholds, read_detail
from function.errors import InvalidParameter

ROOT = Path(__file__).resolve().parent.parent

ORIGIN = re.compile(r"https?://[a-z0-9.\[\]:-]+")
MAX_THREADS = 1024  # more than any machine has processors


@dataclass(frozen=True, kw_only=True)
class Config:
    """What `create_app` needs; tests build it directly, only `from_env` reads the environment."""

    model_path: Path = ROOT / "model" / "shelf.onnx"  # SHELFWATCH_MODEL
    threads: int = 0  # SHELFWATCH_THREADS; 0: as many as the cgroup allows
    # SHELFWATCH_CONFIDENCE, SHELFWATCH_IOU, SHELFWATCH_MAX_DETECTIONS, and SHELFWATCH_DETAIL, which
    # is fast, auto or fine: for events, and for /predict where the caller names none
    thresholds: Thresholds = field(default_factory=Thresholds)
    # EVENTS_AUTH: "token" wants EVENTS_TOKEN as bearer on POST /; "none" takes events from anyone
    events_auth: str = "token"
    events_token: str = field(default="", repr=False)  # EVENTS_TOKEN
    events_buckets: frozenset[str] = frozenset()  # EVENTS_BUCKETS, comma-separated: all we may read
    results_bucket: str = ""  # RESULTS_BUCKET; without it nothing is stored, and redeliveries redo
    topic_arn: str = ""  # TOPIC_ARN; without it the event is the HTTP reply
    # REFERENCES_BUCKET: holds references/<folder of the image's key>.json; without it none is read
    references_bucket: str = ""
    # PREDICT_TOKEN: the bearer token that /predict and /v2 infer want; without one they are open
    predict_token: str = field(default="", repr=False)
    # PREDICT_S3_BUCKETS, comma-separated: what /predict may read for who has the token
    predict_s3_buckets: frozenset[str] = frozenset()
    # CORS_ORIGINS, comma-separated: whose pages may use the API in a browser
    cors_origins: frozenset[str] = frozenset()
    host: str = "127.0.0.1"  # HOST: where gunicorn.conf.py has it listen
    # UPLOADS_TOKEN: the bearer token that /uploads and /results want; without one they are closed
    uploads_token: str = field(default="", repr=False)
    uploads_bucket: str = ""  # UPLOADS_BUCKET: where /uploads lets who has that token put photos
    audit_generation: int = 0  # AUDIT_GENERATION, as the source has it: where /results begins
    revision: str = ""  # K_REVISION, set by Knative
    # OTEL_EXPORTER_OTLP_ENDPOINT: where spans go; the SDK reads this and the other OTEL_* itself
    otlp_endpoint: str = ""

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Config:
        """Read the settings. Raises `SettingError` with the variable's name."""
        return cls(
            model_path=Path(env.get("SHELFWATCH_MODEL") or cls.model_path),
            threads=whole_number(env, "SHELFWATCH_THREADS", cls.threads, 0, MAX_THREADS),
            thresholds=_thresholds(env),
            events_auth=events_auth(env),
            events_token=secret(env, "EVENTS_TOKEN"),
            events_buckets=buckets(env, "EVENTS_BUCKETS"),
            results_bucket=bucket(env, "RESULTS_BUCKET"),
            topic_arn=_standard_topic(env, "TOPIC_ARN"),
            references_bucket=bucket(env, "REFERENCES_BUCKET"),
            predict_token=secret(env, "PREDICT_TOKEN"),
            predict_s3_buckets=buckets(env, "PREDICT_S3_BUCKETS"),
            cors_origins=_origins(env),
            host=env.get("HOST") or cls.host,
            uploads_token=secret(env, "UPLOADS_TOKEN"),
            uploads_bucket=bucket(env, "UPLOADS_BUCKET"),
            audit_generation=whole_number(
                env, "AUDIT_GENERATION", cls.audit_generation, 0, MAX_GENERATION
            ),
            revision=env.get("K_REVISION", ""),
            otlp_endpoint=env.get("OTEL_EXPORTER_OTLP_ENDPOINT", ""),
        )


def _origins(env: Mapping[str, str]) -> frozenset[str]:
    origins = frozenset(names(env, "CORS_ORIGINS"))
    for origin in origins:
        if not ORIGIN.fullmatch(origin):
            msg = f"`CORS_ORIGINS` must be origins such as https://app.example.com, got {origin!r}"
            raise SettingError(msg)
    return origins


def _standard_topic(env: Mapping[str, str], variable: str) -> str:
    arn = env.get(variable, "")
    if is_fifo(arn):
        msg = f"`{variable}` must be a standard topic, got {arn!r}: an event has no message group"
        raise SettingError(msg)
    return arn


def _thresholds(env: Mapping[str, str]) -> Thresholds:
    thresholds = Thresholds()
    for name in ("confidence", "iou", "max_detections"):
        variable, default = f"SHELFWATCH_{name.upper()}", getattr(thresholds, name)
        text = env.get(variable) or str(default)
        try:
            value = int(text) if isinstance(default, int) else float(text)
            thresholds = replace(thresholds, **{name: value})  # type: ignore[arg-type]  # each field has a type of its own
        except (ValueError, InvalidParameter) as err:
            msg = f"`{variable}` must be {MUST_BE[name]}, got {text!r}"
            raise SettingError(msg) from err
    try:
        detail = read_detail("SHELFWATCH_DETAIL", env.get("SHELFWATCH_DETAIL") or thresholds.detail)
    except InvalidParameter as err:
        raise SettingError(str(err)) from err
    return replace(thresholds, detail=detail)
