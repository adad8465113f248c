"""Every setting of the conductor, one environment variable a field."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


class ConfigError(ValueError):
    """A setting is missing or odd; the message names the variable."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """The settings of a rollout; only `from_env` reads the environment."""

    ksvc: str  # KSVC, the Knative Service
    namespace: str  # NAMESPACE
    judge: Path  # JUDGE, the folder of pictures, true boxes and floors, mounted from Git
    steps: tuple[int, ...] = (20, 50, 100)  # STEPS, percent of the traffic, comma-separated
    hold_seconds: float = 60.0  # HOLD_SECONDS, at each step before it is judged
    poll_seconds: float = 2.0  # POLL_SECONDS, between two looks at the cluster
    # WAIT_SECONDS, for one thing to come about; more than the ksvc's progress-deadline of 300 s
    wait_seconds: float = 330.0
    # DEADLINE_SECONDS, of a whole run; less than the Job's activeDeadlineSeconds, which would
    # leave the split as it is
    deadline_seconds: float = 1200.0
    rounds: int = 5  # ROUNDS, how often each picture is asked about in one exam
    prometheus_url: str = ""  # PROMETHEUS_URL; without it real traffic is not looked at
    notice_topic_arn: str = ""  # NOTICE_TOPIC_ARN, an SNS topic that people read
    # PREDICT_TOKEN: the bearer token of /predict, where the function wants one
    predict_token: str = field(default="", repr=False)

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> Config:
        """Read the settings. Raises `ConfigError` with the variable's name."""
        return cls(
            ksvc=_required(env, "KSVC"),
            namespace=_required(env, "NAMESPACE"),
            judge=Path(_required(env, "JUDGE")),
            steps=_steps(env.get("STEPS") or ",".join(map(str, cls.steps))),
            hold_seconds=_seconds(env, "HOLD_SECONDS", cls.hold_seconds),
            poll_seconds=_seconds(env, "POLL_SECONDS", cls.poll_seconds),
            wait_seconds=_seconds(env, "WAIT_SECONDS", cls.wait_seconds),
            deadline_seconds=_seconds(env, "DEADLINE_SECONDS", cls.deadline_seconds),
            rounds=_rounds(env.get("ROUNDS") or str(cls.rounds)),
            prometheus_url=env.get("PROMETHEUS_URL", "").rstrip("/"),
            notice_topic_arn=_topic(env.get("NOTICE_TOPIC_ARN", "")),
            predict_token=env.get("PREDICT_TOKEN", ""),
        )


def _required(env: Mapping[str, str], name: str) -> str:
    if not env.get(name):
        msg = f"`{name}` must be set, got {env.get(name)!r}"
        raise ConfigError(msg)
    return env[name]


def _topic(arn: str) -> str:
    if arn and not re.fullmatch(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[\w.-]+", arn):
        msg = f"`NOTICE_TOPIC_ARN` must be the ARN of an SNS topic, got {arn!r}"
        raise ConfigError(msg)
    return arn


def _steps(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    steps = tuple(int(part) for part in parts if part.isdecimal())
    rising = all(low < high for low, high in zip((0, *steps), steps, strict=False))
    if len(steps) != len(parts) or not rising or steps[-1] != 100:
        msg = f"`STEPS` must be rising percentages up to 100, such as 20,50,100, got {text!r}"
        raise ConfigError(msg)
    return steps


def _seconds(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name) or str(default)
    try:
        seconds = float(text)
    except ValueError as err:
        msg = f"`{name}` must be a number of seconds, got {text!r}"
        raise ConfigError(msg) from err
    if not 0 < seconds < 86400:
        msg = f"`{name}` must be above 0 and below 86400 seconds, got {text!r}"
        raise ConfigError(msg)
    return seconds


def _rounds(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        msg = f"`ROUNDS` must be a whole number from 1 to 100, got {text!r}"
        raise ConfigError(msg)
    return int(text)
