"""Every setting of the function, one environment variable a field."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from events.sqs import is_fifo
from events.types import BUCKET_MUST_BE, BUCKET_NAME, MAX_GENERATION, TOKEN, TOKEN_MUST_BE
from function.detections import MUST_BE, Thresholds, read_detail
from function.errors import InvalidParameter

ROOT = Path(__file__).resolve().parent.parent

ORIGIN = re.compile(r"https?://[a-z0-9.\[\]:-]+")


class ConfigError(ValueError):
    """A setting is odd; the message names the variable."""


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
        """Read the settings. Raises `ConfigError` with the variable's name."""
        events_auth = env.get("EVENTS_AUTH") or cls.events_auth
        if events_auth not in ("token", "none"):
            msg = f"`EVENTS_AUTH` must be 'token' or 'none', got {events_auth!r}"
            raise ConfigError(msg)
        return cls(
            model_path=Path(env.get("SHELFWATCH_MODEL") or cls.model_path),
            threads=int(_number(env, "SHELFWATCH_THREADS", cls.threads, "a whole number from 0")),
            thresholds=_thresholds(env),
            events_auth=events_auth,
            events_token=_secret(env, "EVENTS_TOKEN"),
            events_buckets=_buckets(env, "EVENTS_BUCKETS"),
            results_bucket=_bucket(env, "RESULTS_BUCKET"),
            topic_arn=_standard_topic(env, "TOPIC_ARN"),
            references_bucket=_bucket(env, "REFERENCES_BUCKET"),
            predict_token=_secret(env, "PREDICT_TOKEN"),
            predict_s3_buckets=_buckets(env, "PREDICT_S3_BUCKETS"),
            cors_origins=_origins(env),
            host=env.get("HOST") or cls.host,
            uploads_token=_secret(env, "UPLOADS_TOKEN"),
            uploads_bucket=_bucket(env, "UPLOADS_BUCKET"),
            audit_generation=_generation(env),
            revision=env.get("K_REVISION", ""),
            otlp_endpoint=env.get("OTEL_EXPORTER_OTLP_ENDPOINT", ""),
        )


def _secret(env: Mapping[str, str], variable: str) -> str:
    """Read a bearer token: one that no header can hold would fail each request."""
    secret = env.get(variable, "")
    if secret and not TOKEN.fullmatch(secret):
        kind = f"{len(secret)} characters with others"  # never the secret itself
        msg = f"`{variable}` must be {TOKEN_MUST_BE}, got {kind}"
        raise ConfigError(msg)
    return secret


def _origins(env: Mapping[str, str]) -> frozenset[str]:
    origins = _names(env, "CORS_ORIGINS")
    for origin in origins:
        if not ORIGIN.fullmatch(origin):
            msg = f"`CORS_ORIGINS` must be origins such as https://app.example.com, got {origin!r}"
            raise ConfigError(msg)
    return origins


def _generation(env: Mapping[str, str]) -> int:
    must_be = f"a whole number from 0 to {MAX_GENERATION}"
    generation = int(_number(env, "AUDIT_GENERATION", Config.audit_generation, must_be))
    if generation > MAX_GENERATION:
        msg = f"`AUDIT_GENERATION` must be {must_be}, got {generation}"
        raise ConfigError(msg)
    return generation


def _names(env: Mapping[str, str], variable: str) -> frozenset[str]:
    return frozenset(name.strip() for name in env.get(variable, "").split(",") if name.strip())


def _buckets(env: Mapping[str, str], variable: str) -> frozenset[str]:
    return frozenset(_check_bucket(name, variable) for name in _names(env, variable))


def _bucket(env: Mapping[str, str], variable: str) -> str:
    name = env.get(variable, "").strip()
    return name and _check_bucket(name, variable)


def _check_bucket(name: str, variable: str) -> str:
    if not BUCKET_NAME.fullmatch(name):
        msg = f"`{variable}` must be {BUCKET_MUST_BE}, got {name!r}"
        raise ConfigError(msg)
    return name


def _standard_topic(env: Mapping[str, str], variable: str) -> str:
    arn = env.get(variable, "")
    if is_fifo(arn):
        msg = f"`{variable}` must be a standard topic, got {arn!r}: an event has no message group"
        raise ConfigError(msg)
    return arn


def _thresholds(env: Mapping[str, str]) -> Thresholds:
    thresholds = Thresholds()
    for name in ("confidence", "iou", "max_detections"):
        variable = f"SHELFWATCH_{name.upper()}"
        value = _number(env, variable, getattr(thresholds, name), MUST_BE[name])
        try:
            thresholds = replace(thresholds, **{name: value})  # type: ignore[arg-type]  # each field has a type of its own
        except InvalidParameter as err:
            msg = f"`{variable}` must be {MUST_BE[name]}, got {env.get(variable)!r}"
            raise ConfigError(msg) from err
    try:
        detail = read_detail("SHELFWATCH_DETAIL", env.get("SHELFWATCH_DETAIL") or thresholds.detail)
    except InvalidParameter as err:
        raise ConfigError(str(err)) from err
    return replace(thresholds, detail=detail)


def _number(env: Mapping[str, str], name: str, default: float, must_be: str) -> float:
    text = env.get(name) or str(default)
    try:
        number = int(text) if isinstance(default, int) else float(text)
    except ValueError as err:
        msg = f"`{name}` must be {must_be}, got {text!r}"
        raise ConfigError(msg) from err
    if number < 0:
        msg = f"`{name}` must be {must_be}, got {text!r}"
        raise ConfigError(msg)
    return number
