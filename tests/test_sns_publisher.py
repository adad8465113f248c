"""Events on the topic: whole in the body, a few facts as attributes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import boto3
import pytest
from botocore.config import Config as BotoConfig
from cloudevents.core.v1.event import CloudEvent
from conftest import EVENTS, Aws
from schemas import validate

from events.codec import data_of, new_event, to_json
from events.sns_publisher import (
    MAX_ATTRIBUTES,
    MAX_EVENT_BYTES,
    attributes_of,
    make_client,
    publish,
)
from events.sqs import queue_arn
from events.types import DATA_SCHEMAS, IMAGE_REJECTED, SHELF_AUDITED
from local.aws import subscribe

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest
    from mypy_boto3_sns import SNSClient

ENVELOPE = {
    "id": "0" * 32,
    "source": "urn:shelfwatch:s3:shelves",
    "type": SHELF_AUDITED,
    "dataschema": DATA_SCHEMAS[SHELF_AUDITED],
    "subject": "store-17/cam-2/0815.jpg",
    "store": "store-17",
    "camera": "cam-2",
}
DATA = json.loads((EVENTS / "shelf_audited_data.json").read_text())
REJECTED = json.loads((EVENTS / "image_rejected_data.json").read_text())
GAP = DATA["gaps"][0]
DOUBTS = [{"code": code, "detail": "…"} for code in ("blurred", "dark")]
FACTS = {
    "type": ("String", SHELF_AUDITED),
    "source": ("String", "urn:shelfwatch:s3:shelves"),
    "store": ("String", "store-17"),
    "camera": ("String", "cam-2"),
    "count": ("Number", "1"),
    "gaps": ("Number", "2"),
    "fill_rate": ("Number", "0.84"),
    "warnings": ("Number", "0"),
    "revision": ("String", "detector-00003"),
}


def audited(**changes: object) -> CloudEvent:
    """An audit with changes: of the envelope where it has such a field, else of the data."""
    envelope = {name: str(changes.pop(name, value)) for name, value in ENVELOPE.items()}
    return new_event(envelope, {**DATA, **changes})


def rejected(**changes: str) -> CloudEvent:
    kind = {"type": IMAGE_REJECTED, "dataschema": DATA_SCHEMAS[IMAGE_REJECTED]}
    return new_event({**ENVELOPE, **kind, **changes}, REJECTED)


@pytest.mark.parametrize(
    ("data", "missing"),
    [
        pytest.param({}, {"count", "gaps", "fill_rate", "warnings", "revision"}, id="empty"),
        pytest.param(DATA, set(), id="full"),
        pytest.param({**DATA, "gaps": []}, set(), id="no-gaps"),
        pytest.param({**DATA, "warnings": DOUBTS}, set(), id="doubtful"),
        pytest.param({**DATA, "fill_rate": None}, {"fill_rate"}, id="no-rows"),
        pytest.param(
            {**DATA, "model": {"name": "shelf-yolo11n", "revision": ""}}, {"revision"}, id="local"
        ),
    ],
)
def test_attributes_are_numbers_and_strings_and_never_empty(
    data: dict[str, Any], missing: set[str]
) -> None:
    attributes = attributes_of(new_event(ENVELOPE, data))
    expected = {name: fact for name, fact in FACTS.items() if name not in missing}
    for name in {"gaps", "warnings"} & set(data):
        expected[name] = ("Number", str(len(data[name])))
    assert len(attributes) <= MAX_ATTRIBUTES
    assert {
        name: (value["DataType"], value["StringValue"]) for name, value in attributes.items()
    } == expected


def test_a_rejection_can_be_filtered_by_its_reason() -> None:
    attributes = attributes_of(rejected())
    assert set(attributes) == {"type", "source", "store", "camera", "reason"}
    assert attributes["reason"]["StringValue"] == "urn:shelfwatch:problem:image-corrupt"


def test_everything_at_once_is_not_more_than_sns_delivers_raw() -> None:
    """With an eleventh attribute a queue with raw delivery would get nothing, without a word."""
    assert len(attributes_of(new_event(ENVELOPE, {**DATA, **REJECTED}))) == MAX_ATTRIBUTES


@pytest.mark.parametrize(
    ("store", "kept"),
    [
        ("café 日本", "café 日本"),
        ("a\x01b", "a%01b"),
        ("a\nb", "a%0Ab"),
        ("\u3000渋谷\u00a0店", "\u3000渋谷\u00a0店"),  # blanks of other scripts
        ("क्\u200dष", "क्\u200dष"),  # a joiner, without which the word is another
        ("\N{WOMAN}\u200d\N{SHOPPING TROLLEY}", "\N{WOMAN}\u200d\N{SHOPPING TROLLEY}"),
        ("\ue000", "\ue000"),  # private use
        ("a\ufffe\U0010ffff", "a%EF%BF%BE%F4%8F%BF%BF"),  # no characters
        ("\ufdd0", "%EF%B7%90"),
        (" ", " "),
    ],
)
def test_whatever_a_key_holds_becomes_an_attribute_that_sns_takes(
    aws: Aws, store: str, kept: str
) -> None:
    event = audited(store=store, model={**DATA["model"], "revision": store})
    attributes = attributes_of(event)
    assert attributes["store"]["StringValue"] == attributes["revision"]["StringValue"] == kept
    assert publish(event, aws.sns, aws.resources.topic_arn)
    (got,) = received(aws, aws.resources.subscriber_url)
    assert got["store"] == kept


def received(aws: Aws, queue_url: str) -> list[dict[str, Any]]:
    """Take what is there: the emulators deliver before they answer the publish."""
    bodies = []
    while answer := aws.sqs.receive_message(
        QueueUrl=queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=0
    ).get("Messages"):
        bodies += [json.loads(message["Body"]) for message in answer]
    return bodies


def test_a_subscriber_gets_the_whole_event(aws: Aws) -> None:
    assert publish(audited(), aws.sns, aws.resources.topic_arn)
    (got,) = received(aws, aws.resources.subscriber_url)
    assert got.pop("data") == DATA
    assert got == {**ENVELOPE, "specversion": "1.0", "datacontenttype": "application/json"} | {
        "time": got["time"]
    }


def test_without_raw_delivery_the_event_is_the_message_inside(aws: Aws) -> None:
    url = aws.sqs.create_queue(QueueName=f"{aws.resources.bucket}-wrapped")["QueueUrl"]
    aws.sns.subscribe(
        TopicArn=aws.resources.topic_arn, Protocol="sqs", Endpoint=queue_arn(aws.sqs, url)
    )
    event = audited()
    publish(event, aws.sns, aws.resources.topic_arn)
    (wrapper,) = received(aws, url)
    assert json.loads(str(wrapper["Message"])) == json.loads(to_json(event))
    assert wrapper["MessageAttributes"]["gaps"] == {"Type": "Number", "Value": "2"}


def test_a_large_event_leaves_its_data_behind(aws: Aws) -> None:
    event = audited(detections=DATA["detections"] * 700)
    assert len(to_json(event)) > MAX_EVENT_BYTES
    publish(event, aws.sns, aws.resources.topic_arn, "s3://results/results/0.json")
    publish(event, aws.sns, aws.resources.topic_arn)
    got = received(aws, aws.resources.subscriber_url)
    without, whole = sorted(got, key=lambda one: "data" in one)
    assert without["dataref"] == "s3://results/results/0.json"
    assert "data" not in without
    assert {name: without[name] for name in ENVELOPE} == ENVELOPE
    assert "dataref" not in whole
    assert whole["data"] == data_of(event)


@pytest.mark.parametrize(("over", "field"), [(0, "data"), (1, "dataref")])
def test_the_limit_is_64_kib_of_the_whole_event(aws: Aws, over: int, field: str) -> None:
    length = MAX_EVENT_BYTES - len(to_json(audited(subject="x"))) + 1
    event = audited(subject="x" * (length + over))
    assert len(to_json(event)) == MAX_EVENT_BYTES + over
    publish(event, aws.sns, aws.resources.topic_arn, "s3://results/results/0.json")
    (got,) = received(aws, aws.resources.subscriber_url)
    assert {"data", "dataref"} & set(got) == {field}


def subscribe_to(aws: Aws, name: str, policy: dict[str, object]) -> str:
    """Subscribe a queue that gets what the filter policy lets through."""
    name = f"{aws.resources.bucket}-{name}"
    queue_url = subscribe(aws.sqs, aws.sns, aws.resources.topic_arn, name)
    found = aws.sns.list_subscriptions_by_topic(TopicArn=aws.resources.topic_arn)
    (arn,) = (
        one["SubscriptionArn"] for one in found["Subscriptions"] if one["Endpoint"].endswith(name)
    )
    aws.sns.set_subscription_attributes(
        SubscriptionArn=arn, AttributeName="FilterPolicy", AttributeValue=json.dumps(policy)
    )
    return queue_url


def test_subscribers_get_what_their_filter_policies_ask_for(aws: Aws) -> None:
    policies: dict[str, tuple[dict[str, object], set[str]]] = {
        "gaps-of-17": ({"store": ["store-17"], "gaps": [{"numeric": [">", 0]}]}, {"17-gap"}),
        "many-gaps": ({"gaps": [{"numeric": [">=", 2]}]}, {"2-gaps"}),
        "full": ({"fill_rate": [{"numeric": [">", 0.9]}]}, {"17-full"}),
        "corrupt": ({"reason": ["urn:shelfwatch:problem:image-corrupt"]}, {"17-corrupt"}),
        "audits": ({"type": [SHELF_AUDITED]}, {"17-gap", "17-full", "2-gaps"}),
        "sure": ({"warnings": [{"numeric": ["=", 0]}]}, {"17-gap", "2-gaps"}),
        "revision": ({"revision": ["detector-00004"]}, {"2-gaps"}),
    }
    urls = {name: subscribe_to(aws, name, policy) for name, (policy, _) in policies.items()}
    model = {**DATA["model"], "revision": "detector-00004"}
    for event in (
        audited(id="17-gap", gaps=[GAP]),
        audited(id="17-full", gaps=[], fill_rate=0.95, warnings=DOUBTS),
        audited(id="2-gaps", store="store-2", gaps=[GAP] * 10, model=model),
        rejected(id="17-corrupt"),
    ):
        publish(event, aws.sns, aws.resources.topic_arn)
    got = {name: {event["id"] for event in received(aws, url)} for name, url in urls.items()}
    assert got == {name: ids for name, (_, ids) in policies.items()}


def test_the_examples_fit_the_schemas() -> None:
    validate(SHELF_AUDITED, DATA)
    validate(IMAGE_REJECTED, REJECTED)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a b+c&d=e%f",
        "%25 %2B+%20",
        "".join(map(chr, range(128))),
        "äß€😀 ~",
        '{"xyxy": [1.5, -2e3]}',
    ],
)
def test_the_message_is_encoded_as_botocore_would(text: str) -> None:
    settings = BotoConfig(region_name="us-east-1")
    session = boto3.Session(aws_access_key_id="AKID", aws_secret_access_key="secret")
    ours = about_to_send(make_client(session, settings), text)
    theirs = about_to_send(session.client("sns", config=settings), text)
    assert ours[0] == theirs[0]
    assert ours == theirs
    assert dict(parse_qsl(ours[0].decode(), keep_blank_values=True))["Message"] == text


def about_to_send(sns: SNSClient, text: str) -> tuple[bytes, str, str]:
    """Have a client publish, and stop it where it would connect: body, its type and length."""
    sent: list[tuple[bytes, str, str]] = []

    def stop(request: AWSPreparedRequest, **_: object) -> None:
        body = request.body.encode() if isinstance(request.body, str) else request.body
        assert isinstance(body, bytes)
        sent.append((body, request.headers["Content-Type"], request.headers["Content-Length"]))
        raise Stopped

    sns.meta.events.register("before-send.sns.Publish", stop)
    with pytest.raises(Stopped):
        sns.publish(
            TopicArn="arn:aws:sns:us-east-1:000000000000:shelves",
            Message=text,
            MessageAttributes={"store": {"DataType": "String", "StringValue": "é & ü"}},
        )
    return sent[0]


class Stopped(Exception):
    """Nothing is sent."""
