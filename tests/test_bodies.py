"""The source's two kinds of messages: S3's notifications, and events as the topic sends them."""

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from cloudevents.core.v1.event import CloudEvent
from conftest import EVENTS as FILES

from events.codec import InvalidEvent, from_json, new_event, to_json
from events.s3_envelopes import Unconfirmed
from events.settings import SettingError
from events.source.bodies import EVENTS, NOTIFICATIONS, read_body_of
from events.source.config import SourceConfig

TIME = datetime(2026, 11, 22, 8, 13, 57, tzinfo=UTC)
ATTRIBUTES = {"id": "1", "source": "urn:s", "type": "io.shelfwatch.shelf.audited"}
EVENT = new_event({**ATTRIBUTES, "time": TIME}, {"count": 3})
CLAIM = new_event({**ATTRIBUTES, "time": TIME, "dataref": "s3://results/results/1.json"}, None)


def wrapped(message: object) -> str:
    return json.dumps({"Type": "Notification", "TopicArn": "arn:aws:sns:x", "Message": message})


@pytest.mark.parametrize("event", [EVENT, CLAIM], ids=["data", "claim"])
@pytest.mark.parametrize("wrap", [str, wrapped], ids=["raw", "through SNS"])
def test_an_event_of_the_topic_comes_as_it_was_published(
    event: CloudEvent, wrap: Callable[[str], str]
) -> None:
    body = wrap(to_json(event).decode())
    (read,) = read_body_of(EVENTS)(body)
    assert isinstance(read, CloudEvent)
    assert to_json(read) == to_json(from_json(to_json(event)))


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "{}",
        "hello",
        wrapped(None),
        wrapped("hello"),
        wrapped(""),
        (FILES / "s3_put.json").read_text(),
        (FILES / "s3_put_through_sns.json").read_text(),
    ],
)
def test_whatever_is_no_event_is_named_as_such(body: str) -> None:
    with pytest.raises(InvalidEvent):
        read_body_of(EVENTS)(body)


@pytest.mark.parametrize("queue_holds", [EVENTS, NOTIFICATIONS])
def test_a_question_of_sns_is_none_of_the_messages(queue_holds: str) -> None:
    body = (FILES / "sns_subscription_confirmation.json").read_text()
    with pytest.raises(Unconfirmed, match="aws sns confirm-subscription"):
        read_body_of(queue_holds)(body)


def test_notifications_are_read_unless_told_otherwise() -> None:
    body = (FILES / "s3_put.json").read_text()
    (event,) = read_body_of(NOTIFICATIONS, 2)(body)
    assert isinstance(event, CloudEvent)
    assert event.get_extension("auditgeneration") == 2
    with pytest.raises(InvalidEvent):
        read_body_of(NOTIFICATIONS)(to_json(EVENT).decode())


def test_a_setting_chooses_and_an_odd_one_is_named() -> None:
    env = {"QUEUE_URL": "q", "K_SINK": "http://s"}
    assert SourceConfig.from_env(env).queue_holds == NOTIFICATIONS
    assert SourceConfig.from_env({**env, "QUEUE_HOLDS": "events"}).queue_holds == EVENTS
    with pytest.raises(SettingError, match=r"`QUEUE_HOLDS` must be .*, got 'both'"):
        SourceConfig.from_env({**env, "QUEUE_HOLDS": "both"})
