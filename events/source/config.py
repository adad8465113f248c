"""Every setting of the source, one environment variable a field."""

from __future__ import annotations

import json
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from events.codec import shown
from events.settings import SettingError, bucket, secret, whole_number
from events.source.bodies import NOTIFICATIONS, SENDERS
from events.sqs import is_fifo
from events.types import MAX_GENERATION

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html
MAX_WAIT_SECONDS = 20
# https://github.com/cloudevents/spec/blob/main/cloudevents/spec.md#naming-conventions
EXTENSION_NAME = re.compile("[a-z0-9]{1,20}")
CONTEXT_ATTRIBUTES = {
    *("specversion", "id", "source", "type", "subject", "time"),
    *("datacontenttype", "dataschema", "data"),
}


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """The settings of the source; only `from_env` reads the environment."""

    queue_url: str  # QUEUE_URL
    sink: str  # K_SINK, as Knative's SinkBinding sets it
    ca_certs: str = ""  # K_CA_CERTS, PEM: trusted besides the system's when the sink is https
    # K_CE_OVERRIDES, {"extensions": {…}}: added to each event
    extensions: Mapping[str, str] = field(default_factory=dict)
    token: str = field(default="", repr=False)  # EVENTS_TOKEN, the bearer the function wants
    # IN_FLIGHT: the most events at work at a time; fewer after the sink answered 429 or 503. As
    # many as a pod of the function admits (containerConcurrency).
    in_flight: int = 8
    wait_seconds: int = MAX_WAIT_SECONDS  # RECEIVE_WAIT_SECONDS, of one long poll
    visibility_timeout: int = 120  # VISIBILITY_TIMEOUT, seconds; more than the sink's time-out
    sink_timeout: float = 55.0  # SINK_TIMEOUT, seconds; less than the Knative Service's 60
    # QUEUE_HOLDS: "notifications" of S3, or "events" as our topic sends them
    queue_holds: str = NOTIFICATIONS
    generation: int = 0  # AUDIT_GENERATION, raised to have every image audited anew
    # RESULTS_BUCKET: keys of ours in it are ignored, should it feed the queue
    results_bucket: str = ""
    host: str = "127.0.0.1"  # HOST, where metrics and health listen; a pod sets 0.0.0.0
    metrics_port: int = 0  # METRICS_PORT; 0: neither metrics nor health over HTTP

    @property
    def our_buckets(self) -> frozenset[str]:
        """The buckets in which some keys are ours."""
        return frozenset({self.results_bucket} - {""})

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> SourceConfig:
        """Read the settings. Raises `SettingError` with the variable's name."""
        return cls(
            queue_url=_standard_queue(env, "QUEUE_URL"),
            sink=_address(env, "K_SINK"),
            ca_certs=_ca_certs(env),
            extensions=_extensions(env),
            token=secret(env, "EVENTS_TOKEN"),
            in_flight=whole_number(env, "IN_FLIGHT", cls.in_flight, 1, 100),
            wait_seconds=whole_number(
                env, "RECEIVE_WAIT_SECONDS", cls.wait_seconds, 0, MAX_WAIT_SECONDS
            ),
            visibility_timeout=whole_number(
                env, "VISIBILITY_TIMEOUT", cls.visibility_timeout, 3, 43200
            ),
            sink_timeout=whole_number(env, "SINK_TIMEOUT", int(cls.sink_timeout), 1, 600),
            queue_holds=_queue_holds(env),
            generation=whole_number(env, "AUDIT_GENERATION", cls.generation, 0, MAX_GENERATION),
            results_bucket=bucket(env, "RESULTS_BUCKET"),
            host=env.get("HOST", "") or cls.host,
            metrics_port=whole_number(env, "METRICS_PORT", cls.metrics_port, 0, 65535),
        )


def _required(env: Mapping[str, str], name: str) -> str:
    if not env.get(name):
        msg = f"`{name}` must be set, got {env.get(name)!r}"
        raise SettingError(msg)
    return env[name]


def _standard_queue(env: Mapping[str, str], name: str) -> str:
    url = _required(env, name)
    if is_fifo(url):
        msg = f"`{name}` must be a standard queue, got {url!r}: S3 sends to no FIFO queue"
        raise SettingError(msg)
    return url


def _address(env: Mapping[str, str], name: str) -> str:
    """Read where to post: at any other text each event would fail, and none be at fault."""
    text = _required(env, name)
    try:
        url = parse_url(text)
    except LocationParseError:
        url = None
    if not url or url.scheme not in ("http", "https") or not url.host:
        msg = f"`{name}` must be an http or https address, got {text!r}"
        raise SettingError(msg)
    return text


def _queue_holds(env: Mapping[str, str]) -> str:
    text = env.get("QUEUE_HOLDS") or NOTIFICATIONS
    if text not in SENDERS:
        msg = f"`QUEUE_HOLDS` must be {' or '.join(map(repr, SENDERS))}, got {text!r}"
        raise SettingError(msg)
    return text


def _ca_certs(env: Mapping[str, str]) -> str:
    pem = env.get("K_CA_CERTS", "")
    try:
        trust(pem)
    except (ssl.SSLError, ValueError) as err:
        msg = f"`K_CA_CERTS` must be certificates in PEM form, got {shown(pem)}"
        raise SettingError(msg) from err
    return pem


def trust(ca_certs: str) -> ssl.SSLContext:
    """Trust the system's authorities and those of a PEM text. Raises `ssl.SSLError`."""
    context = ssl.create_default_context()
    if ca_certs.strip():
        context.load_verify_locations(cadata=ca_certs)
    return context


def _extensions(env: Mapping[str, str]) -> dict[str, str]:
    """Read Knative's CloudEventOverrides: an object with an object of strings as `extensions`."""
    text = env.get("K_CE_OVERRIDES", "").strip()
    try:
        extensions = json.loads(text).get("extensions") or {} if text else {}
        checked = {name: value for name, value in extensions.items() if _is_extension(name, value)}
    except (ValueError, AttributeError) as err:
        msg = (
            f'`K_CE_OVERRIDES` must be JSON of the form {{"extensions": {{…}}}}, got {shown(text)}'
        )
        raise SettingError(msg) from err
    if odd := sorted(extensions.keys() - checked.keys()):
        what = "an extension by a name of lower-case letters and digits, and a text"
        msg = f"`K_CE_OVERRIDES` must be {what}, got {odd[0]!r}: {shown(extensions[odd[0]])}"
        raise SettingError(msg)
    return checked


def _is_extension(name: str, value: object) -> bool:
    return (
        isinstance(value, str)
        and EXTENSION_NAME.fullmatch(name) is not None
        and name not in CONTEXT_ATTRIBUTES
    )
