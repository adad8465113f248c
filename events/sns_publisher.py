"""Events to an SNS topic: the body is the whole event, the attributes are copies to filter by."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote_plus

from cloudevents.core.v1.event import CloudEvent

from events.codec import attribute_text, data_of, new_event, to_json

if TYPE_CHECKING:
    import boto3
    from botocore.config import Config as BotoConfig
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sns.type_defs import MessageAttributeValueTypeDef

# CloudEvents asks intermediaries to carry 64 KiB; above it the data stays behind in S3.
# https://github.com/cloudevents/spec/blob/main/cloudevents/spec.md#size-limits
MAX_EVENT_BYTES = 64 * 1024
# With raw delivery to SQS, a message with more attributes is dropped without a word.
# https://docs.aws.amazon.com/sns/latest/dg/sns-message-attributes.html
MAX_ATTRIBUTES = 10
# What a form percent-encodes of ASCII, as `quote_plus` does it: the sign of a code first, and last
# the space, which becomes a plus.
FORM_CODES = {
    character: quote_plus(character)
    for character in ["%", *sorted(set(map(chr, range(128))) - {"%", " "}), " "]
    if quote_plus(character) != character
}


def make_client(session: boto3.Session, settings: BotoConfig) -> SNSClient:
    """Make a client of SNS that encodes what it publishes once, and in C.

    SNS takes forms. botocore encodes a form twice, to sign it and to send it, each byte in Python:
    for an event of 8 kB that is more than all the rest of a call.
    https://docs.aws.amazon.com/boto3/latest/guide/events.html describes the hook.
    """
    sns: SNSClient = session.client("sns", config=settings)
    sns.meta.events.register("before-call.sns.Publish", _encode_form)
    return sns


def _encode_form(params: dict[str, dict[str, str] | str], **_: object) -> None:
    form = params["body"]
    assert isinstance(form, dict)
    params["body"] = "&".join(f"{name}={_form_text(value)}" for name, value in form.items())


def _form_text(text: str) -> str:
    if not text.isascii():
        return quote_plus(text)
    for character, code in FORM_CODES.items():
        if character in text:  # with this a quarter of the time of one `translate`
            text = text.replace(character, code)
    return text


def publish(event: CloudEvent, sns: SNSClient, topic_arn: str, data_uri: str = "") -> str:
    """Publish one event and return SNS's message id.

    An event over 64 KiB goes without its data and with `dataref` = `data_uri`, where that is set
    (CloudEvents claim check). Raises botocore's errors.
    """
    body = to_json(event)
    if data_uri and len(body) > MAX_EVENT_BYTES:
        body = to_json(_claim_check(event, data_uri))
    answer = sns.publish(
        TopicArn=topic_arn, Message=body.decode(), MessageAttributes=attributes_of(event)
    )
    return answer["MessageId"]


def _claim_check(event: CloudEvent, data_uri: str) -> CloudEvent:
    attributes = {k: v for k, v in event.get_attributes().items() if k != "datacontenttype"}
    return new_event({**attributes, "dataref": data_uri}, None)


def attributes_of(event: CloudEvent) -> dict[str, MessageAttributeValueTypeDef]:
    """Choose what a subscriber can filter by: where, what, how many, or why not.

    At most ten, none empty, and none that SNS would refuse the event for: what a text may not hold
    is percent-encoded, as in the event's own attributes.
    """
    data = data_of(event)
    model, reason, compliance = (data.get(key) for key in ("model", "reason", "compliance"))
    gaps, warnings = data.get("gaps"), data.get("warnings")
    facts: dict[str, object] = {
        "type": event.get_type(),
        "source": event.get_source(),
        "store": event.get_extension("store"),
        "camera": event.get_extension("camera"),
        "view": event.get_extension("view"),
        "minutes": data.get("minutes"),
        "count": data.get("count"),
        "gaps": len(gaps) if isinstance(gaps, list) else None,
        "fill_rate": data.get("fill_rate"),
        "warnings": len(warnings) if isinstance(warnings, list) else None,
    }
    if isinstance(model, dict):
        facts["revision"] = model.get("revision")
    if isinstance(compliance, dict):
        facts["compliance"] = compliance.get("rate")
    gap = data.get("gap")
    if isinstance(gap, dict):
        facts |= {"row": gap.get("row"), "facings": gap.get("facings")}
    if isinstance(reason, dict):
        facts["reason"] = reason.get("type")
    attributes = {
        name: _attribute(value)
        for name, value in facts.items()
        if value is not None and value != ""
    }
    assert len(attributes) <= MAX_ATTRIBUTES
    return attributes


def _attribute(value: object) -> MessageAttributeValueTypeDef:
    if isinstance(value, int | float):
        return {"DataType": "Number", "StringValue": str(value)}
    return {"DataType": "String", "StringValue": attribute_text(str(value))}
