"""The routes: what they answer, and that every error is a problem that gives nothing away."""

import gzip
import io
import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from cloudevents.core.v1.event import CloudEvent
from conftest import GOOD_SAMPLE, SAMPLES, Aws
from flask.testing import FlaskClient
from notifications import events_from_body
from urllib3.filepost import encode_multipart_formdata
from werkzeug.datastructures import Headers
from werkzeug.test import TestResponse

import function.detector
from events.codec import BATCHED, STRUCTURED, data_of, from_http, to_json
from events.types import IMAGE_REJECTED, SHELF_AUDITED
from function.app import CONTENT_SECURITY_POLICY, create_app
from function.config import Config
from function.detector import Detector
from function.inputs import MAX_BODY_BYTES
from local.subscriber import receive_events

EVENTS = Path(__file__).parent / "events"
(PUT_EVENT,) = events_from_body((EVENTS / "s3_put.json").read_text())
PUT_HEADERS = {
    "ce-id": PUT_EVENT.get_id(),
    "ce-source": PUT_EVENT.get_source(),
    "ce-type": PUT_EVENT.get_type(),
    "ce-specversion": "1.0",
    "content-type": "application/json",
}
PUT_BODY = json.dumps(PUT_EVENT.get_data())


def post_image(
    client: FlaskClient, data: bytes, query: str = "", part: str = "file"
) -> TestResponse:
    # Werkzeug's own encoder leaves a temporary file open for large bodies.
    body, content_type = encode_multipart_formdata({part: ("shelf.jpg", data)})
    return client.post(f"/predict{query}", data=body, content_type=content_type)


def problem(response: TestResponse) -> dict[str, object]:
    assert response.content_type == "application/problem+json"
    body: dict[str, object] = json.loads(response.data)
    assert body["status"] == response.status_code
    assert set(body) == {"type", "title", "status", "detail"}
    return body


def test_predict_answers_the_whole_result(client: FlaskClient) -> None:
    response = post_image(client, GOOD_SAMPLE.read_bytes())
    assert response.status_code == 200
    result = json.loads(response.data)
    with PIL.Image.open(GOOD_SAMPLE) as sample:
        width, height = sample.size
    assert result["image"] == {
        "uri": "",
        "width": width,
        "height": height,
        "bytes": GOOD_SAMPLE.stat().st_size,
        "orientation": 1,
    }
    assert set(result["model"]) == {"name", "digest", "precision", "input", "cpu_isa", "revision"}
    assert result["model"]["precision"] == "int8"
    assert result["count"] == len(result["detections"]) == sum(r["count"] for r in result["rows"])
    assert result["count"] > 50
    assert result["truncated"] is False
    assert 0 < result["fill_rate"] <= 1
    assert result["thresholds"] == {"confidence": 0.25, "iou": 0.6, "max_detections": 1000}
    assert {"decode", "preprocess", "inference", "postprocess"} <= set(result["timings_ms"])
    for found in result["detections"]:
        assert found["label"] == "product"
        left, top, right, bottom = found["xyxy"]
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert 0.25 <= found["confidence"] <= 1


def test_boxes_are_in_pixels_of_the_turned_image(client: FlaskClient) -> None:
    """The sample is stored sideways; a copy stored upright must give the same."""
    sample = SAMPLES / "store-17" / "aisle-7" / "turned-by-exif.jpg"
    upright = io.BytesIO()
    with PIL.Image.open(sample) as stored:
        width, height = stored.size
        stored.transpose(PIL.Image.Transpose.ROTATE_270).save(upright, "PNG")
    turned = json.loads(post_image(client, sample.read_bytes()).data)
    by_hand = json.loads(post_image(client, upright.getvalue()).data)
    assert turned["image"]["orientation"] == 6
    assert (turned["image"]["width"], turned["image"]["height"]) == (height, width)
    assert turned["detections"] == by_hand["detections"]


def test_query_parameters_set_the_thresholds(client: FlaskClient) -> None:
    query = "?confidence=0.6&iou=0.5&max_detections=10"
    result = json.loads(post_image(client, GOOD_SAMPLE.read_bytes(), query).data)
    assert result["thresholds"] == {"confidence": 0.6, "iou": 0.5, "max_detections": 10}
    assert (result["count"], result["truncated"]) == (10, True)
    assert min(found["confidence"] for found in result["detections"]) >= 0.6


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("confidence=", "confidence"),
        ("confidence=high", "`confidence` must be a number from 0.001 to 1, got 'high'"),
        ("confidence=nan", "confidence"),
        ("confidence=0", "confidence"),
        ("confidence=1e9", "confidence"),
        ("confidence=0.3&confidence=0.4", "'0.3, 0.4'"),
        ("iou=-1", "iou"),
        ("max_detections=1.5", "max_detections"),
        ("max_detections=100000", "max_detections"),
        ("conf=0.3", "'conf'"),
    ],
)
def test_an_odd_parameter_is_named(client: FlaskClient, query: str, words: str) -> None:
    response = post_image(client, GOOD_SAMPLE.read_bytes(), f"?{query}")
    assert response.status_code == 400
    assert words in str(problem(response)["detail"])


@pytest.mark.parametrize(
    ("data", "status", "slug"),
    [
        pytest.param(b"", 400, "image-empty", id="empty"),
        pytest.param(b"<svg/>", 415, "image-unsupported", id="svg"),
        pytest.param(GOOD_SAMPLE.read_bytes()[:20_000], 422, "image-corrupt", id="cut"),
        pytest.param(b"x" * (MAX_BODY_BYTES + 1), 413, "request-entity-too-large", id="large"),
    ],
)
def test_a_refused_image_is_a_problem(
    client: FlaskClient, data: bytes, status: int, slug: str
) -> None:
    response = post_image(client, data)
    assert response.status_code == status
    assert problem(response)["type"] == f"urn:shelfwatch:problem:{slug}"


def test_a_picture_without_products_has_an_empty_audit(
    client: FlaskClient, make_image: Callable[..., bytes]
) -> None:
    result = json.loads(post_image(client, make_image("PNG", (1, 1))).data)
    assert (result["count"], result["detections"], result["rows"], result["gaps"]) == (
        0,
        [],
        [],
        [],
    )
    assert result["fill_rate"] is None


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [
        ("GET", "/nothing", 404, "not-found"),
        ("DELETE", "/predict", 405, "method-not-allowed"),
        ("POST", "/predict", 415, "unsupported-media-type"),
    ],
)
def test_every_error_is_a_problem(
    client: FlaskClient, method: str, path: str, status: int, slug: str
) -> None:
    response = client.open(path, method=method)
    assert response.status_code == status
    assert problem(response)["type"] == f"urn:shelfwatch:problem:{slug}"


def test_a_fault_of_ours_is_logged_and_not_told(
    client: FlaskClient,
    detector: Detector,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the secret is 42")

    monkeypatch.setattr(detector, "detect", fail)
    response = post_image(client, GOOD_SAMPLE.read_bytes())
    assert response.status_code == 500
    assert "42" not in response.get_data(as_text=True)
    assert problem(response)["type"] == "urn:shelfwatch:problem:internal-server-error"
    assert "the secret is 42" in caplog.text


def test_not_ready_until_warm(detector: Detector) -> None:
    cold = Detector(detector.session, detector.model)
    client = create_app(Config(), cold).test_client()
    assert client.get("/health/live").status_code == 200
    for path in ("/health", "/health/ready"):
        response = client.get(path)
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "1"
        assert problem(response)["type"] == "urn:shelfwatch:problem:not-ready"
    assert post_image(client, GOOD_SAMPLE.read_bytes()).status_code == 503
    assert b"\nshelfwatch_ready 0.0\n" in client.get("/metrics").data
    cold.warm_up()
    assert client.get("/health").status_code == 200
    assert b"\nshelfwatch_ready 1.0\n" in client.get("/metrics").data
    assert client.get("/health/ready").get_json()["model"] == cold.json()


class HangingSession:
    """A session that does not come back before it is told to."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.let_go = threading.Event()

    def run(self, *arguments: object) -> object:
        assert self.let_go.wait(60)
        return self.session.run(*arguments)

    def __getattr__(self, name: str) -> object:
        return getattr(self.session, name)


def test_a_hung_inference_makes_readiness_fail_first_and_then_liveness(
    detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = HangingSession(detector.session)
    hung = replace(detector, session=session)
    monkeypatch.setattr(function.detector, "STALLED_SECONDS", 0.2)
    client = create_app(Config(), hung).test_client()
    request = threading.Thread(
        target=post_image, args=(client.application.test_client(), GOOD_SAMPLE.read_bytes())
    )

    def statuses() -> tuple[int, int]:
        ready, live = (client.get(f"/health/{kind}").status_code for kind in ("ready", "live"))
        return ready, live

    assert statuses() == (200, 200)
    request.start()
    try:
        wait_for(lambda: statuses() == (503, 200))
        monkeypatch.setattr(function.detector, "HUNG_SECONDS", 0.2)
        assert statuses() == (503, 503)
    finally:
        session.let_go.set()
        request.join()
    assert statuses() == (200, 200)


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_page_and_its_files_are_served_under_a_strict_policy(client: FlaskClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert "<canvas" in page.get_data(as_text=True)
    for path in ("/", "/static/app.js", "/static/boxes.js", "/static/style.css"):
        response = client.get(path)
        assert response.status_code == 200
        assert response.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        response.close()
    page.close()


def test_the_page_is_sent_in_gzip_to_who_takes_it(client: FlaskClient) -> None:
    def get(path: str, **headers: str) -> tuple[int, Headers, bytes]:
        with client.get(path, headers=headers) as response:
            return response.status_code, response.headers, response.data

    for path in ("/", "/static/app.js", "/static/style.css", "/static/words/es.js"):
        _, plain, body = get(path)
        _, packed, content = get(path, accept_encoding="gzip")
        assert "Content-Encoding" not in plain
        assert packed["Content-Encoding"] == "gzip"
        assert gzip.decompress(content) == body
        assert plain["Vary"] == packed["Vary"] == "Accept-Encoding"
        assert get(path, accept_encoding="gzip", if_none_match=packed["ETag"])[0] == 304
    assert "Content-Encoding" not in get("/static/samples/gaps.webp", accept_encoding="gzip")[1]


def test_metrics_count_images_and_requests(client: FlaskClient) -> None:
    post_image(client, GOOD_SAMPLE.read_bytes())
    post_image(client, b"text")
    client.get("/some/path")
    text = client.get("/metrics").get_data(as_text=True)
    assert 'shelfwatch_images_total{outcome="audited"} 1.0' in text
    assert 'shelfwatch_images_total{outcome="image-unsupported"} 1.0' in text
    assert (
        'shelfwatch_request_seconds_count{method="POST",route="/predict",status="200"} 1.0' in text
    )
    assert 'shelfwatch_request_seconds_count{method="none",route="none",status="404"} 1.0' in text
    assert 'shelfwatch_stage_seconds_count{stage="inference"} 1.0' in text
    assert "shelfwatch_model_info{" in text


@pytest.mark.parametrize(
    ("config", "header", "status"),
    [
        pytest.param(Config(), None, 401, id="closed-by-default"),
        pytest.param(Config(), "Bearer ", 401, id="empty-token-opens-nothing"),
        pytest.param(Config(events_token="s3cret"), None, 401, id="no-token"),
        pytest.param(Config(events_token="s3cret"), "Bearer other", 401, id="wrong-token"),
        pytest.param(Config(events_token="s3cret"), "Basic s3cret", 401, id="wrong-scheme"),
        pytest.param(Config(events_token="s3cret"), "Bearer s3cret", 403, id="right-token"),
        pytest.param(Config(events_token="s3cret"), "bearer s3cret", 403, id="lower-case"),
        pytest.param(Config(events_auth="none"), None, 403, id="open"),
    ],
)
def test_events_want_the_token(
    detector: Detector, config: Config, header: str | None, status: int
) -> None:
    """Who is let in gets a 403 here: no bucket is on the list."""
    headers = PUT_HEADERS if header is None else {**PUT_HEADERS, "Authorization": header}
    response = create_app(config, detector).test_client().post("/", data=PUT_BODY, headers=headers)
    assert response.status_code == status
    assert "s3cret" not in response.get_data(as_text=True)
    assert ("WWW-Authenticate" in response.headers) is (status == 401)
    problem(response)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        pytest.param({}, "", id="nothing"),
        pytest.param({"content-type": STRUCTURED}, "[]", id="list"),
        pytest.param({"content-type": STRUCTURED}, '{"id": "1"}', id="missing"),
        pytest.param({**PUT_HEADERS, "ce-type": "com.example.other"}, PUT_BODY, id="other-type"),
        pytest.param(PUT_HEADERS, "{}", id="no-record"),
        pytest.param(PUT_HEADERS, "{", id="broken"),
    ],
)
def test_what_is_no_image_event_is_a_400(
    detector: Detector, headers: dict[str, str], body: str
) -> None:
    config = Config(events_auth="none", events_buckets=frozenset({"shelves"}))
    response = create_app(config, detector).test_client().post("/", data=body, headers=headers)
    assert response.status_code == 400
    assert problem(response)["type"] == "urn:shelfwatch:problem:invalid-event"


def test_a_bucket_that_is_not_listed_is_not_read(detector: Detector) -> None:
    config = Config(events_auth="none", events_buckets=frozenset({"backroom"}))
    response = (
        create_app(config, detector).test_client().post("/", data=PUT_BODY, headers=PUT_HEADERS)
    )
    assert response.status_code == 403
    assert problem(response)["type"] == "urn:shelfwatch:problem:bucket-forbidden"


@pytest.fixture
def uploaded(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> list[CloudEvent]:
    """Two uploads, a shelf and a file that is no image, as the events that S3 announces."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.endpoint_url)
    for key, body in (("a.jpg", GOOD_SAMPLE.read_bytes()), ("b.jpg", b"no image")):
        aws.s3.put_object(Bucket=aws.resources.bucket, Key=key, Body=body)
    events: list[CloudEvent] = []
    while len(events) < 2:
        answer = aws.sqs.receive_message(
            QueueUrl=aws.resources.queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=5
        )
        for message in answer["Messages"]:
            events += events_from_body(message["Body"])
    return sorted(events, key=lambda event: str(event.get_subject()))


def test_without_a_topic_the_event_is_the_answer(
    aws: Aws, detector: Detector, uploaded: list[CloudEvent]
) -> None:
    config = Config(events_auth="none", events_buckets=frozenset({aws.resources.bucket}))
    client = create_app(config, detector).test_client()
    one = client.post("/", data=to_json(uploaded[0]), content_type=STRUCTURED)
    batch = b"[" + b",".join(map(to_json, uploaded)) + b"]"
    many = client.post("/", data=batch, content_type=BATCHED)
    assert (one.status_code, one.content_type) == (200, STRUCTURED)
    assert (many.status_code, many.content_type) == (200, BATCHED)
    (audited,) = events_of(one)
    again, rejected = events_of(many)
    assert audited.get_id() == again.get_id() == uploaded[0].get_id()
    assert (again.get_type(), rejected.get_type()) == (SHELF_AUDITED, IMAGE_REJECTED)


def events_of(answer: TestResponse) -> list[CloudEvent]:
    events = from_http(dict(answer.headers), answer.data)
    found = [event for event in events if isinstance(event, CloudEvent)]
    assert found == events
    return found


def test_an_sqs_message_that_knative_carries_is_taken_apart(
    aws: Aws, detector: Detector, uploaded: list[CloudEvent]
) -> None:
    config = Config(events_auth="none", events_buckets=frozenset({aws.resources.bucket}))
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "9CC70D09569020C-0000000000000001",
        "ce-type": "dev.knative.eventing.aws-sqs",
        "ce-source": "dev.knative.eventing.aws-sqs-source",
        "content-type": "application/json",
    }
    body = json.dumps({"Records": [data_of(event) for event in uploaded]})
    response = create_app(config, detector).test_client().post("/", data=body, headers=headers)
    assert (response.status_code, response.content_type) == (200, BATCHED)
    assert [event.get_id() for event in events_of(response)] == [
        event.get_id() for event in uploaded
    ]


def test_with_a_topic_the_answer_is_empty_and_the_events_are_out(
    aws: Aws, detector: Detector, uploaded: list[CloudEvent]
) -> None:
    config = Config(
        events_auth="none",
        events_buckets=frozenset({aws.resources.bucket}),
        topic_arn=aws.resources.topic_arn,
    )
    client = create_app(config, detector).test_client()
    batch = b"[" + b",".join(map(to_json, uploaded)) + b"]"
    response = client.post("/", data=batch, content_type=BATCHED)
    assert (response.status_code, response.data) == (204, b"")
    got = receive_events(aws.sqs, aws.s3, aws.resources.subscriber_url, wait=5)
    assert {str(event["type"]) for event in got} == {SHELF_AUDITED, IMAGE_REJECTED}
    assert 'shelfwatch_events_published_total{type="io.shelfwatch.shelf.audited"} 1.0' in (
        client.get("/metrics").get_data(as_text=True)
    )


def test_of_a_batch_that_fails_in_part_nothing_is_acknowledged(
    aws: Aws, detector: Detector, uploaded: list[CloudEvent]
) -> None:
    """The whole comes again; what was published then has its id already."""
    config = Config(events_auth="none", events_buckets=frozenset({aws.resources.bucket}))
    client = create_app(config, detector).test_client()
    foreign = to_json(PUT_EVENT)
    batch = b"[" + to_json(uploaded[0]) + b"," + foreign + b"]"
    assert client.post("/", data=batch, content_type=BATCHED).status_code == 403
