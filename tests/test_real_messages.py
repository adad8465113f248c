"""Every message of the table through the real source and function, on both emulators."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
import urllib3
from cloudevents.core.v1.event import CloudEvent
from conftest import EVENTS, Aws, free_port, queue_depth
from prometheus_client.parser import text_string_to_metric_families
from real_messages import (
    BUCKET,
    CAMERA,
    ETAG,
    MESSAGES,
    PHOTO,
    REQUESTS,
    SIZE,
    VERSION_ID,
    Message,
    text_of,
)
from test_path import TOKEN, function_env, receive, source_env

from events.codec import InvalidEvent
from events.outbox import Outbox
from events.repair.commands import ALWAYS
from events.repair.photos import Watched
from events.repair.sweep import Missing, Summary, Sweep
from events.s3_notification import (
    IgnoredRecord,
    Item,
    body_of,
    items_from_body,
    object_from_event,
)
from events.types import IMAGE_REJECTED, SHELF_AUDITED
from local.stack import running_function, running_source

pytestmark = pytest.mark.slow

# A detector of a millisecond: what a photo shows is not what the table is about.
STAND_IN = {
    "PYTHONPATH": str(Path(__file__).parent / "faults" / "launch"),
    "FAULTS": "stand-in",
}
DATA_FILES = {"image_rejected_data", "shelf_audited_data"}
GONE = "urn:shelfwatch:problem:image-gone"
FOLDER = f"store-17/{CAMERA}/"


def test_every_file_is_in_a_table() -> None:
    files = {path.stem for path in EVENTS.iterdir()}
    assert files - DATA_FILES == {*MESSAGES, *REQUESTS}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_read_as_the_table_says(name: str) -> None:
    message = MESSAGES[name]
    items = read(text_of(name))
    events = [i for i in items if not isinstance(i, IgnoredRecord | InvalidEvent)]
    objects = [object_from_event(event) for event in events]
    for s3_object, key in zip(objects, message.audited + message.rejected, strict=True):
        assert key in [spelling.key for spelling in s3_object.spellings()]
    assert tuple(i.kind for i in items if isinstance(i, IgnoredRecord)) == message.ignored
    errors = [i for i in items if isinstance(i, InvalidEvent)]
    for err, (reason, words) in zip(errors, message.letters, strict=True):
        assert err.reason is reason
        assert words in str(err)
    # Each of them can be sent alone, and is the same then.
    for event in events:
        (alone,) = read(body_of(event))
        assert isinstance(alone, CloudEvent)
        assert alone.get_attributes() == event.get_attributes()
    for err in errors:
        assert err.record is None or list(map(str, read(body_of(err)))) == [str(err)]


def read(body: str) -> list[Item]:
    """Read a message; what is wrong with the whole of it is its only item."""
    try:
        return items_from_body(body, our_buckets={BUCKET})
    except InvalidEvent as err:
        return [err]


@dataclass(frozen=True)
class Uploads:
    """A bucket with versions and one without; what a message says of them is put in its place."""

    aws: Aws
    plain: str
    photo: bytes

    def bucket(self, message: Message) -> str:
        return self.aws.resources.bucket if message.versioned else self.plain

    def put(self, name: str, message: Message, text: str) -> str:
        """Upload a message's photos under keys of its own; return the message about these."""
        text = text.replace(CAMERA, camera(name)).replace(BUCKET, self.bucket(message))
        for key in message.audited:
            answer = self.aws.s3.put_object(
                Bucket=self.bucket(message), Key=key.replace(CAMERA, camera(name)), Body=self.photo
            )
            etag = answer["ETag"].strip('"')
            text = text.replace(ETAG[1:-1], etag[1:-1]) if ETAG not in text else text
            text = text.replace(ETAG, etag).replace(str(SIZE), str(len(self.photo)))
            announced = VERSION_ID if VERSION_ID in text else '"versionId": "2"'
            version_id = answer.get("VersionId", "")
            text = text.replace(
                announced, version_id if announced == VERSION_ID else f'"versionId": "{version_id}"'
            )
        return text

    def sweep(self, bucket: str) -> Summary:
        """Look for photos without a result."""
        aws, summary = self.aws, Summary()
        results = aws.resources.bucket
        Sweep(
            s3=aws.s3,
            sqs=aws.sqs,
            queue_url=aws.resources.queue_url,
            bucket=bucket,
            our_buckets=frozenset({results}),
            wanted=Missing(Outbox(aws.s3, results)),
            watched=[Watched()],
            window=ALWAYS,
        ).run(threading.Event(), summary)
        return summary


def camera(name: str) -> str:
    """Name what only this message is about."""
    return f"cam.{name}."


@pytest.fixture
def uploads(aws: Aws, make_image: Callable[..., bytes]) -> Uploads:
    plain = f"{aws.resources.bucket}-plain"
    aws.s3.create_bucket(Bucket=plain)
    # What is uploaded here is announced by the table alone.
    aws.s3.put_bucket_notification_configuration(
        Bucket=aws.resources.bucket, NotificationConfiguration={}
    )
    return Uploads(aws, plain, make_image("JPEG", (320, 240)))


def test_every_message_ends_as_the_table_says(aws: Aws, uploads: Uploads, tmp_path: Path) -> None:
    """The results are in the photos' bucket: what of it is ours must not be audited."""
    bodies = {name: uploads.put(name, row, text_of(name)) for name, row in MESSAGES.items()}
    requests = {
        name: uploads.put(name, Message(audited=(PHOTO,)), text_of(name)) for name in REQUESTS
    }
    for body in bodies.values():
        aws.sqs.send_message(QueueUrl=aws.resources.queue_url, MessageBody=body)
    results = {"RESULTS_BUCKET": aws.resources.bucket}
    port = free_port()
    buckets = f"{aws.resources.bucket},{uploads.plain}"
    with (
        running_function(
            free_port(), function_env(aws, EVENTS_BUCKETS=buckets, **results, **STAND_IN), tmp_path
        ) as (url, _),
        running_source(
            url,
            aws.resources.queue_url,
            source_env(aws, METRICS_PORT=str(port), **results),
            tmp_path,
        ),
    ):
        wait_until_empty(aws)
        statuses = {name: post(url, text) for name, text in requests.items()}
        counted = counters(f"http://127.0.0.1:{port}/metrics")
    letters = dead_letters(aws)
    assert statuses == REQUESTS
    assert ended(aws) == expected_ends()
    assert letters == {name: len(row.letters) for name, row in MESSAGES.items() if row.letters}
    assert counted == {
        "ignored": Counter(kind.value for row in MESSAGES.values() for kind in row.ignored),
        "dead_letters": Counter(
            reason.value for row in MESSAGES.values() for reason, _ in row.letters
        ),
    }
    # Each photo has one id, whatever announced it: a listing finds nothing to be done.
    for bucket in (aws.resources.bucket, uploads.plain):
        summary = uploads.sweep(bucket)
        assert (summary.looked_at > 5, summary.missing) == (True, 0)


def expected_ends() -> dict[str, list[tuple[str, str]]]:
    """What subscribers must get: type and key of each event, by the message that brought it."""
    rows = {**MESSAGES, **{name: Message(audited=(PHOTO,)) for name in REQUESTS}}
    ends: dict[str, list[tuple[str, str]]] = {}
    for name, row in rows.items():
        events = [(SHELF_AUDITED, key) for key in row.audited]
        events += [(IMAGE_REJECTED, key) for key in row.rejected]
        for kind, key in events:
            mine = key.replace(CAMERA, camera(name))
            ends.setdefault(camera(name), []).append((kind, mine))
    return {name: sorted(events) for name, events in ends.items()}


def ended(aws: Aws) -> dict[str, list[tuple[str, str]]]:
    ends: dict[str, list[tuple[str, str]]] = {}
    for event in receive(aws, 0):
        if event["type"] == IMAGE_REJECTED:
            data: Any = event["data"]
            assert data["reason"]["type"] == GONE
        ends.setdefault(str(event.get("camera")), []).append(
            (str(event["type"]), str(event["subject"]))
        )
    return {name: sorted(events) for name, events in ends.items()}


def dead_letters(aws: Aws) -> Counter[str]:
    """Count the letters by the message they are of, and hold them to its row."""
    found: Counter[str] = Counter()
    while batch := aws.sqs.receive_message(
        QueueUrl=aws.resources.dlq_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
    ).get("Messages"):
        for letter in batch:
            (name,) = (name for name in MESSAGES if camera(name) in letter["Body"])
            facts = {k: v["StringValue"] for k, v in letter["MessageAttributes"].items()}
            assert any(
                facts["reason"] == reason and words.replace(CAMERA, camera(name)) in facts["detail"]
                for reason, words in MESSAGES[name].letters
            ), facts
            found[name] += 1
            if name == "s3_good_and_bad_records":  # the bad one alone
                assert len(json.loads(letter["Body"])["Records"]) == 1
    return found


def wait_until_empty(aws: Aws) -> None:
    deadline = time.monotonic() + 90
    while queue_depth(aws, aws.resources.queue_url):
        assert time.monotonic() < deadline, "messages are still on the queue"
        time.sleep(0.1)


def counters(url: str) -> dict[str, Counter[str]]:
    page = urllib3.request("GET", url).data.decode()
    names = {
        "shelfwatch_source_records_ignored": "ignored",
        "shelfwatch_source_dead_letters": "dead_letters",
    }
    return {
        names[family.name]: Counter(
            {
                next(iter(sample.labels.values())): int(sample.value)
                for sample in family.samples
                if sample.name.endswith("_total") and sample.value
            }
        )
        for family in text_string_to_metric_families(page)
        if family.name in names
    }


def post(url: str, text: str) -> int:
    """Post a request's file to the function; return the status."""
    request = json.loads(text)
    body = request["body"]
    if "data_base64" in body:
        body["data_base64"] = base64.b64encode(json.dumps(body["data_base64"]).encode()).decode()
    sent = json.dumps(body).encode()
    if request.get("byte_order_mark"):
        sent = b"\xef\xbb\xbf" + sent
    headers = {**request["headers"], "authorization": f"Bearer {TOKEN['EVENTS_TOKEN']}"}
    return urllib3.request("POST", url, body=sent, headers=headers).status


def test_the_key_is_no_message_of_two_rows() -> None:
    names = [camera(name) for name in MESSAGES]
    assert not [a for a in names for b in names if a != b and a in b]
    assert quote_plus(camera("x"), safe="/") == camera("x")
