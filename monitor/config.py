"""Every setting of the monitor, one environment variable a field."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from monitor.fold import Rules
from monitor.register import Register, RegisterError, load_register

ROOT = Path(__file__).resolve().parent.parent


class ConfigError(ValueError):
    """A setting is odd; the message names the variable."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """What the monitor's processes need; only `from_env` reads the environment."""

    # DATABASE_URL: sqlite:///file, or postgresql://… where there is more than one pod
    database_url: str = field(default=f"sqlite:///{ROOT}/build/monitor.sqlite", repr=False)
    register: Register = field(default_factory=Register)  # STORES, a file: what is known beforehand
    # EVENTS_AUTH: "token" wants EVENTS_TOKEN as bearer on POST /; "none" takes events from anyone
    events_auth: str = "token"
    events_token: str = field(default="", repr=False)  # EVENTS_TOKEN
    # BOARD_TOKEN: what the board wants, as bearer or as a browser's password; empty: open
    board_token: str = field(default="", repr=False)
    results_bucket: str = ""  # RESULTS_BUCKET: the only one whose objects a `dataref` may name
    topic_arn: str = ""  # TOPIC_ARN; without it nothing is published
    digest_topic_arn: str = ""  # DIGEST_TOPIC_ARN; without it the digest is printed
    # WATCHED_QUEUES, comma-separated URLs: while more than a few messages wait there, we are behind
    watched_queues: tuple[str, ...] = ()
    rules: Rules = field(default_factory=Rules)  # CONFIRM_PHOTOS, CONFIRM_SECONDS
    keep_days: int = 30  # KEEP_DAYS; audits that are older are folded away

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Config:
        """Read the settings. Raises `ConfigError` with the variable's name."""
        events_auth = env.get("EVENTS_AUTH") or cls.events_auth
        if events_auth not in ("token", "none"):
            msg = f"`EVENTS_AUTH` must be 'token' or 'none', got {events_auth!r}"
            raise ConfigError(msg)
        stores = env.get("STORES", "")
        try:
            register = load_register(Path(stores) if stores else None)
        except RegisterError as err:
            msg = f"STORES: {err}"
            raise ConfigError(msg) from err
        queues = env.get("WATCHED_QUEUES", "").split(",")
        rules = Rules()
        return cls(
            database_url=env.get("DATABASE_URL") or Config().database_url,
            register=register,
            events_auth=events_auth,
            events_token=env.get("EVENTS_TOKEN", ""),
            board_token=env.get("BOARD_TOKEN", ""),
            results_bucket=env.get("RESULTS_BUCKET", ""),
            topic_arn=env.get("TOPIC_ARN", ""),
            digest_topic_arn=env.get("DIGEST_TOPIC_ARN", ""),
            watched_queues=tuple(url.strip() for url in queues if url.strip()),
            rules=Rules(
                _number(env, "CONFIRM_PHOTOS", rules.photos, 1, 10),
                _number(env, "CONFIRM_SECONDS", rules.seconds, 0, 86400),
            ),
            keep_days=_number(env, "KEEP_DAYS", cls.keep_days, 1, 3650),
        )


def _number(env: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = env.get(name) or str(default)
    if not text.isdecimal() or not low <= int(text) <= high:
        msg = f"`{name}` must be a whole number from {low} to {high}, got {text!r}"
        raise ConfigError(msg)
    return int(text)
