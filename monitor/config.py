"""Every setting of the monitor, one environment variable a field."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from events.settings import SettingError, bucket, events_auth, names, secret, whole_number
from monitor.fold import Rules
from monitor.register import Register, RegisterError, load_register

ROOT = Path(__file__).resolve().parent.parent


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
        """Read the settings. Raises `SettingError` with the variable's name."""
        stores = env.get("STORES", "")
        try:
            register = load_register(Path(stores) if stores else None)
        except RegisterError as err:
            msg = f"STORES: {err}"
            raise SettingError(msg) from err
        rules = Rules()
        return cls(
            database_url=env.get("DATABASE_URL") or Config().database_url,
            register=register,
            events_auth=events_auth(env),
            events_token=secret(env, "EVENTS_TOKEN"),
            board_token=env.get("BOARD_TOKEN", "").strip(),
            results_bucket=bucket(env, "RESULTS_BUCKET"),
            topic_arn=env.get("TOPIC_ARN", ""),
            digest_topic_arn=env.get("DIGEST_TOPIC_ARN", ""),
            watched_queues=tuple(names(env, "WATCHED_QUEUES")),
            rules=Rules(
                whole_number(env, "CONFIRM_PHOTOS", rules.photos, 1, 10),
                whole_number(env, "CONFIRM_SECONDS", rules.seconds, 0, 86400),
            ),
            keep_days=whole_number(env, "KEEP_DAYS", cls.keep_days, 1, 3650),
        )
