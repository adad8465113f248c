"""S3 notifications as events: one a created object, and one id an object version."""

import copy
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from cloudevents.core.v1.event import CloudEvent
from notifications import events_from_body
from real_messages import ETAG, PHOTO, SIZE, VERSION_ID

from events.codec import InvalidEvent, data_of, from_http, from_json, new_event, to_json
from events.s3_notification import (
    IgnoredRecord,
    S3Object,
    audit_id,
    ignored_as,
    image_items,
    items_from_body,
    notification_body,
    object_from_event,
    object_id,
    store_and_camera,
)
from events.types import GENERATION, MAX_GENERATION, OUR_PREFIXES, Ignored

EVENTS = Path(__file__).parent / "events"
PUT = (EVENTS / "s3_put.json").read_text()
RECORD = json.loads(PUT)["Records"][0]
PUT_THROUGH_SNS = (EVENTS / "s3_put_through_sns.json").read_text()
SNS = json.loads(PUT_THROUGH_SNS)
EVENTBRIDGE = json.loads((EVENTS / "s3_put_through_eventbridge.json").read_text())


def notification(*records: dict[str, object]) -> str:
    return json.dumps({"Records": list(records)})


def record(**changes: object) -> dict[str, object]:
    """The put record with changes: of the object where it has such a field, else of the record."""
    changed: dict[str, Any] = copy.deepcopy(RECORD)
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


VERSIONED = S3Object(bucket="shelves", key=PHOTO, version_id=VERSION_ID, etag=ETAG, size=SIZE)
UNVERSIONED = replace(VERSIONED, version_id="")
SECOND = replace(VERSIONED, key="store-17/cam-2/0816.jpg", version_id="2")
FORMS = {
    "s3_test_event": [],
    "s3_test_event_through_sns": [],
    "s3_delete_through_eventbridge": [],
    "s3_put": [VERSIONED],  # record version 2.6
    "s3_copy_2.4": [VERSIONED],  # its slashes encoded, its name with the prefix of the rule's
    "s3_put_null_version_2.3": [UNVERSIONED],
    "s3_put_unversioned_2.1": [UNVERSIONED],
    "s3_two_records_and_a_delete": [VERSIONED, SECOND],
    "s3_put_through_sns": [VERSIONED],
    "s3_put_through_eventbridge": [VERSIONED],
    "s3_put_through_eventbridge_and_sns": [VERSIONED],
}


@pytest.mark.parametrize("name", FORMS)
def test_whatever_form_the_news_takes_the_object_and_its_id_are_the_same(name: str) -> None:
    events = events_from_body((EVENTS / f"{name}.json").read_text())
    assert [object_from_event(event) for event in events] == FORMS[name]
    for event, found in zip(events, FORMS[name], strict=True):
        assert event.get_id() == audit_id(event) == object_id(found)
        assert event.get_source() == "aws:s3.eu-central-1.shelves"
        assert event.get_type().startswith("com.amazonaws.s3.ObjectCreated:")
        time = event.get_time()
        assert time
        assert time.replace(microsecond=0) == datetime(2026, 11, 22, 8, 15, tzinfo=UTC)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", None])
@pytest.mark.parametrize(
    "event_type", ["dev.knative.eventing.aws-sqs", "dev.knative.connector.event.aws-sqs"]
)
def test_knatives_integration_source_carries_any_of_the_forms(
    name: str, content_type: str | None, event_type: str
) -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "9CC70D09569020C-0000000000000001",
        "ce-type": event_type,
        "ce-source": "dev.knative.eventing.aws-sqs-source",
        "ce-subject": "aws-sqs-source",
        **({"content-type": content_type} if content_type else {}),
    }
    (carrier,) = from_http(headers, (EVENTS / f"{name}.json").read_bytes())
    events = [item for item in image_items(carrier) if not isinstance(item, IgnoredRecord)]
    assert [object_from_event(event) for event in events] == FORMS[name]  # type: ignore[arg-type]  # an InvalidEvent fails here, too


def test_an_image_event_stays_itself_and_any_other_is_refused() -> None:
    (event,) = events_from_body(PUT)
    assert image_items(event) == [event]
    # The same source for S3 sends the photo itself, without its name, and deletes it.
    attributes = {"id": "1", "source": "s", "type": "dev.knative.eventing.aws-s3"}
    (error,) = image_items(new_event(attributes, {}))
    assert isinstance(error, InvalidEvent)
    assert "got 'dev.knative.eventing.aws-s3'" in str(error)
    assert image_items(error) == [error]


@pytest.mark.parametrize(
    ("body", "count"),
    [
        pytest.param(notification(record(), record(key="b.jpg")), 2, id="two"),
        pytest.param(notification(record(eventName="ObjectRemoved:Delete")), 0, id="delete"),
        pytest.param(notification(record(eventName="ObjectRestore:Completed")), 0, id="restore"),
        pytest.param(notification(record(eventName="s3:ObjectCreated:Post")), 1, id="s3-prefix"),
        pytest.param(notification(record(eventVersion="2.9", new={"a": 1})), 1, id="newer"),
        pytest.param(notification(record(eventVersion="2.0")), 1, id="older"),
        pytest.param(notification(record(eventSource="minio:s3")), 1, id="other-store"),
    ],
)
def test_only_created_objects_give_events(body: str, count: int) -> None:
    assert len(events_from_body(body)) == count


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param("", "must be JSON", id="empty"),
        pytest.param("hello", "must be JSON, got 'hello'", id="text"),
        pytest.param("[]", "must be a JSON object", id="list"),
        pytest.param("{}", "`Records` must be a list of S3's records, got None", id="object"),
        pytest.param(
            '{"Records": [1]}', "`eventName` of the S3 record must be a text", id="number"
        ),
        pytest.param(
            notification(record(s3=None)),
            "`s3` of the S3 record must be an object, got None",
            id="no-s3",
        ),
        pytest.param(notification(record(s3={"bucket": {}})), "`object` of", id="no-object"),
        pytest.param(notification(record(key="")), "`key` of .*, got ''", id="no-key"),
        pytest.param(
            notification(record(key="a\ud800.jpg")), "must be Unicode", id="key-surrogate"
        ),
        pytest.param(notification(record(eventVersion="3.0")), "version '3.0'", id="version-3"),
        pytest.param(notification(record(eventSource="aws:ses")), "aws:ses", id="other-service"),
        pytest.param('{"Records": [1], "auditgeneration": -1}', "auditgeneration", id="generation"),
        pytest.param(
            '{"Records": [1], "auditgeneration": 1001}',
            "from 0 to 1000, got 1001",
            id="generation-far",
        ),
        pytest.param('{"Records": [1], "auditgeneration": true}', "got True", id="generation-bool"),
        pytest.param(json.dumps({**SNS, "Message": "hello"}), "must be JSON", id="sns-text"),
        pytest.param(
            json.dumps({**SNS, "Message": PUT_THROUGH_SNS}), "`Records` must be", id="sns-twice"
        ),
        pytest.param(json.dumps({"Type": "Notification"}), "`Records` must be", id="not-sns"),
        pytest.param(json.dumps({**EVENTBRIDGE, "detail": {}}), "`object` of", id="eventbridge"),
        pytest.param(json.dumps({**EVENTBRIDGE, "time": ""}), "`time` of", id="eventbridge-time"),
        pytest.param("[" * 100_000, "must be JSON", id="deep"),
        pytest.param(
            notification(record(eventTime="soon")),
            "must be a time as in ISO 8601, got 'soon'",
            id="time",
        ),
        pytest.param(
            notification(record(eventTime="2026-11-22T08:15:00")),
            "must be a time with a zone",
            id="no-time-zone",
        ),
    ],
)
def test_what_is_no_notification_is_refused_with_a_reason(body: str, words: str) -> None:
    with pytest.raises(InvalidEvent, match=words):
        events_from_body(body)


ODD_KEYS = [
    "a.jpg",
    "a b.jpg",
    "a+b.jpg",
    "a%b.jpg",
    "50%2B.jpg",
    "a&b=c?d#e;f.jpg",
    "日本/棚.jpg",
    "cafe\u0301/\N{SHALLOW PAN OF FOOD}.jpg",
    "/leading/slash.jpg",
    "double//slash.jpg",
    "x/../y.jpg",
    " spaces at both ends ",
    "new\nline and\ttab.jpg",
    "quote'\"<&>.jpg",
    "back\\slash.jpg",
    "k" * 1024,
    "é" * 512,  # 1024 bytes
]


@pytest.mark.parametrize("key", ODD_KEYS)
@pytest.mark.parametrize("safe", ["/", ""])
def test_keys_are_decoded_once_however_the_slash_is_written(key: str, safe: str) -> None:
    (event,) = events_from_body(notification(record(key=quote_plus(key, safe=safe))))
    assert object_from_event(event).key == key
    # As the source sends it and the function gets it.
    assert object_from_event(from_json(to_json(event))).key == key


@pytest.mark.parametrize("key", ODD_KEYS)
def test_eventbridge_does_not_encode_keys(key: str) -> None:
    body = copy.deepcopy(EVENTBRIDGE)
    body["detail"]["object"]["key"] = key
    (event,) = events_from_body(json.dumps(body))
    assert object_from_event(event).key == key


@pytest.mark.parametrize("key", ODD_KEYS)
@pytest.mark.parametrize("s3_object", [VERSIONED, UNVERSIONED])
@pytest.mark.parametrize("generation", [0, 3])
def test_a_notification_of_ours_reads_as_one_of_s3(
    key: str, s3_object: S3Object, generation: int
) -> None:
    s3_object = replace(s3_object, key=key)
    time = datetime(2026, 11, 22, 8, 15, tzinfo=UTC)
    body = notification_body(s3_object, time, "eu-central-1", generation)
    # Its own generation counts, not the one that the source was set to.
    (event,) = events_from_body(body, 7)
    assert object_from_event(event) == s3_object
    assert event.get_id() == audit_id(event) == object_id(s3_object, generation)
    assert (event.get_time(), event.get_source()) == (time, "aws:s3.eu-central-1.shelves")
    assert event.get_extension(GENERATION) == generation


def test_the_largest_notification_fits_a_message() -> None:
    largest = S3Object(
        bucket="b" * 63, key="é" * 512, version_id="v" * 1024, etag=ETAG, size=5 * 2**40
    )
    time = datetime(2026, 11, 22, 8, 15, tzinfo=UTC)
    # Ten to a batch, whose limit of old is 256 KiB in all.
    assert len(notification_body(largest, time, "eu-central-1", MAX_GENERATION)) * 10 < 256 * 1024


@pytest.mark.parametrize(
    ("value", "size"),
    [
        *((7, 7), (0, 0), (None, None), (-1, None), (True, None), (1.5, None)),
        pytest.param("7", 7, id="text"),
        pytest.param("0", 0, id="text-0"),
        pytest.param("-1", None, id="text-less-than-0"),
        *(("", None), ("1e3", None), ([], None)),
    ],
)
def test_a_size_may_be_a_text_or_missing(value: object, size: int | None) -> None:
    (event,) = events_from_body(notification(record(size=value)))
    assert object_from_event(event).size == size


@pytest.mark.parametrize(
    ("value", "etag"),
    [
        *((ETAG, ETAG), (f'"{ETAG}"', ETAG), (f"{ETAG}-12", f"{ETAG}-12")),
        *(("", ""), (None, ""), (ETAG[1:-1], ""), ("W/1", ""), (7, "")),
    ],
)
def test_an_entity_tag_that_s3_never_gives_is_none(value: object, etag: str) -> None:
    (event,) = events_from_body(notification(record(eTag=value)))
    assert object_from_event(event).etag == etag


@pytest.mark.parametrize(
    ("written", "keys"),
    [
        ("a.jpg", ["a.jpg"]),
        ("a+b.jpg", ["a b.jpg", "a+b.jpg"]),
        ("a%2Bb.jpg", ["a+b.jpg", "a%2Bb.jpg", "a b.jpg"]),
        ("a%252Bb.jpg", ["a%2Bb.jpg", "a%252Bb.jpg", "a+b.jpg"]),
        ("a%FF.jpg", ["a%FF.jpg"]),  # no UTF-8: nobody encoded it
        ("100%.jpg", ["100%.jpg"]),
    ],
)
def test_a_key_is_meant_as_decoded_or_as_written_or_twice_encoded(
    written: str, keys: list[str]
) -> None:
    (event,) = events_from_body(notification(record(key=written)))
    assert [spelling.key for spelling in object_from_event(event).spellings()] == keys


@pytest.mark.parametrize("region", ["", None])
def test_a_store_without_regions_announces_photos_too(region: str | None) -> None:
    (event,) = events_from_body(notification(record(awsRegion=region)))
    assert event.get_source() == "aws:s3..shelves"
    assert event.get_id() == object_id(VERSIONED)


@pytest.mark.parametrize("prefix", OUR_PREFIXES)
def test_what_is_ours_is_no_photo_in_our_buckets_alone(prefix: str) -> None:
    body = notification(record(key=f"{prefix}1.json"))
    (item,) = items_from_body(body, our_buckets={"shelves"})
    assert item == IgnoredRecord(Ignored.OURS, f"s3://shelves/{prefix}1.json")
    (event,) = items_from_body(body, our_buckets={"results"})
    assert isinstance(event, CloudEvent)


@pytest.mark.parametrize(("size", "kind"), [(0, Ignored.FOLDER), (5, None), (None, None)])
def test_a_folder_is_a_key_that_ends_in_a_slash_and_holds_nothing(
    size: int | None, kind: Ignored | None
) -> None:
    assert ignored_as(S3Object(bucket="b", key="store-17/", size=size), ()) is kind
    assert ignored_as(S3Object(bucket="b", key="store-17/a.jpg", size=size), ()) is None


def test_a_record_that_cannot_be_read_costs_the_others_nothing() -> None:
    body = notification(record(), record(eventTime="soon"), record(key="b.jpg"))
    first, error, last = items_from_body(body)
    assert isinstance(first, CloudEvent)
    assert isinstance(last, CloudEvent)
    assert isinstance(error, InvalidEvent)
    assert error.record == record(eventTime="soon")


def test_two_deliveries_of_one_notification_give_one_id() -> None:
    again = record(eventTime="2026-11-22T08:16:00.000Z", sequencer="FF", eventVersion="2.1")
    (first,), (second,) = events_from_body(PUT), events_from_body(notification(again))
    assert first.get_id() == second.get_id() == audit_id(first)


def test_a_listing_gives_the_id_of_the_notification() -> None:
    (event,) = events_from_body(PUT)
    listed = S3Object(bucket="shelves", key=PHOTO, version_id=VERSION_ID)
    assert object_id(listed) == event.get_id()


FOUND = S3Object(bucket="b", key="k", version_id="v1", etag="e1", size=1)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (S3Object(bucket="b", key="k", version_id="v1", etag="e1", size=1), True),
        (S3Object(bucket="b", key="k", version_id="v1", etag="e2", size=2), True),
        (S3Object(bucket="b", key="k", version_id="v2", etag="e1", size=1), False),
        (S3Object(bucket="b", key="k2", version_id="v1", etag="e1", size=1), False),
        (S3Object(bucket="c", key="k", version_id="v1", etag="e1", size=1), False),
        (S3Object(bucket="b", key="k", version_id="", etag="e1", size=1), False),
    ],
)
def test_an_id_is_one_version_of_one_object(other: S3Object, same: bool) -> None:
    assert (object_id(FOUND) == object_id(other)) is same


def test_without_versions_tag_and_size_tell_contents_apart() -> None:
    ids = {
        object_id(S3Object(bucket="b", key="k", version_id="", etag=etag, size=size))
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
    assert store_and_camera(key) == place
