"""The register of stores and views: defaults for what it does not name, a word for oddities."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from conftest import ROOT

from monitor.register import (
    Register,
    RegisterError,
    folder_of,
    load_register,
    read_register,
    store_of,
    view_name,
)

BERLIN = """
[stores.s]
name = "S"
time_zone = "Europe/Berlin"
open = {mon = "08:00-20:00", sat = "08:00-24:00"}
digest_hours = [7]
[stores.s.views."cam/left"]
bucket = "b"
cadence_minutes = 5
masks = [[0, 0, 0.1, 1]]
"""


def test_nothing_needs_to_be_registered() -> None:
    register = load_register(None)
    assert (register, read_register("")) == (Register(), Register())
    assert register.view("b", "s/cam").cadence == 60
    assert not register.view("b", "s/cam").registered
    assert register.store("s").name == "s"
    assert register.store("s").is_open(datetime(2026, 11, 20, 3, tzinfo=UTC))


def test_what_is_registered_is_found_by_bucket_and_folder() -> None:
    register = read_register(BERLIN)
    view = register.view("b", "s/cam/left")
    assert (view.registered, view.cadence, view.masks) == (True, 5, ((0, 0, 0.1, 1),))
    assert not register.view("other", "s/cam/left").registered


def test_the_register_of_the_document_is_one() -> None:
    text = (ROOT / "docs" / "stock.md").read_text()
    register = read_register(text.partition("```toml\n")[2].partition("```")[0])
    found = [register.view(bucket, "store-17/cam-2").registered for bucket in ("shelves", "other")]
    assert found == [True, False]


def test_hours_are_local_also_when_the_clocks_change() -> None:
    store = read_register(BERLIN).stores["s"]
    # Monday 26 October 2026 is the first with winter time; Saturday closes at midnight.
    first, last = datetime(2026, 10, 24, tzinfo=UTC), datetime(2026, 10, 27, tzinfo=UTC)
    assert [
        (opens.astimezone(UTC).hour, closes.astimezone(UTC).hour)
        for opens, closes in store.hours(first, last)
    ] == [(6, 22), (7, 19)]
    assert not store.is_open(datetime(2026, 10, 25, 12, tzinfo=UTC))


def hours_of(opens: str, first: datetime, last: datetime) -> list[str]:
    text = f"[stores.s]\ntime_zone = 'Europe/Berlin'\nopen = {opens}"
    hours = read_register(text).stores["s"].hours(first, last)
    return [f"{opened:%d %H:%M}-{closed:%d %H:%M}" for opened, closed in hours]


@pytest.mark.parametrize(
    ("opens", "expected"),
    [
        ("{}", []),
        ("'08:00-20:00'", ["20 07:00-20 19:00"]),
        # Over midnight, and up to it: from midnight on it is the day before that is open.
        ("'18:00-02:00'", ["19 23:00-20 01:00", "20 17:00-20 23:00"]),
        ("'08:00-00:00'", ["20 07:00-20 23:00"]),
        ("'00:00-24:00'", ["19 23:00-20 23:00"]),
        # Friday begins before Thursday's night ends: no minute counts twice.
        ("{thu = '20:00-06:00', fri = '05:00-20:00'}", ["19 23:00-20 05:00", "20 05:00-20 19:00"]),
    ],
)
def test_hours_may_go_over_midnight(opens: str, expected: list[str]) -> None:
    first = datetime(2026, 11, 19, 23, tzinfo=UTC)  # Friday's midnight in Berlin
    assert hours_of(opens, first, first + timedelta(days=1)) == expected


@pytest.mark.parametrize(
    ("day", "opens", "hours"),
    [
        (datetime(2026, 3, 29, tzinfo=UTC), "{sun = '00:00-24:00'}", 23),
        (datetime(2026, 3, 29, tzinfo=UTC), "{sun = '02:00-03:00'}", 0),  # this hour is skipped
        (datetime(2026, 10, 25, tzinfo=UTC), "{sun = '00:00-24:00'}", 25),
        (datetime(2026, 10, 25, tzinfo=UTC), "{sat = '22:00-06:00'}", 9),
    ],
)
def test_a_day_has_the_hours_that_pass(day: datetime, opens: str, hours: int) -> None:
    text = f"[stores.s]\ntime_zone = 'Europe/Berlin'\nopen = {opens}"
    found = read_register(text).stores["s"].hours(day - timedelta(days=1), day + timedelta(days=1))
    assert sum((end - start for start, end in found), timedelta()) == timedelta(hours=hours)


@pytest.mark.parametrize("folder", ["", "s", "s/cam", "s/cam/left"])
def test_a_folder_is_a_store_and_a_view_and_back(folder: str) -> None:
    assert folder_of(store_of(folder), view_name(folder)) == folder


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x", "not TOML"),
        ("y = 1", "the register: 'y' is none of stores"),
        ("stores = 1", "stores must be a table"),
        ("[stores.s]\nnmae = 'x'", "s: 'nmae' is none of"),
        ("[stores.s]\nname = 1", "s.name must be a text, got 1"),
        ("[stores.s]\ntime_zone = 'Mars'", "s.time_zone must be a time zone .*, got 'Mars'"),
        ("[stores.s]\ntime_zone = '../x'", "s.time_zone must be"),
        ("[stores.s]\nname = ' '", "s.name must be a line of text, got ' '"),
        ('[stores.s]\nname = "a\\nb"', "s.name must be a line of text"),
        ("[stores.'a/b']", "A store must be the first folder .* got 'a/b'"),
        ("[stores.'']", "A store must be the first folder"),
        ("[stores.-.views.cam]", "A view of - must be a folder below it, .* got 'cam'"),
        ("[stores.s.views.'']", "A view of s must be a folder below it"),
        ("[stores.s]\nopen = '08:00-08:00'", "s.open must be a span"),
        ("[stores.s]\nopen = '08:00+01-20:00'", "s.open must be a span"),
        ("[stores.s]\nopen = {mon = 'x'}", "s.open.mon must be a span"),
        ("[stores.s]\nopen = {mo = 'x'}", "s.open: 'mo' is none of"),
        ("[stores.s]\ndigest_hours = [24]", "s.digest_hours must be"),
        ("[stores.s.views.c]\ncadence_minutes = 0", "s/c.cadence_minutes must be"),
        ("[stores.s.views.c]\nmasks = [[0, 0, 2, 1]]", "s/c.masks must be .left"),
        ("[stores.s.views.c]\nmasks = 1", "s/c.masks must be a list"),
    ],
)
def test_an_odd_entry_is_named(text: str, words: str) -> None:
    with pytest.raises(RegisterError, match=words):
        read_register(text)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(RegisterError, match="must be a file that can be read"):
        load_register(tmp_path / "none.toml")
