"""Ages and windows on the command line."""

import argparse
from datetime import UTC, datetime, timedelta

import pytest

from events.repair.commands import Window, age, count

NOW = datetime(2026, 11, 22, 8, 15, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0), ("90s", 90), ("15m", 900), ("3h", 10800), ("2d", 172800)]
)
def test_an_age_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert age(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "5", "h", "-1h", "1.5h", "1w", "1h30m", " 1h", "9999999d"])
def test_an_odd_age_is_named(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="must be an age"):
        age(text)


@pytest.mark.parametrize("text", ["", "0", "-1", "1e3", "٣", "9999999999"])
def test_an_odd_count_is_named(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="must be a whole number"):
        count(text)


@pytest.mark.parametrize(
    ("window", "ages"),
    [
        (Window(), [0, 1, 2, 3]),
        (Window(older_than=HOUR), [1, 2, 3]),
        (Window(since=2 * HOUR), [0, 1, 2]),
        (Window(since=2 * HOUR, older_than=2 * HOUR), [2]),
    ],
)
def test_a_window_holds_its_edges(window: Window, ages: list[int]) -> None:
    assert [hours for hours in range(4) if window.holds(NOW - hours * HOUR, NOW)] == ages
