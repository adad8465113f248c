"""POST /predict: the ways in, batches, tokens, and what may be read from S3."""

import base64
import io
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from conftest import GOOD_SAMPLE, Aws
from flask.testing import FlaskClient
from test_app import problem
from test_detector import save_model
from urllib3.filepost import encode_multipart_formdata
from werkzeug.test import TestResponse

import function.batch
from function.app import create_app
from function.batch import MAX_BATCH
from function.config import Config
from function.container import MAX_IMAGE_PIXELS
from function.detections import Thresholds
from function.detector import Detector
from function.errors import Overloaded
from function.memory_budget import Memory, MemoryBudget
from function.reference import MAX_REFERENCE_BYTES

SAMPLE = GOOD_SAMPLE.read_bytes()
BEARER = {"Authorization": "Bearer s3cret"}


def post_form(client: FlaskClient, *parts: tuple[str, bytes], **options: object) -> TestResponse:
    body, content_type = encode_multipart_formdata([("file", part) for part in parts])
    return client.post("/predict", data=body, content_type=content_type, **options)


def test_every_way_in_gives_the_same_result(client: FlaskClient) -> None:
    encoded = base64.b64encode(SAMPLE).decode()
    ways = [
        client.post("/predict", data=SAMPLE, content_type="image/jpeg"),
        client.post("/predict", json={"image": {"b64": encoded}}),
        client.post("/predict", json={"image": {"b64": f"data:image/jpeg;base64,{encoded}"}}),
        post_form(client, ("a.jpg", SAMPLE)),
    ]
    results = [json.loads(way.data) for way in ways]
    assert [way.status_code for way in ways] == [200] * 4
    for result in results:
        result.pop("timings_ms")
        assert result == results[0]


def test_classes_choose_what_counts(client: FlaskClient, detector: Detector) -> None:
    def classes(query: str) -> Any:
        return json.loads(
            client.post(f"/predict{query}", data=SAMPLE, content_type="image/jpeg").data
        )

    everything, products = classes(""), classes("?classes=product")
    assert products["count"] == everything["count"] == classes("?classes=0")["count"]
    assert "classes" not in everything["thresholds"]
    assert products["thresholds"]["classes"] == [0]


def test_a_batch_has_an_outcome_for_each_part_in_order(client: FlaskClient) -> None:
    response = post_form(
        client, ("one.jpg", SAMPLE), ("two.txt", b"text"), ("three.jpg", b""), ("four.jpg", SAMPLE)
    )
    outcomes = json.loads(response.data)["outcomes"]
    assert response.status_code == 200
    assert [outcome["name"] for outcome in outcomes] == [
        "one.jpg",
        "two.txt",
        "three.jpg",
        "four.jpg",
    ]
    assert [outcome["status"] for outcome in outcomes] == [200, 415, 400, 200]
    assert outcomes[0]["result"]["count"] == outcomes[3]["result"]["count"] > 50
    assert outcomes[1]["problem"]["type"] == "urn:shelfwatch:problem:image-unsupported"
    assert outcomes[2]["problem"]["status"] == 400
    assert all(("result" in outcome) != ("problem" in outcome) for outcome in outcomes)


def test_a_batch_is_bounded_by_count_before_anything_is_decoded(
    client: FlaskClient, make_image: Callable[..., bytes]
) -> None:
    tiny = make_image()
    assert post_form(client, *[("a.jpg", tiny)] * MAX_BATCH).status_code == 200
    refused = post_form(client, *[("a.jpg", tiny)] * (MAX_BATCH + 1))
    assert refused.status_code == 413
    assert problem(refused)["type"] == "urn:shelfwatch:problem:batch-too-large"
    assert f"at most {MAX_BATCH} images" in str(problem(refused)["detail"])


def test_a_batch_is_bounded_by_all_its_pixels(
    client: FlaskClient, make_image: Callable[..., bytes]
) -> None:
    large = make_image("PNG", (8192, 6144), "1", 0)
    started = time.process_time()  # a stall takes none of it
    refused = post_form(client, *[("a.png", large)] * 4)
    assert refused.status_code == 413
    assert f"got {4 * MAX_IMAGE_PIXELS}" in str(problem(refused)["detail"])
    assert time.process_time() - started < 2


def test_what_a_batch_has_no_time_for_is_left_to_the_next_try(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(function.batch, "BATCH_SECONDS", 0.0)
    response = post_form(client, ("a.jpg", SAMPLE), ("b.jpg", SAMPLE))
    outcomes = json.loads(response.data)["outcomes"]
    assert [outcome["status"] for outcome in outcomes] == [503, 503]
    assert outcomes[0]["problem"]["type"] == "urn:shelfwatch:problem:overloaded"


def test_a_batch_is_no_one_picture(client: FlaskClient) -> None:
    response = post_form(
        client, ("a.jpg", SAMPLE), ("b.jpg", SAMPLE), headers={"Accept": "image/png"}
    )
    assert response.status_code == 406
    assert problem(response)["type"] == "urn:shelfwatch:problem:not-acceptable"


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("Bearer", 401),
        ("Bearer wrong", 401),
        ("Bearer s3cre", 401),
        ("Basic s3cret", 401),
        ("Bearer s3cret", 200),
    ],
)
def test_predict_wants_the_token_where_there_is_one_and_health_never(
    detector: Detector, header: str | None, status: int
) -> None:
    client = create_app(Config(predict_token="s3cret"), detector).test_client()
    headers = {"Authorization": header} if header else {}
    response = client.post("/predict", data=SAMPLE, content_type="image/jpeg", headers=headers)
    assert response.status_code == status
    assert b"s3cret" not in response.data
    for path in (
        "/",
        "/health",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/docs",
        "/openapi.json",
    ):
        with client.get(path) as open_to_all:
            assert open_to_all.status_code == 200


@pytest.fixture
def shelves(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Aws:
    """A bucket that holds one sample, with the app's clients pointed at it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.endpoint_url)
    aws.s3.put_object(Bucket=aws.resources.bucket, Key="a b/ä.jpg", Body=SAMPLE)
    aws.s3.put_object(Bucket=aws.resources.bucket, Key="text", Body=b"text")
    return aws


def ask(config: Config, detector: Detector, uri: object, **headers: str) -> TestResponse:
    client = create_app(config, detector).test_client()
    return client.post("/predict", json={"image": {"s3": uri}}, headers=headers)


def test_a_reference_is_read_with_bucket_and_token(shelves: Aws, detector: Detector) -> None:
    bucket = shelves.resources.bucket
    config = Config(predict_token="s3cret", predict_s3_buckets=frozenset({bucket}))
    response = ask(config, detector, f"s3://{bucket}/a b/ä.jpg", **BEARER)
    result = json.loads(response.data)
    assert response.status_code == 200
    assert result["image"]["uri"] == f"s3://{bucket}/a b/ä.jpg"
    assert result["count"] > 50


@pytest.mark.parametrize(
    ("token", "listed", "headers", "status"),
    [
        pytest.param("", True, {}, 403, id="no-token-is-set"),
        pytest.param("", True, BEARER, 403, id="no-token-is-set-but-one-is-sent"),
        pytest.param("s3cret", True, {}, 401, id="none-is-sent"),
        pytest.param("s3cret", True, {"Authorization": "Bearer no"}, 401, id="a-wrong-one-is-sent"),
        pytest.param("s3cret", False, BEARER, 403, id="no-bucket-is-listed"),
    ],
)
def test_who_may_not_read_reads_nothing(
    shelves: Aws,
    detector: Detector,
    monkeypatch: pytest.MonkeyPatch,
    token: str,
    listed: bool,
    headers: dict[str, str],
    status: int,
) -> None:
    """The object is there and could be read: the answer is the same where S3 cannot be reached."""
    bucket = shelves.resources.bucket
    buckets = frozenset({bucket}) if listed else frozenset()
    config = Config(predict_token=token, predict_s3_buckets=buckets)
    there = ask(config, detector, f"s3://{bucket}/a b/ä.jpg", **headers)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    unreachable = ask(config, detector, f"s3://{bucket}/a b/ä.jpg", **headers)
    assert (there.status_code, unreachable.status_code) == (status, status)
    assert there.data == unreachable.data
    assert problem(there)["status"] == status


@pytest.mark.parametrize(
    ("uri", "status", "slug"),
    [
        ("s3://{bucket}/text", 415, "image-unsupported"),
        ("s3://{bucket}/gone.jpg", 410, "image-gone"),
        ("s3://other/a.jpg", 403, "bucket-forbidden"),
        ("s3://{bucket}", 400, "invalid-parameter"),
        ("s3://{bucket}/", 400, "invalid-parameter"),
        ("s3:///a.jpg", 400, "invalid-parameter"),
        ("https://{bucket}/a.jpg", 400, "invalid-parameter"),
        ("{bucket}/a.jpg", 400, "invalid-parameter"),
        ("s3://{bucket}/\ud800", 400, "invalid-parameter"),
        ("s3://{bucket}/" + "k" * 1025, 400, "invalid-parameter"),
        ("", 400, "invalid-parameter"),
    ],
)
def test_an_odd_reference_has_its_answer(
    shelves: Aws, detector: Detector, uri: str, status: int, slug: str
) -> None:
    bucket = shelves.resources.bucket
    config = Config(predict_token="s3cret", predict_s3_buckets=frozenset({bucket}))
    response = ask(config, detector, uri.replace("{bucket}", bucket), **BEARER)
    assert response.status_code == status
    assert problem(response)["type"] == f"urn:shelfwatch:problem:{slug}"


def test_s3_that_does_not_answer_is_told_as_such(
    detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    config = Config(predict_token="s3cret", predict_s3_buckets=frozenset({"b"}))
    response = ask(config, detector, "s3://b/k", **BEARER)
    assert response.status_code == 502
    assert response.headers["Retry-After"] == "1"
    assert "127.0.0.1" not in response.get_data(as_text=True)


def test_memory_is_held_one_after_another_and_given_back() -> None:
    budget = MemoryBudget(10, "to be tested in", wait_seconds=5)
    order: list[str] = []

    def second() -> None:
        with budget.hold(5):
            order.append("second")

    with budget.hold(6):
        thread = threading.Thread(target=second)
        thread.start()
        with budget.hold(4):
            order.append("fits beside")
        order.append("first ends")
    thread.join(5)
    assert order == ["fits beside", "first ends", "second"]
    with budget.hold(10):
        pass


def pictures(capacity: int) -> Memory:
    return Memory(pictures=MemoryBudget(capacity, "to be tested in", wait_seconds=0.05))


def test_who_waits_too_long_for_memory_is_told_to_come_again(
    detector: Detector, make_image: Callable[..., bytes]
) -> None:
    narrow = Detector(detector.session, detector.model, memory=pictures(100_000_000))
    narrow.warm_up()
    client = create_app(Config(), narrow).test_client()
    with narrow.memory.pictures.hold(90_000_000):
        response = client.post("/predict", data=make_image("PNG"), content_type="image/png")
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "1"
    assert problem(response)["type"] == "urn:shelfwatch:problem:overloaded"
    with pytest.raises(Overloaded), narrow.memory.pictures.hold(100_000_001):
        pass


def test_a_picture_that_fails_gives_its_memory_back(detector: Detector) -> None:
    narrow = Detector(detector.session, detector.model, memory=pictures(100_000_000))
    narrow.warm_up()
    client = create_app(Config(), narrow).test_client()
    for _ in range(3):
        cut = client.post("/predict", data=SAMPLE[:20_000], content_type="image/jpeg")
        assert cut.status_code == 422
    assert client.post("/predict", data=SAMPLE, content_type="image/jpeg").status_code == 200


@pytest.mark.parametrize(
    ("query", "labels"),
    [
        ("", ["product", "price tag"]),
        ("?classes=price%20tag", ["price tag"]),
        ("?classes=1", ["price tag"]),
        ("?classes=0", ["product"]),
        ("?classes=1,product", ["product", "price tag"]),
        ("?classes=price%20tag&max_detections=1", ["price tag"]),
    ],
)
def test_other_classes_count_as_little_as_if_they_were_not_there(
    tmp_path: Path, make_image: Callable[..., bytes], query: str, labels: list[str]
) -> None:
    """Also towards `max_detections`: the surer product does not take the price tag's place."""
    output = np.zeros((1, 6, 21))
    output[0, :, 3] = [8, 8, 8, 8, 0.9, 0.0]
    output[0, :, 7] = [24, 24, 8, 8, 0.0, 0.8]
    names = "{0: 'product', 1: 'price tag'}"
    detector = Detector.load(save_model(tmp_path / "two.onnx", output, names=names), 1)
    detector.warm_up()
    client = create_app(Config(thresholds=Thresholds(detail="fast")), detector).test_client()
    response = client.post(f"/predict{query}", data=make_image(), content_type="image/jpeg")
    found = json.loads(response.data)
    assert [product["label"] for product in found["detections"]] == labels
    assert found["truncated"] is False


@pytest.mark.parametrize(
    ("query", "count"), [("", 9), ("?classes=0", 5), ("?classes=1", 4), ("?classes=1,0", 9)]
)
@pytest.mark.parametrize("most", [9, 4])
def test_products_that_are_not_asked_for_leave_no_gaps(
    tmp_path: Path, make_image: Callable[..., bytes], query: str, count: int, most: int
) -> None:
    output = np.zeros((1, 6, 21))
    output[0, 0, :9], output[0, 1, :9] = 3.5 * np.arange(9) + 2, 16
    output[0, 2, :9], output[0, 3, :9] = 3, 8
    output[0, 4, 0:9:2], output[0, 5, 1:9:2] = 0.9, 0.8
    path = save_model(tmp_path / "two.onnx", output, names="{0: 'cola', 1: 'water'}")
    detector = Detector.load(path, 1)
    detector.warm_up()
    thresholds = Thresholds(detail="fast", max_detections=most)
    client = create_app(Config(thresholds=thresholds), detector).test_client()
    image = make_image("JPEG", (320, 320))
    found = client.post(f"/predict{query}", data=image, content_type="image/jpeg").get_json()
    assert (found["count"], found["truncated"]) == (min(count, most), count > most)
    if count <= most:
        assert found["gaps"] == []


def earlier_result(client: FlaskClient) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(
        client.post("/predict", data=SAMPLE, content_type="image/jpeg").data
    )
    return result


def test_a_shelf_is_compared_with_a_reference_sent_along(client: FlaskClient) -> None:
    earlier = earlier_result(client)
    assert "compliance" not in earlier
    kept = {**earlier, "detections": earlier["detections"][5:]}
    reference = json.dumps(kept).encode()
    encoded = base64.b64encode(SAMPLE).decode()
    text = encode_multipart_formdata([("file", ("a.jpg", SAMPLE)), ("reference", reference)])
    file = encode_multipart_formdata(
        [("file", ("a.jpg", SAMPLE)), ("reference", ("r.json", reference))]
    )
    for response in (
        client.post("/predict", json={"image": {"b64": encoded}, "reference": kept}),
        client.post("/predict", data=text[0], content_type=text[1]),
        client.post("/predict", data=file[0], content_type=file[1]),
    ):
        compliance = json.loads(response.data)["compliance"]
        assert (compliance["rate"], len(compliance["missing"]), len(compliance["moved"])) == (
            1.0,
            0,
            0,
        )
        assert len(compliance["extra"]) == 5
        assert compliance["expected"] + 5 == earlier["count"]


def test_a_reference_counts_for_every_picture_of_a_form(client: FlaskClient) -> None:
    slots = json.dumps({"slots": [{"xyxy": [0.0, 0.0, 0.001, 0.001]}]})
    body, content_type = encode_multipart_formdata(
        [("file", ("a.jpg", SAMPLE)), ("file", ("b.jpg", SAMPLE)), ("reference", slots)]
    )
    outcomes = json.loads(client.post("/predict", data=body, content_type=content_type).data)
    assert [o["result"]["compliance"]["expected"] for o in outcomes["outcomes"]] == [1, 1]


@pytest.mark.parametrize(
    ("parts", "slug", "named"),
    [
        pytest.param(["{"], "invalid-reference", "must be JSON", id="not-json"),
        pytest.param(["[" * 40_000], "invalid-reference", "must be JSON", id="deep"),
        pytest.param(['{"slots": [7]}'], "invalid-reference", "Slot 0", id="no-slot"),
        pytest.param(["{}", "{}"], "invalid-parameter", "several", id="two"),
        pytest.param(
            [" " * (MAX_REFERENCE_BYTES + 1)], "invalid-reference", "must have at most", id="large"
        ),
    ],
)
def test_a_broken_reference_is_refused_and_named(
    client: FlaskClient, parts: list[str], slug: str, named: str
) -> None:
    references = [("reference", ("r.json", part)) for part in parts]
    body, content_type = encode_multipart_formdata([("file", ("a.jpg", SAMPLE)), *references])
    response = client.post("/predict", data=body, content_type=content_type)
    assert response.status_code == 400
    assert problem(response)["type"] == f"urn:shelfwatch:problem:{slug}"
    assert named in str(problem(response)["detail"])


def panorama(times: int) -> bytes:
    with PIL.Image.open(io.BytesIO(SAMPLE)) as one:
        strip = PIL.Image.new("RGB", (one.width * times, one.height))
        for index in range(times):
            strip.paste(one, (one.width * index, 0))
    file = io.BytesIO()
    strip.save(file, "JPEG", quality=90)
    return file.getvalue()


@pytest.mark.parametrize(
    ("detail", "looks"), [("", 6), ("?detail=fast", 1), ("?detail=auto", 6), ("?detail=fine", 6)]
)
def test_a_wide_picture_is_looked_at_in_tiles(client: FlaskClient, detail: str, looks: int) -> None:
    answer = client.post(f"/predict{detail}", data=panorama(3), content_type="image/jpeg")
    assert json.loads(answer.data)["looks"] == looks


def test_a_detail_that_there_is_not_is_named(client: FlaskClient) -> None:
    answer = client.post("/predict?detail=most", data=SAMPLE, content_type="image/jpeg")
    assert answer.status_code == 400
    assert json.loads(answer.data)["detail"] == (
        "`detail` must be one of fast, auto, fine, got 'most'"
    )


def test_gaps_that_are_seen_are_not_products(
    tmp_path: Path, make_image: Callable[..., bytes]
) -> None:
    """`?confidence` is about products, and a class of gaps is none that can be asked for."""
    output = np.zeros((1, 6, 21))
    output[0, :, 3] = [8, 8, 8, 8, 0.9, 0.0]
    output[0, :, 7] = [24, 8, 8, 8, 0.0, 0.6]
    names = "{0: 'product', 1: 'Out-of-stock'}"
    detector = Detector.load(save_model(tmp_path / "two.onnx", output, names=names), 1)
    detector.warm_up()
    client = create_app(Config(thresholds=Thresholds(detail="fast")), detector).test_client()
    for query in ("", "?confidence=0.8"):
        response = client.post(f"/predict{query}", data=make_image(), content_type="image/jpeg")
        found = json.loads(response.data)
        assert (found["count"], len(found["detections"])) == (1, 1)
        assert [gap["origin"] for gap in found["gaps"]] == ["seen"]
        assert found["gaps"][0]["confidence"] == pytest.approx(0.6, abs=0.01)
    refused = client.post("/predict?classes=1", data=make_image(), content_type="image/jpeg")
    assert refused.status_code == 400
