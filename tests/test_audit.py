"""One image event: what is published, what is stored, and what is left for the next delivery."""

import io
import json
import urllib.parse
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import quote_plus

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
)
from botocore.response import StreamingBody
from cloudevents.core.v1.event import CloudEvent
from conftest import GOOD_SAMPLE, Aws
from notifications import events_from_body

from events.codec import InvalidEvent, data_of, new_event, to_json
from events.outbox import Outbox
from events.repair.photos import photos
from events.s3_notification import S3Object, object_from_event, object_id
from events.sns_publisher import MAX_ATTRIBUTES, attributes_of
from events.trace import TraceContext, traced
from events.types import IMAGE_REJECTED, OUR_PREFIXES, RECEIVE_COUNT, SHELF_AUDITED
from function.audit import Auditor
from function.detections import Thresholds
from function.detector import Detector
from function.errors import (
    BucketForbidden,
    CredentialsRefused,
    DependencyFailed,
    ImageArchived,
    ImageTooLarge,
    NotReady,
)
from function.image import MAX_IMAGE_BYTES
from function.metrics import Metrics
from function.reference import MAX_REFERENCE_BYTES
from function.result import Rejection, Result
from function.s3 import OpenObject, failure_of

KEY = "store-17/cam-2/café + bar.jpg"


@pytest.fixture
def auditor(aws: Aws, detector: Detector) -> Auditor:
    return Auditor(
        detector=detector,
        thresholds=Thresholds(),
        metrics=Metrics(),
        s3=aws.s3,
        buckets=frozenset({aws.resources.bucket}),
        outbox=Outbox(aws.s3, aws.resources.results_bucket),
        sns=aws.sns,
        topic_arn=aws.resources.topic_arn,
    )


def uploaded(aws: Aws, data: bytes, key: str = KEY) -> CloudEvent:
    """Put an object into the bucket and return the event that S3's notification becomes."""
    aws.s3.put_object(Bucket=aws.resources.bucket, Key=key, Body=data)
    while True:
        answer = aws.sqs.receive_message(QueueUrl=aws.resources.queue_url, WaitTimeSeconds=2)
        for message in answer["Messages"]:
            for event in events_from_body(message["Body"]):
                if event.get_subject() == key:
                    return event


def received(event: CloudEvent, times: int) -> CloudEvent:
    """The event as the source sends it after so many receives; as others do after none."""
    count = {RECEIVE_COUNT: times} if times else {}
    return new_event({**event.get_attributes(), **count}, data_of(event))


# S3 and SQS may announce a photo twice: then a second message is received for the first time, too.
RECEIVED = pytest.mark.parametrize("times", [0, 1, 2])


def published(aws: Aws) -> list[dict[str, Any]]:
    """Take the events that reached the topic."""
    events: list[dict[str, Any]] = []
    while True:
        answer = aws.sqs.receive_message(
            QueueUrl=aws.resources.subscriber_url, MaxNumberOfMessages=10
        )
        if not answer.get("Messages"):
            return events
        for message in answer["Messages"]:
            events.append(json.loads(message["Body"]))
            aws.sqs.delete_message(
                QueueUrl=aws.resources.subscriber_url, ReceiptHandle=message["ReceiptHandle"]
            )


def stored(aws: Aws, name: object) -> dict[str, object]:
    answer = aws.s3.get_object(Bucket=aws.resources.results_bucket, Key=f"results/{name}.json")
    data: dict[str, object] = json.loads(answer["Body"].read())
    return data


class Endless(io.RawIOBase):
    """A body whose length nobody tells, and that does not end."""

    def read(self, size: int | None = -1, /) -> bytes:
        assert size is not None
        assert 0 < size <= MAX_IMAGE_BYTES + 1
        return bytes(size)


def test_an_object_of_untold_length_is_read_no_further_than_allowed() -> None:
    body = StreamingBody(Endless(), None)  # type: ignore[arg-type]  # botocore gives it, too
    opened = OpenObject(S3Object(bucket="shelves", key="a.jpg"), body, 0)
    with pytest.raises(ImageTooLarge, match=f"at most {MAX_IMAGE_BYTES} bytes, got more"):
        opened.read()


def test_an_uploaded_shelf_is_audited_stored_and_published(aws: Aws, auditor: Auditor) -> None:
    event = uploaded(aws, GOOD_SAMPLE.read_bytes())
    audited = auditor.audit_event(event)
    (got,) = published(aws)
    data = got["data"]
    assert audited is not None
    assert data == data_of(audited) == stored(aws, got["id"])
    assert data["count"] > 50
    assert data["image"]["uri"] == f"s3://{aws.resources.bucket}/{KEY}"
    assert got["type"] == SHELF_AUDITED
    assert got["id"] == event.get_id()
    assert got["source"] == f"urn:shelfwatch:s3:{aws.resources.bucket}"
    assert (got["subject"], got["store"], got["camera"]) == (KEY, "store-17", "cam-2")
    assert audited.get_time() == event.get_time()


@pytest.mark.parametrize(
    ("data", "slug"),
    [
        pytest.param(b"", "image-empty", id="empty"),
        pytest.param(b"<html>", "image-unsupported", id="html"),
        pytest.param(GOOD_SAMPLE.read_bytes()[:9000], "image-corrupt", id="cut"),
        pytest.param(b"\0" * (MAX_IMAGE_BYTES + 1), "image-too-large", id="large"),
    ],
)
def test_an_image_that_can_never_be_read_is_rejected(
    aws: Aws, auditor: Auditor, data: bytes, slug: str
) -> None:
    event = uploaded(aws, data)
    auditor.audit_event(event)
    (got,) = published(aws)
    assert got["type"] == IMAGE_REJECTED
    assert got["id"] == event.get_id()
    assert got["data"]["reason"]["type"] == f"urn:shelfwatch:problem:{slug}"
    assert got["data"]["image"] == {
        "uri": f"s3://{aws.resources.bucket}/{KEY}",
        "bytes": len(data),
    }
    assert got["data"] == stored(aws, got["id"])


def test_an_image_that_is_gone_is_rejected(aws: Aws, auditor: Auditor) -> None:
    event = uploaded(aws, GOOD_SAMPLE.read_bytes())
    record: Any = data_of(event)
    version = record["s3"]["object"]["versionId"]
    aws.s3.delete_object(Bucket=aws.resources.bucket, Key=KEY, VersionId=version)
    auditor.audit_event(event)
    (got,) = published(aws)
    assert got["type"] == IMAGE_REJECTED
    assert got["data"]["reason"]["type"] == "urn:shelfwatch:problem:image-gone"


def test_the_announced_version_is_read_and_not_the_newest(aws: Aws, auditor: Auditor) -> None:
    first = uploaded(aws, GOOD_SAMPLE.read_bytes())
    second = uploaded(aws, b"no image")
    auditor.audit_event(first)
    auditor.audit_event(second)
    audited, rejected = published(aws)
    assert (audited["type"], rejected["type"]) == (SHELF_AUDITED, IMAGE_REJECTED)
    assert audited["id"] != rejected["id"]


def test_without_versions_other_content_is_not_what_was_announced(
    aws: Aws, auditor: Auditor
) -> None:
    aws.s3.put_bucket_versioning(
        Bucket=aws.resources.bucket, VersioningConfiguration={"Status": "Suspended"}
    )
    first, second = uploaded(aws, GOOD_SAMPLE.read_bytes()), uploaded(aws, b"no image")
    auditor.audit_event(first)
    auditor.audit_event(second)
    reasons = [event["data"]["reason"]["type"].split(":")[-1] for event in published(aws)]
    assert reasons == ["image-gone", "image-unsupported"]


def test_without_versions_an_absence_answers_for_no_photo_that_comes_later(
    aws: Aws, auditor: Auditor
) -> None:
    """Announced early, or deleted and put anew with the same bytes: the id would be the same."""
    aws.s3.put_bucket_versioning(
        Bucket=aws.resources.bucket, VersioningConfiguration={"Status": "Suspended"}
    )
    early = uploaded(aws, GOOD_SAMPLE.read_bytes())
    aws.s3.delete_object(Bucket=aws.resources.bucket, Key=KEY)
    auditor.audit_event(early)
    auditor.audit_event(early)
    (gone,) = published(aws)
    assert gone["data"]["reason"]["type"] == "urn:shelfwatch:problem:image-gone"
    again = uploaded(aws, GOOD_SAMPLE.read_bytes())
    auditor.audit_event(again)
    auditor.audit_event(early)
    (audited,) = published(aws)
    assert (audited["type"], audited["id"]) == (SHELF_AUDITED, again.get_id())
    assert early.get_id() == again.get_id() != gone["id"]


def test_an_image_that_was_cut_on_the_way_is_not_rejected(aws: Aws, auditor: Auditor) -> None:
    event = uploaded(aws, GOOD_SAMPLE.read_bytes())
    record: Any = data_of(event)
    record["s3"]["object"]["size"] += 1
    with pytest.raises(DependencyFailed, match="bytes"):
        auditor.audit_event(event)
    assert published(aws) == []


def test_equal_causes_give_equal_envelopes_whatever_the_source_says(
    aws: Aws, auditor: Auditor
) -> None:
    """Another source put an id of its own and no time on the same record."""
    event = uploaded(aws, GOOD_SAMPLE.read_bytes())
    attributes = {"id": "other", "source": "other", "type": event.get_type()}
    first = auditor.audit_event(event)
    second = auditor.audit_event(new_event(attributes, data_of(event)))
    assert first is not None
    assert second is not None
    assert first.get_attributes() == second.get_attributes()


@RECEIVED
def test_a_redelivery_publishes_nothing_new(aws: Aws, auditor: Auditor, times: int) -> None:
    event = received(uploaded(aws, GOOD_SAMPLE.read_bytes()), times)
    first, again = auditor.audit_event(event), auditor.audit_event(event)
    assert first is not None
    assert again is not None
    assert data_of(first) == data_of(again)
    assert len(published(aws)) == 1


@RECEIVED
def test_a_crash_before_the_publish_repeats_only_the_publish(
    aws: Aws, auditor: Auditor, times: int
) -> None:
    """The stored result is published, also by a model that finds less."""
    event = received(uploaded(aws, GOOD_SAMPLE.read_bytes()), times)
    no_topic = replace(auditor, sns=None)
    no_topic.audit_event(event)
    assert published(aws) == []
    stricter = replace(auditor, thresholds=Thresholds(confidence=0.99))
    stricter.audit_event(event)
    (got,) = published(aws)
    assert got["data"] == stored(aws, event.get_id())
    assert got["data"]["thresholds"]["confidence"] == 0.25


@RECEIVED
def test_a_photo_that_went_after_its_audit_keeps_it(aws: Aws, auditor: Auditor, times: int) -> None:
    event = received(uploaded(aws, GOOD_SAMPLE.read_bytes()), times)
    auditor.audit_event(event)
    aws.s3.delete_object(
        Bucket=aws.resources.bucket, Key=KEY, VersionId=object_from_event(event).version_id
    )
    again = auditor.audit_event(event)
    assert again is not None
    assert again.get_type() == SHELF_AUDITED
    assert len(published(aws)) == 1


@pytest.mark.parametrize(("times", "asked"), [(0, 5), (1, 4), (2, 5)])
def test_a_photo_costs_four_calls_when_it_comes_for_the_first_time(
    aws: Aws, auditor: Auditor, times: int, asked: int
) -> None:
    """Each is two milliseconds of processor: the photo, its result, the topic and its mark."""
    event = received(uploaded(aws, GOOD_SAMPLE.read_bytes()), times)
    calls: list[str] = []
    for client in (aws.s3, aws.sns):
        client.meta.events.register_first(
            "before-call", lambda model, **_: calls.append(model.name), unique_id="counted"
        )
    try:
        auditor.audit_event(event)
    finally:
        for client in (aws.s3, aws.sns):
            client.meta.events.unregister("before-call", unique_id="counted")
    assert len(calls) == asked, calls


def test_without_an_outbox_a_redelivery_repeats_the_id(aws: Aws, auditor: Auditor) -> None:
    event = uploaded(aws, GOOD_SAMPLE.read_bytes())
    forgetful = replace(auditor, outbox=None)
    forgetful.audit_event(event)
    forgetful.audit_event(event)
    first, second = published(aws)
    assert (first["id"], first["source"]) == (second["id"], second["source"])


def test_a_topic_that_is_down_leaves_the_event_for_another_try(aws: Aws, auditor: Auditor) -> None:
    event = uploaded(aws, GOOD_SAMPLE.read_bytes())
    with pytest.raises(DependencyFailed):
        replace(auditor, topic_arn="arn:aws:sns:us-east-1:000000000000:gone").audit_event(event)
    assert published(aws) == []
    auditor.audit_event(event)
    assert len(published(aws)) == 1


def test_a_missing_bucket_is_our_fault_and_not_the_images(aws: Aws, auditor: Auditor) -> None:
    event = uploaded(aws, GOOD_SAMPLE.read_bytes())
    record: Any = data_of(event)
    record["s3"]["bucket"]["name"] = "never-made"
    with pytest.raises(DependencyFailed):
        replace(auditor, buckets=frozenset({"never-made"})).audit_event(event)
    assert published(aws) == []


def test_a_cold_model_rejects_nothing(aws: Aws, auditor: Auditor, detector: Detector) -> None:
    event = uploaded(aws, GOOD_SAMPLE.read_bytes())
    with pytest.raises(NotReady):
        replace(auditor, detector=Detector(detector.session, detector.model)).audit_event(event)
    assert published(aws) == []


def test_only_listed_buckets_are_read(aws: Aws, auditor: Auditor) -> None:
    event = uploaded(aws, GOOD_SAMPLE.read_bytes())
    with pytest.raises(BucketForbidden, match=aws.resources.bucket):
        replace(auditor, buckets=frozenset()).audit_event(event)
    assert published(aws) == []


def test_our_own_results_are_not_audited(aws: Aws, auditor: Auditor) -> None:
    outbox = Outbox(aws.s3, aws.resources.bucket)
    results = replace(auditor, outbox=outbox)
    event = uploaded(aws, b"{}", "results/0.json")
    assert results.audit_event(event) is None
    assert published(aws) == []
    assert urllib.parse.urlsplit(outbox.uri("0")).path == "/results/0.json"


def test_who_loses_the_race_publishes_the_winners_result(
    aws: Aws, auditor: Auditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two deliveries at once, two models: one id must not be published in two versions."""
    event = uploaded(aws, GOOD_SAMPLE.read_bytes())
    winner = replace(auditor, thresholds=Thresholds(confidence=0.9), sns=None)
    outcome = Auditor._outcome

    def overtaken(self: Auditor, opened: OpenObject, uploaded: datetime) -> Result | Rejection:
        if self is auditor:
            winner.audit_event(event)
        return outcome(self, opened, uploaded)

    monkeypatch.setattr(Auditor, "_outcome", overtaken)
    auditor.audit_event(event)
    (got,) = published(aws)
    assert got["data"] == stored(aws, event.get_id())
    assert got["data"]["thresholds"]["confidence"] == 0.9


SLOTS = {"slots": [{"xyxy": [0.0, 0.0, 0.01, 0.01]}, {"xyxy": [0.5, 0.5, 0.51, 0.51]}]}


@pytest.mark.parametrize(
    ("reference", "outcome"),
    [
        pytest.param(None, "absent", id="none"),
        pytest.param(json.dumps(SLOTS), "used", id="planogram"),
        pytest.param("{", "invalid", id="not-json"),
        pytest.param(" " * (MAX_REFERENCE_BYTES + 1), "invalid", id="large"),
    ],
)
def test_a_photo_is_compared_with_the_reference_of_its_folder(
    aws: Aws, auditor: Auditor, reference: str | None, outcome: str
) -> None:
    bucket = aws.resources.results_bucket
    if reference is not None:
        key = "references/store-17/cam-2.json"
        aws.s3.put_object(Bucket=bucket, Key=key, Body=reference.encode())
    comparing = replace(auditor, references_bucket=bucket)
    audited = comparing.audit_event(uploaded(aws, GOOD_SAMPLE.read_bytes()))
    (got,) = published(aws)
    data = got["data"]
    assert audited is not None
    assert got["type"] == SHELF_AUDITED
    attributes = attributes_of(audited)
    if outcome == "used":
        assert data["compliance"]["expected"] == 2
        assert attributes["compliance"] == {"DataType": "Number", "StringValue": "0.0"}
        assert len(attributes) == MAX_ATTRIBUTES - 1  # the tenth is the revision
    else:
        assert "compliance" not in data
        assert "compliance" not in attributes
    counted = comparing.metrics.references.labels(outcome)
    assert counted._value.get() == 1


def test_a_reference_is_no_photo(aws: Aws, auditor: Auditor) -> None:
    comparing = replace(auditor, references_bucket=aws.resources.bucket)
    event = uploaded(aws, b"{}", "references/store-17/cam-2.jpg")
    assert comparing.audit_event(event) is None
    assert published(aws) == []


def plain_bucket(aws: Aws, auditor: Auditor) -> Auditor:
    """A bucket that has never heard of versions."""
    bucket = f"{aws.resources.bucket}-plain"
    aws.s3.create_bucket(Bucket=bucket)
    return replace(auditor, buckets=frozenset({bucket}))


def announced(bucket: str, key: str = KEY, **described: object) -> CloudEvent:
    """A notification that says of the object only what is given."""
    record = {
        "eventVersion": "2.2",
        "eventSource": "ceph:s3",
        "eventTime": "2026-11-22T08:15:00Z",
        "eventName": "ObjectCreated:Put",
        "s3": {"bucket": {"name": bucket}, "object": {"key": quote_plus(key), **described}},
    }
    (event,) = events_from_body(json.dumps({"Records": [record]}))
    return event


def listed(aws: Aws, bucket: str) -> set[str]:
    """The ids that a listing of the bucket gives its objects."""
    return {object_id(photo.s3_object) for page in photos(aws.s3, bucket, "") for photo in page}


@pytest.mark.parametrize("versioned", [True, False])
@pytest.mark.parametrize("described", [{}, {"size": 0}, {"size": "0", "eTag": "half-a-tag"}])
def test_what_a_notification_leaves_out_is_read_from_the_object(
    aws: Aws, auditor: Auditor, described: dict[str, Any], versioned: bool
) -> None:
    """One id, whatever was left out: that of the listing."""
    if not versioned:
        auditor = plain_bucket(aws, auditor)
    (bucket,) = auditor.buckets
    aws.s3.put_object(Bucket=bucket, Key=KEY, Body=GOOD_SAMPLE.read_bytes())
    for event in (announced(bucket, **described), announced(bucket), announced(bucket)):
        auditor.audit_event(event)
    (got,) = published(aws)
    assert got["type"] == SHELF_AUDITED
    assert {got["id"]} == listed(aws, bucket)


def test_a_null_version_is_read_though_others_lie_on_it(aws: Aws, auditor: Auditor) -> None:
    """Uploaded before the bucket's versioning was switched on, and overwritten after."""
    auditor = plain_bucket(aws, auditor)
    (bucket,) = auditor.buckets
    body = GOOD_SAMPLE.read_bytes()
    etag = aws.s3.put_object(Bucket=bucket, Key=KEY, Body=body)["ETag"]
    aws.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    aws.s3.put_object(Bucket=bucket, Key=KEY, Body=b"no image")
    auditor.audit_event(announced(bucket, versionId="null", eTag=etag, size=len(body)))
    (got,) = published(aws)
    assert got["type"] == SHELF_AUDITED
    assert got["id"] in listed(aws, bucket)


def test_what_went_after_it_was_answered_is_not_answered_otherwise(
    aws: Aws, auditor: Auditor
) -> None:
    """The id of the notification and that of the object differ; the second delivery finds none."""
    auditor = plain_bucket(aws, auditor)
    (bucket,) = auditor.buckets
    aws.s3.put_object(Bucket=bucket, Key=KEY, Body=GOOD_SAMPLE.read_bytes())
    assert auditor.audit_event(announced(bucket)) is not None
    aws.s3.delete_object(Bucket=bucket, Key=KEY)
    assert auditor.audit_event(announced(bucket)) is None
    assert [event["type"] for event in published(aws)] == [SHELF_AUDITED]


def test_the_first_deliverys_time_and_trace_are_those_of_all(aws: Aws, auditor: Auditor) -> None:
    """A notification and an EventBridge event of one upload have two times."""
    event = uploaded(aws, GOOD_SAMPLE.read_bytes())
    silent = replace(auditor, sns=None)  # so that both publish
    with traced(TraceContext(trace_id="a" * 32, span_id="b" * 16)):
        first = silent.audit_event(event)
    later = {**data_of(event), "eventTime": "2027-01-01T00:00:00Z"}
    attributes = {"id": "other", "source": "other", "type": event.get_type()}
    with traced(TraceContext(trace_id="c" * 32, span_id="d" * 16)):
        second = silent.audit_event(new_event(attributes, later))
    assert first is not None
    assert second is not None
    assert to_json(first) == to_json(second)
    assert first.get_time() == event.get_time()


@pytest.mark.parametrize("prefix", OUR_PREFIXES)
def test_all_of_ours_is_ignored_and_counted(aws: Aws, auditor: Auditor, prefix: str) -> None:
    outbox = Outbox(aws.s3, aws.resources.bucket)
    results = replace(auditor, outbox=outbox)
    counted = results.metrics.images.labels("ignored")
    assert results.audit_event(announced(aws.resources.bucket, f"{prefix}0")) is None
    assert counted._value.get() == 1
    assert published(aws) == []


# What AWS answers that is no photo's fault, and what the function makes of it.
NOT_THE_PHOTOS = {
    "RequestTimeTooSkewed": (403, CredentialsRefused),
    "ExpiredToken": (400, CredentialsRefused),
    "InvalidAccessKeyId": (403, CredentialsRefused),
    "SignatureDoesNotMatch": (403, CredentialsRefused),
    "AccessDenied": (403, DependencyFailed),  # the bucket's policy, or the key's of KMS
    "KMS.DisabledException": (400, DependencyFailed),
    "NoSuchBucket": (404, DependencyFailed),
    "404": (404, DependencyFailed),  # a proxy's page
    "SlowDown": (503, DependencyFailed),
    "InvalidObjectState": (403, ImageArchived),
}


@pytest.mark.parametrize("code", NOT_THE_PHOTOS)
def test_what_aws_refuses_for_another_reason_is_not_gone(
    aws: Aws, auditor: Auditor, code: str
) -> None:
    status, expected = NOT_THE_PHOTOS[code]
    event = uploaded(aws, GOOD_SAMPLE.read_bytes())

    class Refusing:
        exceptions = aws.s3.exceptions

        def get_object(self, **_: object) -> None:
            error = {"Code": code, "Message": "do not repeat this"}
            answer: Any = {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}
            raise ClientError(answer, "GetObject")

    with pytest.raises(expected) as failure:
        replace(auditor, s3=Refusing()).audit_event(event)  # type: ignore[arg-type]  # a client with one call
    assert expected is ImageArchived or code in str(failure.value)
    assert "repeat" not in str(failure.value)
    assert published(aws) == []
    auditor.audit_event(event)
    assert [got["type"] for got in published(aws)] == [SHELF_AUDITED]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NoCredentialsError(), "there are no credentials"),
        (EndpointConnectionError(endpoint_url="http://s3"), "EndpointConnectionError"),
        (ClientError({"Error": {"Code": "<b>"}}, "Publish"), "an error to Publish"),
        (ClientError({"Error": {"Code": "KMSAccessDenied"}}, "Publish"), "KMSAccessDenied to"),
    ],
)
def test_a_failure_is_named_by_a_code_and_nothing_else(
    error: ClientError | BotoCoreError, words: str
) -> None:
    assert words in str(failure_of(error))
    assert "http:" not in str(failure_of(error))


def test_one_bad_event_keeps_no_other_from_being_audited(aws: Aws, auditor: Auditor) -> None:
    good = [uploaded(aws, GOOD_SAMPLE.read_bytes(), f"{name}.jpg") for name in "ab"]
    forbidden = announced("another-bucket")
    with pytest.raises(BucketForbidden):
        auditor.audit_events([forbidden, good[1]])
    with pytest.raises(InvalidEvent, match="odd"):
        auditor.audit_events([good[0], InvalidEvent("odd"), forbidden, good[1]])
    assert sorted(str(event["subject"]) for event in published(aws)) == ["a.jpg", "b.jpg"]


def test_of_a_batch_what_may_yet_succeed_is_told_first(aws: Aws, auditor: Auditor) -> None:
    """The batch comes again, for the sake of one; the others are done by then."""
    good = uploaded(aws, GOOD_SAMPLE.read_bytes())
    missing = replace(auditor, buckets=frozenset({aws.resources.bucket, "never-made"}))
    batch: list[CloudEvent | InvalidEvent]
    batch = [InvalidEvent("odd"), announced("never-made"), good]
    with pytest.raises(DependencyFailed, match="NoSuchBucket"):
        missing.audit_events(batch)
    assert [event["subject"] for event in published(aws)] == [KEY]
    assert missing.audit_events([]) == []
