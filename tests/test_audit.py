"""One image event: what is published, what is stored, and what is left for the next delivery."""

import json
import urllib.parse
from dataclasses import replace
from typing import Any

import pytest
from cloudevents.core.v1.event import CloudEvent
from conftest import GOOD_SAMPLE, Aws

from events.codec import data_of, new_event
from events.outbox import Outbox
from events.s3_notification import S3Object, events_from_body
from events.sns_publisher import MAX_ATTRIBUTES, attributes_of
from events.types import IMAGE_REJECTED, SHELF_AUDITED
from function.audit import Auditor
from function.detections import Thresholds
from function.detector import Detector
from function.errors import BucketForbidden, DependencyFailed, NotReady
from function.image import MAX_IMAGE_BYTES
from function.metrics import Metrics
from function.reference import MAX_REFERENCE_BYTES

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
    version = data_of(event)["s3"]["object"]["versionId"]  # type: ignore[index]
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


def test_an_image_that_was_cut_on_the_way_is_not_rejected(aws: Aws, auditor: Auditor) -> None:
    event = uploaded(aws, GOOD_SAMPLE.read_bytes())
    data_of(event)["s3"]["object"]["size"] += 1  # type: ignore[index]
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


def test_a_redelivery_publishes_nothing_new(aws: Aws, auditor: Auditor) -> None:
    event = uploaded(aws, GOOD_SAMPLE.read_bytes())
    first, again = auditor.audit_event(event), auditor.audit_event(event)
    assert first is not None
    assert again is not None
    assert data_of(first) == data_of(again)
    assert len(published(aws)) == 1


def test_a_crash_before_the_publish_repeats_only_the_publish(
    aws: Aws, auditor: Auditor, detector: Detector
) -> None:
    """The stored result is published, also by a model that finds less."""
    event = uploaded(aws, GOOD_SAMPLE.read_bytes())
    no_topic = replace(auditor, sns=None)
    no_topic.audit_event(event)
    assert published(aws) == []
    stricter = replace(auditor, thresholds=Thresholds(confidence=0.99))
    stricter.audit_event(event)
    (got,) = published(aws)
    assert got["data"] == stored(aws, event.get_id())
    assert got["data"]["thresholds"]["confidence"] == 0.25


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
    record = data_of(event)
    record["s3"]["bucket"]["name"] = "never-made"  # type: ignore[index]
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
    results = replace(auditor, outbox=Outbox(aws.s3, aws.resources.bucket))
    event = uploaded(aws, b"{}", "results/0.json")
    assert results.audit_event(event) is None
    assert published(aws) == []
    assert urllib.parse.urlsplit(results.outbox.uri("0")).path == "/results/0.json"  # type: ignore[union-attr]


def test_who_loses_the_race_publishes_the_winners_result(
    aws: Aws, auditor: Auditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two deliveries at once, two models: one id must not be published in two versions."""
    event = uploaded(aws, GOOD_SAMPLE.read_bytes())
    winner = replace(auditor, thresholds=Thresholds(confidence=0.9), sns=None)
    fetch = Auditor._fetch

    def overtaken(self: Auditor, found: S3Object) -> bytes:
        if self is auditor:
            winner.audit_event(event)
        return fetch(self, found)

    monkeypatch.setattr(Auditor, "_fetch", overtaken)
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
