"""POST /uploads and GET /results: photos from callers without AWS keys, and what became of them."""

import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import urllib3
from conftest import GOOD_SAMPLE, SAMPLES, Aws
from flask.testing import FlaskClient
from test_app import problem
from test_openapi import validate
from werkzeug.test import TestResponse

from events.s3_notification import S3Object, notification_body
from function.app import create_app
from function.config import Config
from function.detector import Detector
from function.image import MAX_IMAGE_BYTES
from function.uploads import MAX_REQUEST_BYTES, UPLOAD_MINUTES

SAMPLE = GOOD_SAMPLE.read_bytes()
CORRUPT = (SAMPLES / "store-21" / "aisle-2" / "corrupt.jpg").read_bytes()
BEARER = {"Authorization": "Bearer s3cret"}
WISH = {"store": "store-17", "view": "cam-2", "type": "image/jpeg", "bytes": len(SAMPLE)}


def make_client(aws: Aws, detector: Detector, **changes: object) -> FlaskClient:
    settings: dict[str, Any] = {
        "events_auth": "none",
        "events_buckets": frozenset({aws.resources.bucket}),
        "results_bucket": aws.resources.results_bucket,
        "uploads_bucket": aws.resources.bucket,
        "uploads_token": "s3cret",
    }
    return create_app(Config(**settings | changes), detector).test_client()


@pytest.fixture
def client(aws: Aws, detector: Detector, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.endpoint_url)
    return make_client(aws, detector)


def upload(client: FlaskClient, photo: bytes) -> str:
    """Put a photo where the service says, as a caller does; give its uri."""
    offer = client.post("/uploads", json={**WISH, "bytes": len(photo)}, headers=BEARER)
    assert offer.status_code == 201
    validate("Offer", offer.json)
    place = offer.get_json()
    put = urllib3.request(place["method"], place["url"], body=photo, headers=place["headers"])
    assert put.status == 200
    uri: str = place["uri"]
    return uri


def result_of(client: FlaskClient, uri: str) -> TestResponse:
    return client.get("/results", query_string={"uri": uri}, headers=BEARER)


def announce(client: FlaskClient, aws: Aws, uri: str, generation: int = 0) -> None:
    """Have it audited, as the source does when S3 has announced it."""
    _, _, path = uri.partition("s3://")
    bucket, _, key = path.partition("/")
    head = aws.s3.head_object(Bucket=bucket, Key=key)
    found = S3Object(
        bucket=bucket,
        key=key,
        version_id=head["VersionId"],
        etag=head["ETag"].strip('"'),
        size=head["ContentLength"],
    )
    body = notification_body(found, datetime.now(UTC), "us-east-1", generation)
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-source": "/queue",
        "ce-type": "dev.knative.eventing.aws-sqs",
        "content-type": "application/json",
    }
    assert client.post("/", data=body, headers=headers).status_code == 200


def test_a_photo_is_uploaded_without_keys_and_its_result_read(
    client: FlaskClient, aws: Aws
) -> None:
    uri = upload(client, SAMPLE)
    assert re.fullmatch(rf"s3://{aws.resources.bucket}/store-17/cam-2/\d{{8}}T\d{{12}}Z\.jpg", uri)
    waiting = result_of(client, uri)
    assert (waiting.status_code, waiting.headers["Retry-After"]) == (202, "2")
    announce(client, aws, uri)
    done = result_of(client, uri)
    assert done.status_code == 200
    validate("Result", done.json)
    assert done.get_json()["count"] > 100
    assert done.get_json()["image"]["uri"] == uri


def test_a_rejected_photo_is_answered_with_its_problem(client: FlaskClient, aws: Aws) -> None:
    uri = upload(client, CORRUPT)
    announce(client, aws, uri)
    answer = result_of(client, uri)
    assert answer.status_code == 422
    assert problem(answer)["type"] == "urn:shelfwatch:problem:image-corrupt"


def test_the_newest_audit_is_read(
    client: FlaskClient, aws: Aws, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = upload(client, SAMPLE)
    announce(client, aws, uri, generation=3)
    assert result_of(client, uri).status_code == 202
    raised = make_client(aws, detector, audit_generation=3)
    assert result_of(raised, uri).status_code == 200


def test_an_offer_takes_one_photo_of_just_that_type_and_size_for_minutes(
    client: FlaskClient,
) -> None:
    place = client.post("/uploads", json=WISH, headers=BEARER).get_json()
    query = parse_qs(urlsplit(place["url"]).query)
    assert query["X-Amz-Expires"] == [str(UPLOAD_MINUTES * 60)]
    (signed,) = query["X-Amz-SignedHeaders"]
    assert signed.split(";") == ["content-length", "content-type", "host", "if-none-match"]
    assert place["headers"]["Content-Length"] == str(len(SAMPLE))


def test_what_was_never_uploaded_is_gone_and_other_buckets_are_closed(
    client: FlaskClient, aws: Aws
) -> None:
    gone = result_of(client, f"s3://{aws.resources.bucket}/store-1/cam-1/no.jpg")
    spaced = result_of(client, f"s3://{aws.resources.bucket}/a/9.00\u202fAM 👩\u200d👧.jpg")
    other = result_of(client, f"s3://{aws.resources.results_bucket}/results/x.json")
    assert [gone.status_code, spaced.status_code, other.status_code] == [410, 410, 403]
    assert problem(other)["type"] == "urn:shelfwatch:problem:bucket-forbidden"


@pytest.mark.parametrize("setting", ["uploads_token", "uploads_bucket", "results_bucket"])
def test_both_are_closed_unless_all_is_set(
    aws: Aws, detector: Detector, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.endpoint_url)
    closed = make_client(aws, detector, **{setting: ""})
    answers = [closed.post("/uploads", json=WISH, headers=BEARER), result_of(closed, "s3://a/b")]
    assert [answer.status_code for answer in answers] == [403, 403]


@pytest.mark.parametrize("token", ["", "Bearer", "Bearer other", "Basic s3cret"])
def test_both_want_the_token(client: FlaskClient, token: str) -> None:
    headers = {"Authorization": token} if token else {}
    answers = [
        client.post("/uploads", data=b"{", headers=headers),
        client.get("/results", headers=headers),
    ]
    assert [answer.status_code for answer in answers] == [401, 401]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"store": ""}, "`store` must be 1 to 64"),
        ({"store": ".."}, "`store` must be"),
        ({"store": "a/b"}, "`store` must be"),
        ({"store": "läden"}, "`store` must be"),
        ({"store": "results"}, "`store` must be no folder of the results' own"),
        ({"view": "x" * 65}, "`view` must be"),
        ({"view": 7}, "`view` must be"),
        ({"type": "image/gif"}, "`type` must be one of image/jpeg"),
        ({"type": None}, "`type` must be one of"),
        ({"bytes": 0}, "`bytes` must be a whole number from 1 to"),
        ({"bytes": MAX_IMAGE_BYTES + 1}, "`bytes` must be"),
        ({"bytes": True}, "`bytes` must be"),
        ({"bytes": "5"}, "`bytes` must be"),
        ({"bucket": "mine"}, "'bucket'"),
        ({"store": "x" * MAX_REQUEST_BYTES}, "The body must have at most"),
    ],
)
def test_an_odd_wish_is_named(client: FlaskClient, changes: dict[str, object], words: str) -> None:
    answer = client.post("/uploads", json=WISH | changes, headers=BEARER)
    assert answer.status_code == 400
    assert words in str(problem(answer)["detail"])


@pytest.mark.parametrize(
    "query", ["", "uri=", "uri=s3://x", "uri=s3://a/b&uri=s3://a/c", "url=s3://a/b"]
)
def test_an_odd_uri_is_named(client: FlaskClient, query: str) -> None:
    answer = client.get(f"/results?{query}", headers=BEARER)
    assert answer.status_code == 400
    assert "ur" in str(problem(answer)["detail"])
