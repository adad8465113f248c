"""A copy in the dead-letter queue is the message itself and says why it is there."""

from datetime import datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError
from conftest import Aws, queue_depth

from events.source.dead_letters import DETAIL_CHARACTERS, DeadLetters, Letter
from events.types import Reason

MESSAGE: Any = {
    "MessageId": "b5e1",
    "ReceiptHandle": "handle",
    "Body": '{"Records": [{"key": "café + bar.jpg"}]}',
    "Attributes": {"ApproximateReceiveCount": "7"},
}


def copied(aws: Aws, reason: Reason, detail: str) -> dict[str, str]:
    letter = Letter(body=str(MESSAGE["Body"]), reason=reason, detail=detail)
    DeadLetters(aws.sqs, aws.resources.dlq_url).copy(MESSAGE, letter)
    (message,) = aws.sqs.receive_message(
        QueueUrl=aws.resources.dlq_url, MessageAttributeNames=["All"]
    )["Messages"]
    assert message["Body"] == MESSAGE["Body"]
    attributes = message["MessageAttributes"]
    assert {attribute["DataType"] for attribute in attributes.values()} == {"String"}
    return {name: attribute["StringValue"] for name, attribute in attributes.items()}


@pytest.mark.parametrize("reason", Reason)
def test_a_copy_names_reason_source_and_time(aws: Aws, reason: Reason) -> None:
    facts = copied(aws, reason, "HTTP 422")
    assert datetime.fromisoformat(facts.pop("given_up_at")).tzinfo is not None
    assert facts == {
        "reason": reason.value,
        "detail": "HTTP 422",
        "source_message_id": "b5e1",
        "receive_count": "7",
    }


@pytest.mark.parametrize(
    ("detail", "kept"),
    [("", "-"), ("a\x00b\n", "a%00b%0A"), ("x" * 1000, "x" * DETAIL_CHARACTERS)],
)
def test_a_detail_is_made_fit_for_sqs(aws: Aws, detail: str, kept: str) -> None:
    assert copied(aws, Reason.REFUSED, detail)["detail"] == kept


def test_a_copy_that_failed_is_told(aws: Aws) -> None:
    letters = DeadLetters(aws.sqs, aws.resources.dlq_url + "-gone")
    letter = Letter(body="hello", reason=Reason.REFUSED, detail="HTTP 422")
    with pytest.raises(ClientError):
        letters.copy(MESSAGE, letter)
    assert queue_depth(aws, aws.resources.dlq_url) == 0
