"""The border to the CloudEvents SDK: its traps stay outside."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from cloudevents.core.v1.event import CloudEvent

from events.codec import (
    BATCHED,
    STRUCTURED,
    InvalidEvent,
    data_of,
    from_http,
    from_json,
    new_event,
    to_json,
)

STRUCTURED_ONLY = {"content-type": STRUCTURED}
ATTRIBUTES = {"specversion": "1.0", "id": "1", "source": "s", "type": "t"}
HEADERS = {f"ce-{name}": value for name, value in ATTRIBUTES.items()}


def body(**changes: object) -> bytes:
    return json.dumps({**ATTRIBUTES, "data": {"a": 1}, **changes}).encode()


@pytest.mark.parametrize(
    ("headers", "content"),
    [
        pytest.param({**HEADERS, "Content-Type": "application/json"}, b'{"a": 1}', id="binary"),
        pytest.param({k.upper(): v for k, v in HEADERS.items()}, b'{"a": 1}', id="upper-case"),
        pytest.param({"Content-Type": STRUCTURED}, body(), id="structured"),
        pytest.param({"content-type": f"{STRUCTURED}; charset=UTF-8"}, body(), id="charset"),
        pytest.param(
            {"Content-Type": STRUCTURED, "ce-id": "stray", "ce-type": "x"}, body(), id="stray-ce"
        ),
        pytest.param({"Content-Type": BATCHED}, b"[" + body() + b"]", id="batched"),
        pytest.param(STRUCTURED_ONLY, b"\xef\xbb\xbf" + body(), id="byte-order-mark"),
        pytest.param(
            STRUCTURED_ONLY, body(subject=None, time=None, dataschema=None, trace=None), id="nulls"
        ),
        pytest.param(
            STRUCTURED_ONLY, body(data=None, data_base64="eyJhIjogMX0="), id="data-base64"
        ),
        pytest.param(
            STRUCTURED_ONLY,
            body(datacontenttype="Application/JSON ; charset=utf-8"),
            id="content-type-of-the-data",
        ),
        pytest.param(
            {**HEADERS, "Content-Type": "Application/JSON ; charset=utf-8"},
            b'\xef\xbb\xbf{"a": 1}',
            id="binary-content-type",
        ),
        pytest.param({**HEADERS, "Content-Type": "text/plain"}, b'{"a": 1}', id="binary-text"),
        pytest.param({**HEADERS, "ce-type": '"t"', "ce-id": "%31"}, b'{"a": 1}', id="quoted"),
    ],
)
def test_every_mode_gives_the_same_event(headers: Mapping[str, str], content: bytes) -> None:
    (event,) = from_http(headers, content)
    assert isinstance(event, CloudEvent)
    assert event.get_datacontenttype() in (None, "application/json")
    assert (event.get_id(), event.get_source(), event.get_type()) == ("1", "s", "t")
    assert data_of(event) == {"a": 1}


@pytest.mark.parametrize("count", [0, 1, 10])
def test_a_batch_may_hold_up_to_ten(count: int) -> None:
    content = b"[" + b",".join(body(id=str(index)) for index in range(1, count + 1)) + b"]"
    events = from_http({"content-type": BATCHED}, content)
    ids = [event.get_id() for event in events if isinstance(event, CloudEvent)]
    assert ids == [str(i) for i in range(1, count + 1)]


def test_what_is_wrong_with_one_of_a_batch_stands_in_its_place() -> None:
    content = b"[" + body() + b", 1, " + body(id="") + b", " + body(id="2") + b"]"
    first, number, nameless, second = from_http({"content-type": BATCHED}, content)
    assert isinstance(first, CloudEvent)
    assert isinstance(second, CloudEvent)
    assert (first.get_id(), second.get_id()) == ("1", "2")
    assert str(number) == "An event must be a JSON object, got 1"
    assert str(nameless) == "`id` must be a text that is not empty, got ''"


@pytest.mark.parametrize(
    ("value", "subject"),
    [
        ("caf%C3%A9%20bar.jpg", "café bar.jpg"),
        ('"caf%C3%A9 bar.jpg"', "café bar.jpg"),
        (r'"a \"b\" %22c%22"', 'a "b" "c"'),
        ('"', '"'),
        ('a"b"', 'a"b"'),
        ("%2522", "%22"),  # decoded once
    ],
)
def test_a_header_is_read_out_of_its_quotes_and_then_decoded_once(value: str, subject: str) -> None:
    (event,) = from_http({**HEADERS, "ce-subject": value}, b"{}")
    assert isinstance(event, CloudEvent)
    assert event.get_subject() == subject


def test_a_long_value_is_shown_in_part() -> None:
    with pytest.raises(InvalidEvent) as error:
        from_http(STRUCTURED_ONLY, body(specversion="x" * 100_000))
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("headers", "content", "words"),
    [
        pytest.param({}, b"", "`content-type` must be .*ce- headers", id="nothing"),
        pytest.param(STRUCTURED_ONLY, b"", "must be JSON, got b''", id="empty"),
        pytest.param(STRUCTURED_ONLY, b"{", "must be JSON", id="broken"),
        pytest.param(STRUCTURED_ONLY, b"\xff\xfe", "must be JSON", id="junk"),
        pytest.param(STRUCTURED_ONLY, b"[]", "JSON object", id="list"),
        pytest.param(STRUCTURED_ONLY, b"[" * 100_000, "must be JSON", id="deep"),
        pytest.param(STRUCTURED_ONLY, body(id=""), "`id` must be .*, got ''", id="no-id"),
        pytest.param(
            STRUCTURED_ONLY, body(source=None), "`source` must be .*, got None", id="no-source"
        ),
        pytest.param(STRUCTURED_ONLY, body(type=""), "`type` must be", id="no-type"),
        pytest.param(
            STRUCTURED_ONLY,
            body(id=7),
            "`id` must be a text that is not empty, got 7",
            id="id-number",
        ),
        pytest.param(
            STRUCTURED_ONLY,
            body(specversion="0.3"),
            "`specversion` must be '1.0', got '0.3'",
            id="old",
        ),
        pytest.param(
            STRUCTURED_ONLY,
            body(time="yesterday"),
            "`time` must be a time as in RFC 3339, got 'yesterday'",
            id="time",
        ),
        pytest.param(STRUCTURED_ONLY, body(time=5), "`time` must be .*, got 5", id="time-number"),
        pytest.param(
            STRUCTURED_ONLY, body(Bad="x"), "`Bad` must be as CloudEvents", id="extension"
        ),
        pytest.param({"content-type": BATCHED}, body(), "JSON array", id="batch-object"),
        pytest.param(
            {"content-type": BATCHED}, b"[" + b",".join([body()] * 11) + b"]", "10", id="batch-11"
        ),
        pytest.param(
            STRUCTURED_ONLY,
            body(data=None, data_base64="e30=="),
            "`data_base64` must be base64",
            id="base64",
        ),
        pytest.param(
            STRUCTURED_ONLY, body(data=None, data_base64="ew=="), "must be JSON", id="base64-json"
        ),
        pytest.param(
            {"content-type": "application/cloudevents+avro"}, body(), "avro", id="other-format"
        ),
        pytest.param({**HEADERS, "ce-id": ""}, b"{}", "`id` must be", id="binary-no-id"),
        pytest.param({"ce-type": "t"}, b"{}", "`specversion` must be", id="binary-missing"),
        pytest.param(HEADERS, b"{", "must be JSON", id="binary-broken"),
        pytest.param({**HEADERS, "ce-time": "x"}, b"{}", "`time` must be", id="binary-time"),
    ],
)
def test_what_is_no_event_is_refused_with_a_reason(
    headers: Mapping[str, str], content: bytes, words: str
) -> None:
    with pytest.raises(InvalidEvent, match=words):
        from_http(headers, content)


def test_data_must_be_an_object() -> None:
    (event,) = from_http(STRUCTURED_ONLY, body(data=[1]))
    assert isinstance(event, CloudEvent)
    with pytest.raises(InvalidEvent, match="JSON object"):
        data_of(event)


def test_an_event_survives_json() -> None:
    time = datetime(2026, 11, 22, 8, 15, tzinfo=UTC)
    attributes = {"id": "1", "source": "s", "type": "t", "subject": "café + 日本.jpg"}
    event = new_event({**attributes, "time": time}, {"a": [{"b": 1}]})
    again = from_json(to_json(event))
    assert again.get_attributes() == event.get_attributes()
    assert data_of(again) == {"a": [{"b": 1}]}
    assert json.loads(to_json(event))["time"] == "2026-11-22T08:15:00Z"


def test_two_events_from_the_same_attributes_stay_apart() -> None:
    attributes: dict[str, str | int | datetime] = {"id": "1", "source": "s", "type": "t"}
    first: CloudEvent = new_event(attributes, {})
    attributes["id"] = "2"
    second = new_event(attributes, {})
    assert (first.get_id(), second.get_id()) == ("1", "2")
    assert "time" not in attributes


def test_an_event_of_ours_needs_an_id() -> None:
    with pytest.raises(InvalidEvent, match="`id` must be"):
        new_event({"source": "s", "type": "t"}, {})


def test_what_is_no_character_of_a_text_is_encoded() -> None:
    """An attribute may not hold them; the data still does."""
    subject = "a\nb\x7fc%0A é\u3000\N{SHALLOW PAN OF FOOD}\ufffe.jpg"
    event = new_event({"id": "1", "source": "s", "type": "t", "subject": subject}, {})
    encoded = "a%0Ab%7Fc%0A é\u3000\N{SHALLOW PAN OF FOOD}%EF%BF%BE.jpg"
    assert event.get_subject() == encoded
