"""S3 notifications as events: one a created object, and one id an object version."""

import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote_plus

import pytest

from events.codec import InvalidEvent, data_of, new_event
from events.s3_notification import (
    GENERATION,
    S3Object,
    audit_id,
    events_from_body,
    object_from_event,
    object_id,
    place_of,
)

EVENTS = Path(__file__).parent / "events"
PUT = (EVENTS / "s3_put.json").read_text()
RECORD = json.loads(PUT)["Records"][0]


def notification(*records: dict[str, object]) -> str:
    return json.dumps({"Records": list(records)})


def record(**changes: object) -> dict[str, object]:
    """The put record with changes: of the object where it has such a field, else of the record."""
    changed = copy.deepcopy(RECORD)
    for name, value in changes.items():
        where = changed if name in changed else changed["s3"]["object"]
        where[name] = value
    return changed


def test_a_record_becomes_an_event_as_the_s3_adapter_says() -> None:
    (event,) = events_from_body(PUT)
    assert event.get_source() == "aws:s3.eu-central-1.shelves"
    assert event.get_type() == "com.amazonaws.s3.ObjectCreated:Put"
    assert event.get_subject() == "store-17/cam-2/café + bar.jpg"
    assert event.get_time() == datetime(2026, 11, 22, 8, 15, 0, 123000, tzinfo=UTC)
    assert data_of(event) == RECORD
    assert object_from_event(event) == S3Object(
        "shelves",
        "store-17/cam-2/café + bar.jpg",
        "096fKKXTRTtl3on89fVO.nfljtsv6qko",
        "d41d8cd98f00b204e9800998ecf8427e",
        1830211,
    )


@pytest.mark.parametrize(
    ("body", "count"),
    [
        pytest.param((EVENTS / "s3_test_event.json").read_text(), 0, id="test-event"),
        pytest.param(notification(), 0, id="no-records"),
        pytest.param(PUT, 1, id="put"),
        pytest.param(notification(record(), record(key="b.jpg")), 2, id="two"),
        pytest.param(notification(record(eventName="ObjectRemoved:Delete")), 0, id="delete"),
        pytest.param(notification(record(eventName="s3:ObjectCreated:Copy")), 1, id="s3-prefix"),
        pytest.param(notification(record(eventVersion="2.9", new={"a": 1})), 1, id="newer"),
    ],
)
def test_only_created_objects_give_events(body: str, count: int) -> None:
    assert len(events_from_body(body)) == count


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param("", "not JSON", id="empty"),
        pytest.param("hello", "not JSON", id="text"),
        pytest.param("[]", "not an S3 notification", id="list"),
        pytest.param("{}", "no Records", id="object"),
        pytest.param('{"Records": [1]}', "no eventName", id="number"),
        pytest.param('{"Records": [{"eventName": "ObjectCreated:Put"}]}', "no s3", id="no-s3"),
        pytest.param(notification(record(s3={"bucket": {}})), "no object", id="no-object"),
        pytest.param(notification(record(key="")), "no key", id="no-key"),
        pytest.param(notification(record(eventTime="soon")), "not a time", id="time"),
        pytest.param(
            notification(record(eventTime="2026-11-22T08:15:00")), "time zone", id="no-time-zone"
        ),
    ],
)
def test_what_is_no_notification_is_refused_with_a_reason(body: str, words: str) -> None:
    with pytest.raises(InvalidEvent, match=words):
        events_from_body(body)


@pytest.mark.parametrize(
    "key",
    ["a b.jpg", "a+b.jpg", "a%b.jpg", "日本/棚.jpg", "a&b=c?d.jpg", "x/../y.jpg", "50%2B.jpg"],
)
@pytest.mark.parametrize("safe", ["/", ""])
def test_keys_are_decoded_once_however_the_slash_is_written(key: str, safe: str) -> None:
    (event,) = events_from_body(notification(record(key=quote_plus(key, safe=safe))))
    assert event.get_subject() == key


def test_two_deliveries_of_one_notification_give_one_id() -> None:
    again = record(eventTime="2026-11-22T08:16:00.000Z", sequencer="FF", eventVersion="2.1")
    (first,), (second,) = events_from_body(PUT), events_from_body(notification(again))
    assert first.get_id() == second.get_id() == audit_id(first)


def test_a_listing_gives_the_id_of_the_notification() -> None:
    (event,) = events_from_body(PUT)
    listed = S3Object(
        "shelves", "store-17/cam-2/café + bar.jpg", RECORD["s3"]["object"]["versionId"]
    )
    assert object_id(listed) == event.get_id()


FOUND = S3Object("b", "k", "v1", "e1", 1)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (S3Object("b", "k", "v1", "e1", 1), True),
        (S3Object("b", "k", "v1", "e2", 2), True),
        (S3Object("b", "k", "v2", "e1", 1), False),
        (S3Object("b", "k2", "v1", "e1", 1), False),
        (S3Object("c", "k", "v1", "e1", 1), False),
        (S3Object("b", "k", "", "e1", 1), False),
    ],
)
def test_an_id_is_one_version_of_one_object(other: S3Object, same: bool) -> None:
    assert (object_id(FOUND) == object_id(other)) is same


def test_without_versions_tag_and_size_tell_contents_apart() -> None:
    ids = {
        object_id(S3Object("b", "k", "", etag, size))
        for etag, size in [("e1", 1), ("e2", 1), ("e1", 2)]
    }
    assert len(ids) == 3
    (null,) = events_from_body(notification(record(versionId="null")))
    assert object_from_event(null).version_id == ""


def test_a_second_audit_has_an_id_of_its_own() -> None:
    (first,), (second,) = events_from_body(PUT), events_from_body(PUT, generation=1)
    assert first.get_id() != second.get_id() == audit_id(second)


def test_the_id_is_derived_also_where_another_source_put_its_own() -> None:
    (ours,) = events_from_body(PUT)
    attributes = {"id": "../../evil", "source": "s", "type": ours.get_type()}
    assert audit_id(new_event(attributes, RECORD)) == ours.get_id()


def test_an_odd_generation_is_refused() -> None:
    attributes = {"id": "1", "source": "s", "type": "com.amazonaws.s3.ObjectCreated:Put"}
    with pytest.raises(InvalidEvent, match=GENERATION):
        audit_id(new_event({**attributes, GENERATION: "two"}, RECORD))


def test_another_type_is_refused() -> None:
    with pytest.raises(InvalidEvent, match="ObjectRemoved"):
        object_from_event(
            new_event(
                {"id": "1", "source": "s", "type": "com.amazonaws.s3.ObjectRemoved:Delete"}, RECORD
            )
        )


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("", ("", "")),
        ("photo.jpg", ("", "")),
        ("store-17/photo.jpg", ("", "")),
        ("store-17/cam-2/photo.jpg", ("store-17", "cam-2")),
        ("store-17/cam-2/2026/11/22.jpg", ("store-17", "cam-2")),
        ("/cam-2/photo.jpg", ("", "cam-2")),
    ],
)
def test_store_and_camera_come_from_the_key(key: str, place: tuple[str, str]) -> None:
    assert place_of(key) == place
