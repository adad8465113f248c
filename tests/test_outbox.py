"""Results are written once, and published from what is stored."""

import json
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler

import pytest
from botocore.exceptions import ClientError
from conftest import Aws

from events.outbox import Outbox, Stored, make_s3_client
from function.s3 import boto_config, make_session
from tests.rollout.stage import serving

TIME = {"time": "2026-11-22T08:15:00+00:00"}
FIRST = Stored({"count": 1}, TIME)


@pytest.fixture
def outbox(aws: Aws) -> Outbox:
    return Outbox(aws.s3, aws.resources.results_bucket)


def test_what_was_not_done_is_not_there(outbox: Outbox) -> None:
    assert outbox.get("1") is None
    assert outbox.has("1") is False
    assert outbox.is_published("1") is False


def test_the_first_result_stays_with_its_time(outbox: Outbox) -> None:
    assert outbox.put("1", FIRST) == FIRST
    assert outbox.put("1", Stored({"count": 2}, {"time": "2027-01-01T00:00:00+00:00"})) == FIRST
    assert outbox.get("1") == FIRST
    assert outbox.has("1") is True
    assert outbox.uri("1") == f"s3://{outbox.bucket}/results/1.json"


def test_the_object_holds_the_data_and_nothing_else(outbox: Outbox) -> None:
    outbox.put("1", FIRST)
    answer = outbox.s3.get_object(Bucket=outbox.bucket, Key="results/1.json")
    assert json.loads(answer["Body"].read()) == FIRST.data


def test_what_an_older_release_stored_has_no_time(outbox: Outbox) -> None:
    outbox.s3.put_object(Bucket=outbox.bucket, Key="results/1.json", Body=b'{"count": 1}')
    assert outbox.get("1") == Stored({"count": 1}, {})


def test_of_many_writers_all_get_the_same(outbox: Outbox) -> None:
    with ThreadPoolExecutor(8) as threads:
        stored = list(threads.map(lambda n: outbox.put("1", Stored({"count": n}, TIME)), range(16)))
    assert stored == [stored[0]] * 16


def test_published_is_noted_apart(outbox: Outbox) -> None:
    outbox.put("1", FIRST)
    assert outbox.is_published("1") is False
    outbox.mark_published("1")
    assert outbox.is_published("1") is True
    assert outbox.get("1") == FIRST


def test_a_missing_bucket_is_an_error_and_not_an_empty_answer(aws: Aws) -> None:
    nowhere = Outbox(aws.s3, "no-such-bucket")
    with pytest.raises(ClientError):
        nowhere.get("1")
    with pytest.raises(ClientError):
        nowhere.put("1", Stored({}))


def test_what_is_stored_goes_with_its_request(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def storage(request: BaseHTTPRequestHandler, _: bytes) -> tuple[int, str, bytes]:
        asked.append("Expect" in request.headers)
        return 200, "application/xml", b""

    with serving(storage) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        s3 = make_s3_client(make_session(), boto_config())
        outbox = Outbox(s3, "bucket")
        outbox.put("1", FIRST)
        outbox.mark_published("1")
        s3.close()
    assert asked == [False, False]
