"""What several processes are told, each reads alike: an odd setting is named at the start."""

from collections.abc import Mapping

import pytest

from events.settings import SettingError
from events.source.config import SourceConfig
from events.types import BUCKET_MUST_BE
from function.config import Config
from monitor.config import Config as MonitorConfig

AUTH = "must be 'token' or 'none', got 'off'"


def read(room: str, env: Mapping[str, str]) -> object:
    if room == "source":
        return SourceConfig.from_env({"QUEUE_URL": "http://q", "K_SINK": "http://s", **env})
    return MonitorConfig.from_env(env) if room == "monitor" else Config.from_env(env)


@pytest.mark.parametrize(
    ("room", "variable", "value", "words"),
    [
        ("function", "EVENTS_AUTH", "off", AUTH),
        ("monitor", "EVENTS_AUTH", "off", AUTH),
        ("source", "RESULTS_BUCKET", "s3://results", f"{BUCKET_MUST_BE}, got 's3://results'"),
        ("monitor", "RESULTS_BUCKET", "s3://results", f"{BUCKET_MUST_BE}, got 's3://results'"),
        ("function", "SHELFWATCH_THREADS", "1025", "from 0 to 1024, got '1025'"),
        ("function", "AUDIT_GENERATION", "1001", "from 0 to 1000, got '1001'"),
        ("source", "AUDIT_GENERATION", "1001", "from 0 to 1000, got '1001'"),
        ("source", "IN_FLIGHT", "9" * 5000, "from 1 to 100, got '9"),
        ("source", "IN_FLIGHT", "٣", "from 1 to 100, got '٣'"),
        ("monitor", "CONFIRM_PHOTOS", "0", "from 1 to 10, got '0'"),
        ("monitor", "CONFIRM_PHOTOS", "11", "from 1 to 10, got '11'"),
        ("monitor", "CONFIRM_SECONDS", "-1", "from 0 to 86400, got '-1'"),
        ("monitor", "KEEP_DAYS", "0.5", "from 1 to 3650, got '0.5'"),
        ("monitor", "STORES", "/nowhere", "must be a file that can be read, got '/nowhere'"),
    ],
)
def test_an_odd_setting_is_named(room: str, variable: str, value: str, words: str) -> None:
    with pytest.raises(SettingError) as raised:
        read(room, {variable: value})
    assert variable in str(raised.value)
    assert words in str(raised.value)


@pytest.mark.parametrize("token", ["s3cret\n", "s3 cret", "s3crét"])
@pytest.mark.parametrize(
    ("room", "variable"),
    [
        ("function", "EVENTS_TOKEN"),
        ("function", "PREDICT_TOKEN"),
        ("function", "UPLOADS_TOKEN"),
        ("source", "EVENTS_TOKEN"),
        ("monitor", "EVENTS_TOKEN"),
    ],
)
def test_a_token_that_no_header_can_hold_is_refused_and_not_shown(
    room: str, variable: str, token: str
) -> None:
    with pytest.raises(SettingError, match=f"^`{variable}` must be ASCII") as raised:
        read(room, {variable: token})
    assert "s3" not in str(raised.value)


def test_a_line_break_at_its_end_is_no_part_of_the_boards_token() -> None:
    assert MonitorConfig.from_env({"BOARD_TOKEN": "s3 cret\n"}).board_token == "s3 cret"
