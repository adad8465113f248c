"""The Open Inference Protocol: a client that knows nothing of ShelfWatch gets its boxes."""

import base64
import json
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from conftest import GOOD_SAMPLE, free_port
from flask.testing import FlaskClient

from function.app import create_app
from function.config import Config
from function.detector import Detector
from local.aws import aws_env
from local.stack import running_function

SAMPLE = GOOD_SAMPLE.read_bytes()
INFER = "/v2/models/shelf/infer"
tritonhttp = pytest.importorskip("tritonclient.http", reason="no tritonclient in this environment")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    logs = tmp_path_factory.mktemp("logs")
    with running_function(free_port(), aws_env("http://127.0.0.1:9"), logs) as (url, _):
        yield url


@pytest.fixture
def triton(url: str) -> Iterator[Any]:
    client = tritonhttp.InferenceServerClient(url.removeprefix("http://"))
    yield client
    client.close()


def image_input(data: bytes, binary: bool) -> object:
    tensor = tritonhttp.InferInput("image", [1], "BYTES")
    element = data if binary else base64.b64encode(data)
    tensor.set_data_from_numpy(np.array([element], dtype=np.object_), binary_data=binary)
    return tensor


def wanted(binary: bool) -> list[object]:
    names = ("boxes", "scores", "labels")
    return [tritonhttp.InferRequestedOutput(name, binary_data=binary) for name in names]


def test_a_client_learns_of_server_and_model(triton: Any) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("shelf")
    assert not triton.is_model_ready("other")
    assert triton.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    model = triton.get_model_metadata("shelf")
    assert model["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [1]}]
    assert {tensor["name"] for tensor in model["outputs"]} == {"boxes", "scores", "labels"}


def test_the_version_that_metadata_names_may_be_asked_for(triton: Any) -> None:
    (version,) = triton.get_model_metadata("shelf")["versions"]
    assert triton.get_model_metadata("shelf", version) == triton.get_model_metadata("shelf")
    assert triton.is_model_ready("shelf", version)
    answer = triton.infer("shelf", [image_input(SAMPLE, True)], model_version=version)
    assert answer.get_response()["model_version"] == version
    assert not triton.is_model_ready("shelf", "1")
    with pytest.raises(tritonhttp.InferenceServerException, match="version must be 'sha256:"):
        triton.infer("shelf", [image_input(SAMPLE, True)], model_version="1")


def test_a_query_is_refused_as_it_would_choose_nothing(client: FlaskClient) -> None:
    answer = client.post(f"{INFER}?confidence=0.99", json=infer_json())
    assert answer.status_code == 400
    assert "got 'confidence'" in json.loads(answer.data)["detail"]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_a_client_gets_the_boxes_that_predict_gives(
    triton: Any, client: FlaskClient, binary_in: bool, binary_out: bool
) -> None:
    answer = triton.infer(
        "shelf", [image_input(SAMPLE, binary_in)], outputs=wanted(binary_out), request_id="42"
    )
    found = client.post("/predict", data=SAMPLE, content_type="image/jpeg").get_json()
    boxes = answer.as_numpy("boxes")
    assert boxes.shape == (found["count"], 4)
    assert boxes.dtype == np.float32
    np.testing.assert_allclose(boxes, [each["xyxy"] for each in found["detections"]])
    np.testing.assert_allclose(
        answer.as_numpy("scores"), [each["confidence"] for each in found["detections"]], rtol=1e-6
    )
    labels = [
        label if isinstance(label, str) else label.decode() for label in answer.as_numpy("labels")
    ]
    assert labels == ["product"] * found["count"]
    assert answer.get_response()["id"] == "42"
    assert answer.get_response()["model_version"] == found["model"]["digest"]


def test_without_named_outputs_all_come_as_binary(triton: Any) -> None:
    answer = triton.infer("shelf", [image_input(SAMPLE, True)])
    assert len(answer.as_numpy("boxes")) == len(answer.as_numpy("scores")) > 50
    assert all("data" not in output for output in answer.get_response()["outputs"])


@pytest.mark.parametrize("binary", [True, False])
def test_no_products_are_tensors_without_elements(
    triton: Any, make_image: Callable[..., bytes], binary: bool
) -> None:
    grey = make_image("PNG", (64, 48))
    answer = triton.infer("shelf", [image_input(grey, True)], outputs=wanted(binary))
    assert answer.as_numpy("boxes").shape == (0, 4)
    assert answer.as_numpy("scores").shape == (0,)


def test_parameters_are_the_thresholds_of_predict(triton: Any) -> None:
    answer = triton.infer(
        "shelf",
        [image_input(SAMPLE, True)],
        parameters={"confidence": 0.6, "max_detections": 10, "classes": "product"},
    )
    scores = answer.as_numpy("scores")
    assert len(scores) == 10
    assert scores.min() >= 0.6


def test_a_client_reads_our_words_where_its_request_is_refused(triton: Any) -> None:
    with pytest.raises(tritonhttp.InferenceServerException, match="one of JPEG, PNG"):
        triton.infer("shelf", [image_input(b"<html>", True)])
    with pytest.raises(tritonhttp.InferenceServerException, match="must be 'shelf', got 'other'"):
        triton.infer("other", [image_input(SAMPLE, True)])


def infer_json(**changes: object) -> dict[str, Any]:
    tensor = {
        "name": "image",
        "datatype": "BYTES",
        "shape": [1],
        "data": [base64.b64encode(SAMPLE).decode()],
    }
    return {"inputs": [{**tensor, **changes}]}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param([], "The request must be a JSON object", id="list"),
        pytest.param({}, "inputs", id="no-inputs"),
        pytest.param({"inputs": []}, "inputs", id="empty-inputs"),
        pytest.param({"inputs": [1]}, "The input must be a JSON object", id="odd-input"),
        pytest.param({"inputs": infer_json()["inputs"] * 2}, "inputs", id="two-inputs"),
        pytest.param(infer_json(name="photo"), "'image'", id="other-name"),
        pytest.param(infer_json(datatype="UINT8"), "BYTES", id="other-type"),
        pytest.param(infer_json(shape=[2]), "shape", id="two-images"),
        pytest.param(infer_json(shape={}), "shape", id="odd-shape"),
        pytest.param(infer_json(data="%"), "must be base64", id="no-base64"),
        pytest.param(infer_json(data=[1]), "base64", id="number"),
        pytest.param(infer_json(data=[]), "base64", id="no-data"),
        pytest.param(infer_json(parameters=1), "parameters", id="odd-parameters"),
        pytest.param(
            infer_json(parameters={"binary_data_size": 9}), "binary_data_size", id="no-binary"
        ),
        pytest.param({**infer_json(), "id": 7}, "`id` must be", id="odd-id"),
        pytest.param({**infer_json(), "id": "x" * 300}, "`id` must be", id="long-id"),
        pytest.param({**infer_json(), "outputs": {}}, "outputs", id="odd-outputs"),
        pytest.param({**infer_json(), "outputs": [{"name": "masks"}]}, "'masks'", id="no-output"),
        pytest.param({**infer_json(), "parameters": {"conf": 1}}, "'conf'", id="unknown"),
        pytest.param(
            {**infer_json(), "parameters": {"iou": True}},
            "`iou` must be a number from 0 to 1, got True",
            id="boolean",
        ),
        pytest.param({**infer_json(), "parameters": {"iou": 2}}, "iou", id="bounds"),
        pytest.param(
            {**infer_json(), "parameters": {"classes": 0}},
            "`classes` must be of product, separated by commas, got 0",
            id="class",
        ),
    ],
)
def test_an_odd_request_is_named(client: FlaskClient, body: object, words: str) -> None:
    response = client.post(INFER, json=body)
    assert response.status_code == 400
    problem = json.loads(response.data)
    assert problem["type"] == "urn:shelfwatch:problem:invalid-parameter"
    assert words in problem["detail"]
    assert problem["error"] == problem["detail"]


@pytest.mark.parametrize(
    ("length", "size", "element"),
    [
        pytest.param("x", None, b"", id="no-number"),
        pytest.param("-1", None, b"", id="negative"),
        pytest.param("999999", None, b"", id="beyond-the-body"),
        pytest.param("٣", None, b"", id="another-scripts-digit"),
        pytest.param(None, None, struct.pack("<I", 3) + b"abc", id="size-is-missing"),
        pytest.param(None, 6, struct.pack("<I", 3) + b"abc", id="size-is-short"),
        pytest.param(None, 7, struct.pack("<I", 9) + b"abc", id="length-is-long"),
        pytest.param(None, 3, b"abc", id="no-length"),
        pytest.param(None, "7", struct.pack("<I", 3) + b"abc", id="size-is-text"),
    ],
)
def test_odd_binary_data_is_a_400(
    client: FlaskClient, length: str | None, size: object, element: bytes
) -> None:
    parameters = {} if size is None else {"parameters": {"binary_data_size": size}}
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], **parameters}
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {"Inference-Header-Content-Length": length or str(len(head))}
    environ = {"HTTP_INFERENCE_HEADER_CONTENT_LENGTH": headers.popitem()[1]}
    response = client.post(INFER, data=head + element, environ_overrides=environ)
    assert response.status_code == 400


def test_a_cold_model_is_not_ready_and_the_server_is_live(detector: Detector) -> None:
    client = create_app(Config(), Detector(detector.session, detector.model)).test_client()
    assert client.get("/v2/health/live").status_code == 200
    for path in ("/v2/health/ready", "/v2/models/shelf/ready"):
        assert client.get(path).status_code == 503
    assert client.get("/v2/models/shelf").status_code == 200


def test_inference_wants_the_token_where_there_is_one(detector: Detector) -> None:
    client = create_app(Config(predict_token="s3cret"), detector).test_client()
    body = infer_json()
    assert client.post(INFER, json=body).status_code == 401
    assert client.post(INFER, json=body, headers={"Authorization": "Bearer no"}).status_code == 401
    allowed = client.post(INFER, json=body, headers={"Authorization": "Bearer s3cret"})
    assert allowed.status_code == 200
    for path in ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/shelf"):
        assert client.get(path).status_code == 200
