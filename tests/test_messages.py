"""What the monitor tells: schemas beside the code, ids by content, attributes to filter by."""

import json

import pytest
from conftest import ROOT
from schemas import schema_of as published

from events.sns_publisher import MAX_ATTRIBUTES, attributes_of
from events.types import (
    DATA_SCHEMAS,
    GAP_CLOSED,
    GAP_CORRECTED,
    GAP_OPENED,
    VIEW_BACK,
    VIEW_SILENT,
)
from function.schemas import schema_of
from monitor.fold import Episode, Gap
from monitor.gap_events import events_due
from monitor.intake import ViewKey
from monitor.messages import GapData, SilenceData, gap_data, new_monitor_event, silence_data

TYPES = {
    GAP_OPENED: GapData,
    GAP_CLOSED: GapData,
    GAP_CORRECTED: GapData,
    VIEW_SILENT: SilenceData,
    VIEW_BACK: SilenceData,
}
KEY = ViewKey("shelves", "store-17/cam-2")
GAP = Gap(box=(0, 13107, 32768, 65535), row=2, facings=1.4)
OPENED = Episode(id="e" * 32, opened=1_000_000, photo="p", gap=GAP)
CLOSED = Episode(
    id="e" * 32,
    opened=1_000_000,
    photo="p",
    gap=GAP,
    closed=4_600_000,
    ended="filled",
    settled=(5_000_000, "q"),
)


def expected_schema(event_type: str) -> dict[str, object]:
    schema = schema_of(TYPES[event_type])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": DATA_SCHEMAS[event_type],
        "title": f"Data of {event_type}",
        **schema,
        "description": f"{schema['description']} Consumers must ignore fields they do not know.",
    }


@pytest.mark.parametrize("event_type", TYPES)
def test_the_schema_beside_the_code_is_that_of_the_types(event_type: str) -> None:
    name = event_type.removeprefix("io.shelfwatch.")
    path = ROOT / "events" / f"{name}.schema.json"
    expected = expected_schema(event_type)
    assert published(event_type) == expected, f"{path.name} should be {json.dumps(expected)}"


def test_a_closed_gap_says_how_long_it_stood_and_can_be_filtered_by_it() -> None:
    opened, closed = events_due({CLOSED.id: CLOSED}, {}, frozenset())
    assert (opened.type, closed.type) == (GAP_OPENED, GAP_CLOSED)
    data = gap_data(KEY, CLOSED, "s3://shelves/a.jpg", closed)
    assert data["minutes"] == 60
    assert data["gap"] == {"row": 2, "facings": 1.4, "xyxy": [0.0, 0.2, 0.5, 1.0]}
    event = new_monitor_event(closed.id, closed.type, 5_000_000, dict(data))
    attributes = {name: value["StringValue"] for name, value in attributes_of(event).items()}
    assert attributes == {
        "type": GAP_CLOSED,
        "source": "urn:shelfwatch:monitor:shelves",
        "store": "store-17",
        "view": "cam-2",
        "row": "2",
        "facings": "1.4",
        "minutes": "60.0",
    }
    assert len(attributes) <= MAX_ATTRIBUTES
    assert "minutes" not in gap_data(KEY, CLOSED, "", opened)


def test_equal_events_have_equal_ids_and_another_content_another() -> None:
    first, again = (
        list(events_due({OPENED.id: OPENED}, {}, frozenset())),
        list(events_due({OPENED.id: OPENED}, {}, frozenset())),
    )
    assert first == again
    closed = list(events_due({CLOSED.id: CLOSED}, {OPENED.id: first[0]}, frozenset()))
    assert [event.sequence for event in closed] == [2]
    assert closed[0].id != first[0].id


@pytest.mark.parametrize(
    ("before", "now", "types"),
    [
        (None, OPENED, [GAP_OPENED]),
        (None, CLOSED, [GAP_OPENED, GAP_CLOSED]),
        (OPENED, OPENED, []),
        (OPENED, CLOSED, [GAP_CLOSED]),
        (OPENED, None, [GAP_CORRECTED]),
        (CLOSED, OPENED, [GAP_CORRECTED]),
        (CLOSED, None, [GAP_CORRECTED]),
        (CLOSED, CLOSED, []),
    ],
)
def test_the_events_due_lead_from_the_last_one_to_what_is_so(
    before: Episode | None, now: Episode | None, types: list[str]
) -> None:
    earlier = list(events_due({before.id: before}, {}, frozenset())) if before else []
    last = {event.episode: event for event in earlier}
    found = {now.id: now} if now else {}
    assert [event.type for event in events_due(found, last, frozenset())] == types
    assert list(events_due(found, last, frozenset({OPENED.id}))) == []


def test_a_silence_says_since_when_and_how_long() -> None:
    data = silence_data(KEY, 0, 90 * 60_000)
    assert (data["since"], data["minutes"]) == ("1970-01-01T00:00:00+00:00", 90)
    assert "minutes" not in silence_data(KEY, 0, None)
