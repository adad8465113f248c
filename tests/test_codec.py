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
    ],
)
def test_every_mode_gives_the_same_event(headers: Mapping[str, str], content: bytes) -> None:
    (event,) = from_http(headers, content)
    assert (event.get_id(), event.get_source(), event.get_type()) == ("1", "s", "t")
    assert data_of(event) == {"a": 1}


@pytest.mark.parametrize("count", [0, 1, 10])
def test_a_batch_may_hold_up_to_ten(count: int) -> None:
    content = b"[" + b",".join(body(id=str(index)) for index in range(1, count + 1)) + b"]"
    events = from_http({"content-type": BATCHED}, content)
    assert [event.get_id() for event in events] == [str(i) for i in range(1, count + 1)]


STRUCTURED_ONLY = {"content-type": STRUCTURED}


@pytest.mark.parametrize(
    ("headers", "content", "words"),
    [
        pytest.param({}, b"", "neither ce- headers", id="nothing"),
        pytest.param(STRUCTURED_ONLY, b"", "not JSON", id="empty"),
        pytest.param(STRUCTURED_ONLY, b"{", "not JSON", id="broken"),
        pytest.param(STRUCTURED_ONLY, b"\xff\xfe", "not JSON", id="junk"),
        pytest.param(STRUCTURED_ONLY, b"[]", "JSON object", id="list"),
        pytest.param(STRUCTURED_ONLY, b"[" * 100_000, "not JSON", id="deep"),
        pytest.param(STRUCTURED_ONLY, body(id=""), "no id", id="no-id"),
        pytest.param(STRUCTURED_ONLY, body(source=None), "no source", id="no-source"),
        pytest.param(STRUCTURED_ONLY, body(type=""), "no type", id="no-type"),
        pytest.param(STRUCTURED_ONLY, body(id=7), "'?7'?", id="id-number"),
        pytest.param(STRUCTURED_ONLY, body(specversion="0.3"), "0.3", id="old"),
        pytest.param(STRUCTURED_ONLY, body(time="yesterday"), "invalid attribute", id="time"),
        pytest.param(STRUCTURED_ONLY, body(time=5), "invalid attribute", id="time-number"),
        pytest.param(STRUCTURED_ONLY, body(Bad="x"), "invalid attribute", id="extension"),
        pytest.param({"content-type": BATCHED}, body(), "JSON array", id="batch-object"),
        pytest.param(
            {"content-type": BATCHED}, b"[" + b",".join([body()] * 11) + b"]", "10", id="batch-11"
        ),
        pytest.param({"content-type": BATCHED}, b"[1]", "JSON object", id="batch-number"),
        pytest.param(
            {"content-type": "application/cloudevents+avro"}, body(), "avro", id="other-format"
        ),
        pytest.param({**HEADERS, "ce-id": ""}, b"{}", "no id", id="binary-no-id"),
        pytest.param({"ce-type": "t"}, b"{}", "specversion, id, source", id="binary-missing"),
        pytest.param(HEADERS, b"{", "not JSON", id="binary-broken"),
        pytest.param({**HEADERS, "ce-time": "x"}, b"{}", "invalid attribute", id="binary-time"),
    ],
)
def test_what_is_no_event_is_refused_with_a_reason(
    headers: Mapping[str, str], content: bytes, words: str
) -> None:
    with pytest.raises(InvalidEvent, match=words):
        from_http(headers, content)


def test_data_must_be_an_object() -> None:
    (event,) = from_http(STRUCTURED_ONLY, body(data=[1]))
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
    with pytest.raises(InvalidEvent, match="no id"):
        new_event({"source": "s", "type": "t"}, {})


def test_control_characters_of_a_key_are_encoded() -> None:
    """An attribute may not hold them; the data still does."""
    event = new_event({"id": "1", "source": "s", "type": "t", "subject": "a\nb\x7fc%0A é.jpg"}, {})
    assert event.get_subject() == "a%0Ab%7Fc%0A é.jpg"
