"""The routes: what they answer, and that every error is a problem that gives nothing away."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest
from conftest import GOOD_SAMPLE, SAMPLES
from flask.testing import FlaskClient
from urllib3.filepost import encode_multipart_formdata
from werkzeug.test import TestResponse

from events.codec import STRUCTURED
from events.s3_notification import events_from_body
from function.app import CONTENT_SECURITY_POLICY, MAX_BODY_BYTES, create_app
from function.config import Config
from function.detector import Detector

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
    """The sample is stored sideways: turned by hand and stored upright it must give the same."""
    sample = SAMPLES / "store-17" / "cam-2" / "turned-by-exif.jpg"
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
        ("confidence=high", "confidence is 'high'"),
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
        ("POST", "/predict", 400, "invalid-parameter"),
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
    cold.warm_up()
    assert client.get("/health").status_code == 200
    assert client.get("/health/ready").json["model"] == cold.json()  # type: ignore[index]


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
