"""Events on the topic: whole in the body, a few facts as attributes."""

import json

import pytest
from conftest import Aws

from events.codec import new_event
from events.sns_publisher import MAX_ATTRIBUTES, MAX_EVENT_BYTES, attributes_of, publish
from events.types import SHELF_AUDITED
from local.aws import subscribe

ENVELOPE = {
    "id": "0" * 32,
    "source": "urn:shelfwatch:s3:shelves",
    "type": SHELF_AUDITED,
    "subject": "store-17/cam-2/0815.jpg",
    "store": "store-17",
    "camera": "cam-2",
}
DATA = {
    "model": {"name": "shelf-yolo11n", "revision": "detector-00003"},
    "count": 147,
    "gaps": [{"row": 0}, {"row": 2}],
    "fill_rate": 0.84,
}
FACTS = {
    "type": ("String", SHELF_AUDITED),
    "source": ("String", "urn:shelfwatch:s3:shelves"),
    "store": ("String", "store-17"),
    "camera": ("String", "cam-2"),
    "count": ("Number", "147"),
    "gaps": ("Number", "2"),
    "fill_rate": ("Number", "0.84"),
    "model": ("String", "shelf-yolo11n"),
    "revision": ("String", "detector-00003"),
}


@pytest.mark.parametrize(
    ("data", "missing"),
    [
        pytest.param({}, {"count", "gaps", "fill_rate", "model", "revision"}, id="empty"),
        pytest.param(DATA, set(), id="full"),
        pytest.param({**DATA, "fill_rate": None}, {"fill_rate"}, id="no-rows"),
        pytest.param(
            {**DATA, "model": {"name": "shelf-yolo11n", "revision": ""}}, {"revision"}, id="local"
        ),
    ],
)
def test_attributes_are_numbers_and_strings_and_never_empty(
    data: dict[str, object], missing: set[str]
) -> None:
    attributes = attributes_of(new_event(ENVELOPE, data))
    assert len(attributes) <= MAX_ATTRIBUTES
    assert {
        name: (value["DataType"], value["StringValue"]) for name, value in attributes.items()
    } == {name: fact for name, fact in FACTS.items() if name not in missing}


@pytest.mark.parametrize(
    ("store", "kept"), [("café 日本", True), ("a\x01b", False), ("a\nb", False)]
)
def test_an_attribute_that_sns_would_refuse_is_left_out(store: str, kept: bool) -> None:
    assert ("store" in attributes_of(new_event({**ENVELOPE, "store": store}, DATA))) is kept


def received(aws: Aws, queue_url: str) -> list[dict[str, object]]:
    answer = aws.sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
    return [json.loads(message["Body"]) for message in answer.get("Messages", [])]


def test_a_subscriber_gets_the_whole_event(aws: Aws) -> None:
    event = new_event(ENVELOPE, DATA)
    assert publish(event, aws.sns, aws.resources.topic_arn)
    (got,) = received(aws, aws.resources.subscriber_url)
    assert got.pop("data") == DATA
    assert got == {**ENVELOPE, "specversion": "1.0", "datacontenttype": "application/json"} | {
        "time": got["time"]
    }


def test_a_large_event_leaves_its_data_behind(aws: Aws) -> None:
    event = new_event(ENVELOPE, {**DATA, "detections": ["x" * MAX_EVENT_BYTES]})
    publish(event, aws.sns, aws.resources.topic_arn, "s3://results/results/0.json")
    publish(event, aws.sns, aws.resources.topic_arn)
    without, whole = received(aws, aws.resources.subscriber_url)
    assert without["dataref"] == "s3://results/results/0.json"
    assert "data" not in without
    assert (without["id"], without["subject"]) == (event.get_id(), event.get_subject())
    assert "dataref" not in whole
    assert len(str(whole["data"])) > MAX_EVENT_BYTES


def test_a_filter_policy_can_ask_for_gaps_of_a_store(aws: Aws) -> None:
    queue_url = subscribe(aws.sqs, aws.sns, aws.resources.topic_arn, f"{aws.resources.bucket}-gaps")
    subscription = next(
        found["SubscriptionArn"]
        for found in aws.sns.list_subscriptions_by_topic(TopicArn=aws.resources.topic_arn)[
            "Subscriptions"
        ]
        if found["Endpoint"].endswith("-gaps")
    )
    policy = {"store": ["store-17"], "gaps": [{"numeric": [">", 0]}]}
    aws.sns.set_subscription_attributes(
        SubscriptionArn=subscription,
        AttributeName="FilterPolicy",
        AttributeValue=json.dumps(policy),
    )
    for number, (store, gaps) in enumerate([("store-17", [1]), ("store-17", []), ("store-2", [1])]):
        event = new_event({**ENVELOPE, "id": str(number), "store": store}, {**DATA, "gaps": gaps})
        publish(event, aws.sns, aws.resources.topic_arn)
    assert [event["id"] for event in received(aws, queue_url)] == ["0"]
