"""How each process reads its settings: a variable of the environment, or an error that names it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from events.types import BUCKET_MUST_BE, BUCKET_NAME, TOKEN, TOKEN_MUST_BE

NO_REGION = "`AWS_DEFAULT_REGION` must be set, got nothing"
NUMBER = re.compile("[0-9]{1,9}")


class SettingError(ValueError):
    """A setting is missing or odd; the message names the variable."""


def names(env: Mapping[str, str], variable: str) -> list[str]:
    """Read a list, separated by commas."""
    return [name.strip() for name in env.get(variable, "").split(",") if name.strip()]


def whole_number(env: Mapping[str, str], variable: str, default: int, low: int, high: int) -> int:
    """Read a whole number from `low` to `high`. Raises `SettingError`."""
    text = env.get(variable) or str(default)
    if not NUMBER.fullmatch(text) or not low <= int(text) <= high:
        msg = f"`{variable}` must be a whole number from {low} to {high}, got {text!r}"
        raise SettingError(msg)
    return int(text)


def bucket(env: Mapping[str, str], variable: str) -> str:
    """Read a bucket's name; empty where none is set. Raises `SettingError`."""
    name = env.get(variable, "").strip()
    return name and checked_bucket(name, f"`{variable}`")


def buckets(env: Mapping[str, str], variable: str) -> frozenset[str]:
    """Read the names of buckets, separated by commas. Raises `SettingError`."""
    return frozenset(checked_bucket(name, f"`{variable}`") for name in names(env, variable))


def checked_bucket(name: str, called: str) -> str:
    """Return the name of a bucket. Raises `SettingError` for an ARN, an address or an odd name."""
    if not BUCKET_NAME.fullmatch(name):
        msg = f"{called} must be {BUCKET_MUST_BE}, got {name!r}"
        raise SettingError(msg)
    return name


def secret(env: Mapping[str, str], variable: str) -> str:
    """Read a bearer token: one that no header can hold would fail each request.

    Raises `SettingError`.
    """
    token = env.get(variable, "")
    if token and not TOKEN.fullmatch(token):
        kind = f"{len(token)} characters with others"  # never the secret itself
        msg = f"`{variable}` must be {TOKEN_MUST_BE}, got {kind}"
        raise SettingError(msg)
    return token


def events_auth(env: Mapping[str, str]) -> str:
    """Read whether `POST /` wants a token, as it does unless told otherwise.

    Raises `SettingError`.
    """
    auth = env.get("EVENTS_AUTH") or "token"
    if auth not in ("token", "none"):
        msg = f"`EVENTS_AUTH` must be 'token' or 'none', got {auth!r}"
        raise SettingError(msg)
    return auth
