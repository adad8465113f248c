"""What the code expects of AWS and no other test shows, asked of both emulators.

Where one cannot do it, GAPS in conftest.py says so; the entry fails when the gap has closed.
"""

import importlib
import json
import uuid
from typing import Any

import pytest
from botocore.exceptions import ClientError
from conftest import CONTRACT, GAPS, Aws, queue_state
from notifications import events_from_body

from events.s3_notification import object_from_event
from events.sqs import queue_arn
from local.aws import MAX_RECEIVE_COUNT, subscribe

KEY = "store-17/cam-2/café + bar.jpg"


def receive(aws: Aws, url: str = "", **how: object) -> list[dict[str, Any]]:
    answer = aws.sqs.receive_message(
        QueueUrl=url or aws.resources.queue_url,
        MaxNumberOfMessages=10,
        MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
        MessageAttributeNames=["All"],
        **how,
    )
    found: list[dict[str, object]] = answer.get("Messages", [])
    return found


def send(aws: Aws, body: str = "hello") -> None:
    aws.sqs.send_message(QueueUrl=aws.resources.queue_url, MessageBody=body)


def status_of(error: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    answer = error.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def test_a_bucket_announces_its_rule_and_then_its_objects(aws: Aws) -> None:
    url = aws.sqs.create_queue(QueueName=f"{aws.resources.bucket}-rule")["QueueUrl"]
    rule = {"QueueArn": queue_arn(aws.sqs, url), "Events": ["s3:ObjectCreated:*"]}
    aws.s3.put_bucket_notification_configuration(
        Bucket=aws.resources.bucket, NotificationConfiguration={"QueueConfigurations": [rule]}
    )
    aws.s3.put_object(Bucket=aws.resources.bucket, Key=KEY, Body=b"photo")
    aws.s3.delete_object(Bucket=aws.resources.bucket, Key=KEY)
    items = [events_from_body(str(message["Body"])) for message in receive(aws, url)]
    assert sorted(map(len, items)) == [0, 1]
    (event,) = (event for events in items for event in events)
    found = object_from_event(event)
    assert (found.bucket, found.key, found.size) == (aws.resources.bucket, KEY, 5)


def test_a_copy_and_a_multipart_upload_are_creations(aws: Aws) -> None:
    bucket = aws.resources.bucket
    aws.s3.put_object(Bucket=bucket, Key="a.jpg", Body=b"photo")
    aws.s3.copy_object(Bucket=bucket, Key="b.jpg", CopySource={"Bucket": bucket, "Key": "a.jpg"})
    upload = {"Bucket": bucket, "Key": "c.jpg"}
    upload["UploadId"] = aws.s3.create_multipart_upload(**upload)["UploadId"]
    part = aws.s3.upload_part(**upload, PartNumber=1, Body=b"photo")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    aws.s3.complete_multipart_upload(**upload, MultipartUpload=parts)
    events = [event for one in receive(aws) for event in events_from_body(str(one["Body"]))]
    assert {object_from_event(event).key for event in events} == {"a.jpg", "b.jpg", "c.jpg"}


def test_the_version_that_was_announced_can_be_read(aws: Aws) -> None:
    bucket = aws.resources.bucket
    first = aws.s3.put_object(Bucket=bucket, Key=KEY, Body=b"first")
    aws.s3.put_object(Bucket=bucket, Key=KEY, Body=b"second")
    answer = aws.s3.get_object(Bucket=bucket, Key=KEY, VersionId=first["VersionId"])
    assert answer["Body"].read() == b"first"
    with pytest.raises(ClientError) as other:
        aws.s3.get_object(Bucket=bucket, Key=KEY, IfMatch=first["ETag"])
    assert status_of(other)[0] == 412


def test_what_is_gone_is_told_from_a_bucket_that_is_missing(aws: Aws) -> None:
    with pytest.raises(ClientError) as gone:
        aws.s3.get_object(Bucket=aws.resources.bucket, Key=KEY)
    assert status_of(gone) == (404, "NoSuchKey")
    with pytest.raises(ClientError) as missing:
        aws.s3.get_object(Bucket=f"{aws.resources.bucket}-missing", Key=KEY)
    assert status_of(missing) == (404, "NoSuchBucket")


def test_a_lease_hides_a_message_till_it_is_given_back(aws: Aws) -> None:
    send(aws)
    (message,) = receive(aws, VisibilityTimeout=60)
    assert (receive(aws), queue_state(aws)) == ([], (0, 1))
    aws.sqs.change_message_visibility(
        QueueUrl=aws.resources.queue_url,
        ReceiptHandle=message["ReceiptHandle"],
        VisibilityTimeout=0,
    )
    (again,) = receive(aws)
    assert again["MessageId"] == message["MessageId"]
    assert [one["Attributes"]["ApproximateReceiveCount"] for one in (message, again)] == ["1", "2"]


def test_a_batch_answers_200_with_failures_inside(aws: Aws) -> None:
    send(aws)
    (message,) = receive(aws)
    handles = [str(message["ReceiptHandle"]), "no handle"]
    answer = aws.sqs.delete_message_batch(
        QueueUrl=aws.resources.queue_url,
        Entries=[{"Id": str(i), "ReceiptHandle": handle} for i, handle in enumerate(handles)],
    )
    assert [entry["Id"] for entry in answer["Successful"]] == ["0"]
    assert [entry["Id"] for entry in answer["Failed"]] == ["1"]


def test_after_the_last_receive_a_message_is_moved_and_nothing_says_why(aws: Aws) -> None:
    send(aws)
    for _ in range(MAX_RECEIVE_COUNT):
        (message,) = receive(aws, VisibilityTimeout=0)
    assert receive(aws) == []
    (moved,) = receive(aws, aws.resources.dlq_url)
    assert (moved["MessageId"], moved["Body"]) == (message["MessageId"], "hello")
    assert "MessageAttributes" not in moved


def test_an_event_that_is_too_large_for_the_topic_is_an_error(aws: Aws) -> None:
    """So that it is tried again and ends as a dead letter, and is not dropped."""
    with pytest.raises(ClientError) as error:
        aws.sns.publish(TopicArn=aws.resources.topic_arn, Message="x" * (256 * 1024 + 1))
    assert status_of(error)[0] == 400


def test_a_topic_that_is_missing_is_an_error(aws: Aws) -> None:
    with pytest.raises(ClientError) as error:
        aws.sns.publish(TopicArn=f"{aws.resources.topic_arn}-missing", Message="x")
    assert status_of(error)[0] == 404


def test_raw_delivery_drops_an_event_with_eleven_attributes(aws: Aws) -> None:
    """The reason for MAX_ATTRIBUTES: the account drops it without a word."""
    attribute = {"DataType": "String", "StringValue": "x"}
    aws.sns.publish(
        TopicArn=aws.resources.topic_arn,
        Message="{}",
        MessageAttributes={f"a{number}": attribute for number in range(11)},
    )
    assert receive(aws, aws.resources.subscriber_url) == []


def test_a_queue_takes_nothing_that_its_policy_does_not_allow(aws: Aws) -> None:
    name = f"closed-{uuid.uuid4().hex[:12]}"
    url = subscribe(aws.sqs, aws.sns, aws.resources.topic_arn, name)
    aws.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": ""})
    aws.sns.publish(TopicArn=aws.resources.topic_arn, Message=json.dumps({}))
    assert receive(aws, url) == []


def test_every_gap_names_a_test() -> None:
    tests = {name for module in CONTRACT for name in vars(importlib.import_module(module))}
    assert {test for _, test in GAPS} <= tests
