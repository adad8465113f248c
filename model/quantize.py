"""Turn a float Ultralytics ONNX export into the INT8 file that the service ships.

Static QDQ with U8 activations and S8 weights per channel: on x86 the S8S8 default leaves every
convolution before a SiLU in float. `reduce_range` keeps seven weight bits, as CPUs without VNNI
saturate otherwise. The head's decode stays in float: one INT8 scale over box pixels and
probabilities would round every score to a few values.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from function.detector import preprocess, to_float_nchw
from function.image import read_image

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
MAX_OPSET = 20  # ONNX Runtime's static quantisation does not know later ones
MAX_MEGABYTES = 10.0
CHECKED_PHOTOS = 8
# Fewer distinct scores on a full shelf mean that the decode was quantised.
MIN_DISTINCT_SCORES = 50
COMPARED_ANCHORS = 300  # the best of a photo: about two for each product on a shelf
MAX_SCORE_DIFFERENCE = 0.05  # mean over the compared anchors
# x / 255 quantised at scale 1/255 is x again: see take_pixels.
PIXEL_SCALE = {"scale": np.array(1 / 255, np.float32), "zero_point": np.array(0, np.uint8)}
FLOAT_CONVOLUTIONS = {"Conv", "FusedConv", "NhwcFusedConv"}


class QuantizationError(Exception):
    """The input cannot be quantised or the result is not good enough; says why."""


@dataclass(frozen=True)
class Report:
    """What the finished file was seen to do."""

    nodes: dict[str, int]  # of the optimised graph
    megabytes: float
    distinct_scores: int  # the fewest on one photo
    score_difference: float  # INT8 against float, mean over the best anchors
    pixel_difference: float  # uint8 NHWC input against float NCHW, largest


def load_float(path: Path) -> onnx.ModelProto:
    """Read an Ultralytics float export: static (1, 3, H, W), opset 20 at most.

    Raises `QuantizationError` for anything else.
    """
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as err:  # the parser and the checker raise a dozen unrelated types
        msg = f"{path} is missing or not an ONNX model"
        raise QuantizationError(msg) from err
    shape = [axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim]
    kind = model.graph.input[0].type.tensor_type.elem_type
    if kind != TensorProto.FLOAT or len(shape) != 4 or shape[:2] != [1, 3] or 0 in shape:
        msg = f"{path} takes {shape}, not one static float image (1, 3, H, W)"
        raise QuantizationError(msg)
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset > MAX_OPSET:
        msg = f"{path} has opset {opset}, static quantisation knows {MAX_OPSET} at most"
        raise QuantizationError(msg)
    if "names" not in _metadata(model):
        msg = f"{path} names no classes; export it with model.export"
        raise QuantizationError(msg)
    return model


def input_size(model: onnx.ModelProto) -> tuple[int, int]:
    """Return (width, height) of a float export's input."""
    shape = model.graph.input[0].type.tensor_type.shape.dim
    return shape[3].dim_value, shape[2].dim_value


def float_nodes(model: onnx.ModelProto) -> list[str]:
    """Name the nodes that stay in float: the decode and the last convolution of each branch.

    The head is the last `/model.N/` of an Ultralytics export. Its `dfl` convolution belongs to
    the decode: in INT8 it costs a point of AP. Raises `QuantizationError` where there is no head.
    """
    names = [node.name for node in model.graph.node]
    blocks = [int(match[1]) for name in names if (match := re.match(r"/model\.(\d+)/", name))]
    head = f"/model.{max(blocks, default=0)}/"
    last = re.compile(re.escape(head) + r"(cv[23]\.\d+/cv[23]\.\d+\.2|dfl/.*)/")
    kept = [
        node.name
        for node in model.graph.node
        if node.name.startswith(head)
        and "/act/" not in node.name
        and (node.op_type != "Conv" or last.match(node.name))
    ]
    if not any(last.match(name) for name in kept):
        msg = "The graph has no YOLO detection head: no /model.N/cv2.i/cv2.i.2/ convolution"
        raise QuantizationError(msg)
    return kept


def find_photos(folder: Path, count: int) -> list[Path]:
    """Choose `count` photos spread evenly over a folder and those below it.

    Raises `QuantizationError` when there are none.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PHOTO_SUFFIXES)
    if not found:
        msg = f"{folder} holds no photos ({', '.join(sorted(PHOTO_SUFFIXES))})"
        raise QuantizationError(msg)
    step = max(len(found) / count, 1)
    return [found[int(index * step)] for index in range(min(count, len(found)))]


def read_tensor(photo: Path, size: tuple[int, int]) -> Pixels:
    """Read a photo as the service does, into a tensor (1, H, W, 3)."""
    tensor, _ = preprocess(read_image(photo.read_bytes(), size), size)
    return tensor


class CalibrationPhotos:
    """Feeds photos to ONNX Runtime's calibrator, which asks for `get_next` until None."""

    def __init__(self, photos: list[Path], size: tuple[int, int], input_name: str) -> None:
        self._feeds: Iterator[dict[str, Floats]] = (
            {input_name: to_float_nchw(read_tensor(photo, size))} for photo in photos
        )

    def get_next(self) -> dict[str, Floats] | None:
        """Return the next feed."""
        return next(self._feeds, None)


def quantize(model: onnx.ModelProto, photos: list[Path]) -> onnx.ModelProto:
    """Quantise a float export by what its tensors hold on `photos`; the input stays float."""
    image = model.graph.input[0].name
    with tempfile.TemporaryDirectory() as folder:
        original, prepared, quantized = (Path(folder, f"{step}.onnx") for step in range(3))
        onnx.save(model, original)  # given a ModelProto, quant_pre_process empties it
        quant_pre_process(original, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantized,
            CalibrationPhotos(photos, input_size(model), image),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=float_nodes(onnx.load(prepared)),
            extra_options={
                # The mean of the photos' extremes: one outlier in one photo would coarsen a whole
                # tensor. Measured on SKU-110K: INT8 loses 0.2 points of AP instead of 0.8.
                "CalibMovingAverage": True,
                "TensorQuantOverrides": {image: [PIXEL_SCALE]},
            },
        )
        return onnx.load(quantized)


def take_pixels(quantized: onnx.ModelProto) -> onnx.ModelProto:
    """Replace the float input by `pixels` (1, H, W, 3) uint8.

    x / 255 quantised at scale 1/255 is x again, so the pixels go straight into the first
    DequantizeLinear, behind a Transpose that the optimiser removes. Same outputs, to the bit.
    """
    model = onnx.ModelProto()
    model.CopyFrom(quantized)
    graph = model.graph
    image = graph.input[0].name
    readers = [node for node in graph.node if image in node.input]
    if len(readers) != 1 or readers[0].op_type != "QuantizeLinear":
        msg = f"The input {image} goes into more than one quantisation"
        raise QuantizationError(msg)
    width, height = input_size(model)
    transpose = helper.make_node(
        "Transpose", ["pixels"], list(readers[0].output), "/pixels/Transpose", perm=[0, 3, 1, 2]
    )
    nodes = [transpose, *(node for node in graph.node if node is not readers[0])]
    del graph.node[:], graph.input[:]
    graph.node.extend(nodes)
    graph.input.append(
        helper.make_tensor_value_info("pixels", TensorProto.UINT8, [1, height, width, 3])
    )
    return model


def describe(model: onnx.ModelProto, metadata: dict[str, str]) -> None:
    """Set the file's metadata and drop the operator sets that no node uses."""
    del model.metadata_props[:]
    helper.set_model_props(model, metadata)
    used = {node.domain for node in model.graph.node}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    if foreign := used - {"", "ai.onnx"}:
        msg = f"The file needs operators outside ONNX: {', '.join(sorted(foreign))}"
        raise QuantizationError(msg)
    onnx.checker.check_model(model)


def check(
    parent: onnx.ModelProto, quantized: onnx.ModelProto, path: Path, photos: list[Path]
) -> Report:
    """Measure the finished file at `path` against its float parent and its float-input twin.

    Raises `QuantizationError` when it is not INT8, not the same or not close enough.
    """
    kept = set(float_nodes(parent))
    report = Report(
        optimised_nodes(path, kept),
        path.stat().st_size / 1e6,
        *_compare(parent, quantized, path, photos[:CHECKED_PHOTOS]),
    )
    failures = {
        f"{report.megabytes:.1f} MB, at most {MAX_MEGABYTES}": report.megabytes > MAX_MEGABYTES,
        f"{report.distinct_scores} distinct scores on a photo, at least {MIN_DISTINCT_SCORES}": (
            report.distinct_scores < MIN_DISTINCT_SCORES
        ),
        f"scores differ by {report.score_difference:.3f}, at most {MAX_SCORE_DIFFERENCE}": (
            report.score_difference > MAX_SCORE_DIFFERENCE
        ),
        f"uint8 input changes the output by {report.pixel_difference}": (
            report.pixel_difference != 0
        ),
    }
    if said := [reason for reason, failed in failures.items() if failed]:
        msg = f"{path} fails its check: {'; '.join(said)}"
        raise QuantizationError(msg)
    return report


def optimised_nodes(path: Path, kept: set[str]) -> dict[str, int]:
    """Count the operators that ONNX Runtime really runs.

    Raises `QuantizationError` when a convolution outside `kept` runs in float.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        # One level below ALL, whose layouts belong to this CPU.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(Path(folder, "optimised.onnx"))
        ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        nodes = onnx.load(options.optimized_model_filepath).graph.node
    in_float = {node.name for node in nodes if node.op_type in FLOAT_CONVOLUTIONS} - kept
    if in_float:
        msg = f"{path} runs {len(in_float)} convolutions in float, e.g. {min(in_float)}"
        raise QuantizationError(msg)
    operators = [node.op_type for node in nodes]
    return {operator: operators.count(operator) for operator in sorted(set(operators))}


def _compare(
    parent: onnx.ModelProto, quantized: onnx.ModelProto, path: Path, photos: list[Path]
) -> tuple[int, float, float]:
    """Return distinct scores (fewest), score difference (mean), pixel difference (largest)."""
    size = input_size(parent)
    original, twin, finished = (
        _session(source)
        for source in (parent.SerializeToString(), quantized.SerializeToString(), path)
    )
    distinct, differences, pixel_differences = [], [], []
    for photo in photos:
        tensor = read_tensor(photo, size)
        expected = _run(original, to_float_nchw(tensor))
        output = _run(finished, tensor)
        distinct.append(len(np.unique(output[:, 4:])))
        best = np.argsort(expected[0, 4:].max(axis=0))[-COMPARED_ANCHORS:]
        differences.append(np.abs(output[0, 4:, best] - expected[0, 4:, best]).mean())
        pixel_differences.append(np.abs(output - _run(twin, to_float_nchw(tensor))).max())
    return min(distinct), float(np.mean(differences)), float(max(pixel_differences))


def _session(source: bytes | Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _run(session: ort.InferenceSession, tensor: Pixels | Floats) -> Floats:
    """Run one tensor; the output is (1, 4 + classes, anchors)."""
    output: Floats = session.run(None, {session.get_inputs()[0].name: tensor})[0]
    return output


def _metadata(model: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def _table(report: Report) -> str:
    """Format the report, a line a fact."""
    shown = ("QLinearConv", "QLinearSigmoid", "QLinearMul", "Conv")
    rows = {
        **{f"{operator} nodes": str(report.nodes.get(operator, 0)) for operator in shown},
        "other nodes": str(sum(n for op, n in report.nodes.items() if op not in shown)),
        "size": f"{report.megabytes:.2f} MB",
        "distinct scores a photo": f">= {report.distinct_scores}",
        "score difference to float": f"{report.score_difference:.4f} (best {COMPARED_ANCHORS})",
        "uint8 against float input": f"{report.pixel_difference} (largest difference)",
    }
    return "\n".join(f"{name:<26} {value}" for name, value in rows.items())


def build(args: argparse.Namespace) -> Report:
    """Quantise, write and check as the command line says."""
    parent = load_float(args.model)
    photos = find_photos(args.calibration, args.images)
    quantized = quantize(parent, photos)
    finished = take_pixels(quantized)
    metadata = _metadata(parent)
    added = {
        "description": args.name,  # the exporter's names a path of the machine that trained
        "name": args.name,
        "precision": "int8",
        "training_data": args.training_data,
        "license": args.license or metadata.get("license", "unknown"),
        "parent": "sha256:" + hashlib.sha256(args.model.read_bytes()).hexdigest(),
        "calibration": f"mean MinMax of {len(photos)} photos",
    }
    describe(finished, metadata | added)
    # Checked under another name, so that a bad result never takes the place of a good one.
    draft = args.output.with_suffix(".draft.onnx")
    try:
        onnx.save(finished, draft)
        report = check(parent, quantized, draft, photos)
        draft.replace(args.output)
    finally:
        draft.unlink(missing_ok=True)
    return report


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m model.quantize", description=__doc__)
    parser.add_argument("model", type=Path, help="float ONNX file of model.export")
    parser.add_argument(
        "--calibration", type=Path, required=True, help="folder of photos like the real ones"
    )
    parser.add_argument("--output", type=Path, required=True, help="INT8 ONNX file to write")
    parser.add_argument("--images", type=int, default=128, help="photos to calibrate on (128)")
    parser.add_argument("--name", default="shelf-yolo11n", help="model name in every result")
    parser.add_argument("--training-data", default="unknown", help="what it was trained on")
    parser.add_argument("--license", help="of the weights; the parent's unless given")
    args = parser.parse_args(argv)
    try:
        report = build(args)
    except QuantizationError as err:
        sys.exit(str(err))
    print(_table(report))
    digest = hashlib.sha256(args.output.read_bytes()).hexdigest()
    print(f"wrote {args.output}\nsha256:{digest}")


if __name__ == "__main__":
    main()
