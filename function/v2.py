"""The Open Inference Protocol v2 over HTTP: one BYTES tensor of an image in, its products out.

https://github.com/open-inference/open-inference-protocol and, for raw bytes beside the JSON, its
binary data extension: the body is the JSON, `Inference-Header-Content-Length` bytes of it, and then
the tensors; an element of a BYTES tensor is its length in 4 bytes, little-endian, and itself.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from flask import Blueprint, Response, jsonify, request

from events.codec import shown
from function.config import Config
from function.detections import Thresholds
from function.detector import Detector
from function.errors import InvalidParameter, ModelNotFound
from function.inputs import JSON, Picture, read_body
from function.parameters import choose_thresholds, decode_base64, json_object, kind, parse_json
from function.result import Result

MODEL = "shelf"
INPUT = "image"
HEADER_LENGTH = "Inference-Header-Content-Length"
BINARY = "binary_data"
MAX_ID = 256  # characters of a request's id, which comes back in the answer
# Of each output: the datatype, and the shape in metadata (-1: as many as there are products).
OUTPUTS: dict[str, tuple[str, list[int]]] = {
    "boxes": ("FP32", [-1, 4]),  # xyxy in pixels of the EXIF-turned image
    "scores": ("FP32", [-1]),
    "labels": ("BYTES", [-1]),
}

Json = dict[str, object]


class TensorJson(TypedDict):
    """A tensor of the model, as metadata describes it."""

    name: str
    datatype: str
    shape: list[int]


@dataclass(frozen=True, kw_only=True)
class InferRequest:
    """What a client asked for."""

    image: bytes
    id: str
    parameters: Mapping[str, object]  # thresholds, by the names of /predict
    outputs: Mapping[str, bool]  # the outputs wanted, and whether as binary data


def make_blueprint(
    config: Config,
    detector: Detector,
    audit: Callable[[Picture, Thresholds], Result],
    authorize: Callable[[], None],
    version: str,
) -> Blueprint:
    """Build the routes below /v2; `version` is the server's.

    `authorize` raises `Unauthorized` for a caller who may not have a picture audited.
    """
    blueprint = Blueprint("v2", __name__, url_prefix="/v2")
    model = detector.model

    @blueprint.get("")
    def server() -> Response:
        return jsonify(server_json(version))

    @blueprint.get("/health/live")
    def live() -> Response:
        detector.check_live()
        return jsonify(live=True)

    @blueprint.get("/health/ready")
    def ready() -> Response:
        detector.check_ready()
        return jsonify(ready=True)

    @blueprint.get("/models/<name>")
    @blueprint.get("/models/<name>/versions/<version>")
    def metadata(name: str, version: str = model.digest) -> Response:
        _need_model(name, version, model.digest)
        return jsonify(model_json(model.digest))

    @blueprint.get("/models/<name>/ready")
    @blueprint.get("/models/<name>/versions/<version>/ready")
    def model_ready(name: str, version: str = model.digest) -> Response:
        _need_model(name, version, model.digest)
        detector.check_ready()
        return jsonify(name=name, ready=True)

    @blueprint.post("/models/<name>/infer")
    @blueprint.post("/models/<name>/versions/<version>/infer")
    def infer(name: str, version: str = model.digest) -> Response:
        authorize()
        _need_model(name, version, model.digest)
        _need_no_query(request.args)
        asked = read_infer_request(read_body(request), request.headers.get(HEADER_LENGTH))
        thresholds = choose_thresholds(asked.parameters, config.thresholds, model.products)
        return answer_tensors(asked, audit(Picture(data=asked.image), thresholds))

    return blueprint


def _need_model(name: str, version: str, digest: str) -> None:
    if name != MODEL:
        msg = f"The model must be {MODEL!r}, got {name!r}"
        raise ModelNotFound(msg)
    if version != digest:
        msg = f"The model's version must be {digest!r}, got {version!r}"
        raise ModelNotFound(msg)


def _need_no_query(query: Mapping[str, str]) -> None:
    for name in query:
        msg = f"The query must be empty, as `parameters` hold the thresholds, got {name!r}"
        raise InvalidParameter(msg)


def server_json(version: str) -> Json:
    """Describe the server."""
    return {"name": "shelfwatch", "version": version, "extensions": ["binary_tensor_data"]}


def model_json(digest: str) -> Json:
    """Describe the model; its version is the digest of its file."""
    inputs: list[TensorJson] = [{"name": INPUT, "datatype": "BYTES", "shape": [1]}]
    outputs: list[TensorJson] = [
        {"name": name, "datatype": datatype, "shape": shape}
        for name, (datatype, shape) in OUTPUTS.items()
    ]
    return {
        "name": MODEL,
        "versions": [digest],
        "platform": "onnxruntime_onnx",
        "inputs": inputs,
        "outputs": outputs,
    }


def read_infer_request(body: bytes, header_length: str | None) -> InferRequest:
    """Read an inference request, JSON alone or with binary data behind it.

    Raises `InvalidParameter`.
    """
    length = _header_length(header_length, len(body))
    fields = json_object(parse_json(body[:length]), "The request")
    request_id = fields.get("id", "")
    if not isinstance(request_id, str) or len(request_id) > MAX_ID:
        msg = f"`id` must be a text of at most {MAX_ID} characters, got {shown(request_id)}"
        raise InvalidParameter(msg)
    parameters = dict(json_object(fields.get("parameters", {}), "`parameters`"))
    binary_output = parameters.pop("binary_data_output", False) is True
    return InferRequest(
        image=_image(fields.get("inputs"), body[length:]),
        id=request_id,
        parameters=parameters,
        outputs=_outputs(fields.get("outputs"), binary_output),
    )


def _header_length(text: str | None, size: int) -> int:
    if text is None:
        return size
    if not (text.isascii() and text.isdecimal() and len(text) < 12 and int(text) <= size):
        msg = f"{HEADER_LENGTH} must be a number of bytes of the body, got {text!r}"
        raise InvalidParameter(msg)
    return int(text)


def _image(inputs: object, binary: bytes) -> bytes:
    """Take the bytes of the one image out of the request's one input."""
    if not isinstance(inputs, list) or len(inputs) != 1:
        msg = f"`inputs` must be a list of one tensor, {INPUT!r}, got {kind(inputs)}"
        raise InvalidParameter(msg)
    tensor = json_object(inputs[0], "The input")
    declared = (tensor.get("name"), tensor.get("datatype"), tensor.get("shape"))
    if declared not in ((INPUT, "BYTES", [1]), (INPUT, "BYTES", [1, 1])):
        must_be = f"{INPUT!r} of datatype BYTES and shape [1]"
        msg = f"The input must be {must_be}, got {' '.join(map(shown, declared))}"
        raise InvalidParameter(msg)
    size = json_object(tensor.get("parameters", {}), "The input's parameters").get(
        "binary_data_size"
    )
    if size is not None:
        return _binary_element(size, binary)
    if binary:
        msg = f"`binary_data_size` must be {len(binary)}, as the body has binary data, got nothing"
        raise InvalidParameter(msg)
    return decode_base64(_only_text(tensor.get("data")), "The input's data")


def _binary_element(size: object, binary: bytes) -> bytes:
    length = struct.unpack_from("<I", binary)[0] if len(binary) >= 4 else -1
    if type(size) is not int or size != len(binary) or size != 4 + length:
        msg = (
            "`binary_data_size` must be that of 4 bytes of length and an image, to the body's end, "
            f"got {size!r}"
        )
        raise InvalidParameter(msg)
    return binary[4:]


def _only_text(data: object) -> str:
    while isinstance(data, list) and len(data) == 1:  # nested as the shape, or flat
        data = data[0]
    if not isinstance(data, str):
        msg = f"The input's data must be one image in base64, got {kind(data)}"
        raise InvalidParameter(msg)
    return data


def _outputs(wanted: object, binary_output: bool) -> dict[str, bool]:
    """Read which outputs are wanted, and which of them as binary data; all unless named."""
    if wanted is None:
        return dict.fromkeys(OUTPUTS, binary_output)
    if not isinstance(wanted, list):
        msg = f"`outputs` must be a list, got {kind(wanted)}"
        raise InvalidParameter(msg)
    chosen: dict[str, bool] = {}
    for item in wanted:
        output = json_object(item, "An output")
        name = output.get("name")
        if not isinstance(name, str) or name not in OUTPUTS:
            msg = f"An output must be one of {', '.join(OUTPUTS)}, got {name!r}"
            raise InvalidParameter(msg)
        parameters = json_object(output.get("parameters", {}), "The output's parameters")
        chosen[name] = parameters.get(BINARY, binary_output) is True
    return chosen


def answer_tensors(asked: InferRequest, result: Result) -> Response:
    """Answer with a v2 inference response, its binary data announced where there is some."""
    body, json_length = infer_response(asked, result)
    if json_length is None:
        return Response(body, content_type=JSON)
    headers = {HEADER_LENGTH: str(json_length)}
    return Response(body, content_type="application/octet-stream", headers=headers)


def infer_response(request: InferRequest, result: Result) -> tuple[bytes, int | None]:
    """Write the answer: the body, and the length of its JSON where binary data follows."""
    products = result["detections"]
    values: dict[str, list[list[float]] | list[float] | list[str]] = {
        "boxes": [product["xyxy"] for product in products],
        "scores": [product["confidence"] for product in products],
        "labels": [product["label"] for product in products],
    }
    outputs: list[Json] = []
    binary = b""
    for name, as_binary in request.outputs.items():
        datatype, shape = OUTPUTS[name]
        output: Json = {"name": name, "datatype": datatype, "shape": [len(products), *shape[1:]]}
        if as_binary:
            tensor = _to_bytes(values[name], datatype)
            output["parameters"] = {"binary_data_size": len(tensor)}
            binary += tensor
        else:
            output["data"] = np.array(values[name]).reshape(-1).tolist()
        outputs.append(output)
    answer: Json = {"model_name": MODEL, "model_version": result["model"]["digest"]}
    if request.id:
        answer["id"] = request.id
    body = json.dumps({**answer, "outputs": outputs}).encode()
    return (body + binary, len(body)) if any(request.outputs.values()) else (body, None)


def _to_bytes(values: list[list[float]] | list[float] | list[str], datatype: str) -> bytes:
    if datatype == "FP32":
        return np.array(values, "<f4").tobytes()
    texts = [str(value).encode() for value in values]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)
