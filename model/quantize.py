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

from function.detector import to_float_nchw
from model.gate import (
    MIN_DISTINCT_SCORES,
    GateError,
    head_of,
    int8_nodes,
    last_convolutions,
    load_float,
    metadata_of,
)
from model.options import at_least
from model.photos import DatasetError, find_photos, progress, read_tensor
from model.rewrite import rewrite
from model.shapes import ShapesError, free_sides

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]

CHECKED_PHOTOS = 8
COMPARED_ANCHORS = 300  # the best of a photo: about two for each product on a shelf
MAX_SCORE_DIFFERENCE = 0.05  # mean over the compared anchors
# x / 255 quantised at scale 1/255 is x again: see take_pixels.
PIXEL_SCALE = {"scale": np.array(1 / 255, np.float32), "zero_point": np.array(0, np.uint8)}


class QuantizationError(Exception):
    """The input cannot be quantised or the result is not good enough; says why."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the finished file was seen to do."""

    nodes: dict[str, int]  # of the optimised graph
    distinct_scores: int  # the fewest on one photo
    score_difference: float  # INT8 against float, mean over the best anchors
    pixel_difference: float  # uint8 NHWC input against float NCHW, largest
    sides: str  # that the input may have


def input_size(model: onnx.ModelProto) -> tuple[int, int]:
    """Return (width, height) of a float export's input."""
    shape = model.graph.input[0].type.tensor_type.shape.dim
    return shape[3].dim_value, shape[2].dim_value


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to quantise; the defaults are what ships, the rest measures what each is worth."""

    last_convolutions_in_float: bool = True
    in_float: str = ""  # regular expression of further node names, e.g. "/attn/"
    # Seven weight bits: without VNNI the sum of two U8 x S8 products saturates at eight.
    reduce_range: bool = True
    # The mean of the photos' extremes: one outlier in one photo would coarsen a whole tensor.
    # Measured on SKU-110K: INT8 loses 0.2 points of AP instead of 0.8.
    mean_of_extremes: bool = True


SHIPPED = Recipe()


def float_nodes(model: onnx.ModelProto, recipe: Recipe = SHIPPED) -> list[str]:
    """Name the nodes that stay in float: the decode and the last convolution of each branch.

    Raises `QuantizationError` where there is no head.
    """
    head, last = head_of(model), last_convolutions(model)
    if not any(last.match(node.name) for node in model.graph.node):
        msg = "The graph has no YOLO detection head: no /model.N/cv2.i/cv2.i.2/ convolution"
        raise QuantizationError(msg)
    return [
        node.name
        for node in model.graph.node
        if (recipe.in_float and re.search(recipe.in_float, node.name))
        or (
            node.name.startswith(head)
            and "/act/" not in node.name
            and (
                node.op_type != "Conv"
                or (recipe.last_convolutions_in_float and last.match(node.name))
            )
        )
    ]


class CalibrationPhotos:
    """Feeds photos to ONNX Runtime's calibrator, which asks for `get_next` until None."""

    def __init__(self, photos: list[Path], size: tuple[int, int], input_name: str) -> None:
        self._feeds: Iterator[dict[str, Floats]] = (
            {input_name: to_float_nchw(read_tensor(photo, size))}
            for photo in progress(photos, "calibrating: photo")
        )

    def get_next(self) -> dict[str, Floats] | None:
        """Return the next feed."""
        return next(self._feeds, None)


def quantize(
    model: onnx.ModelProto,
    photos: list[Path],
    recipe: Recipe = SHIPPED,
    ranges: Path | None = None,
) -> onnx.ModelProto:
    """Quantise a float export by what its tensors hold on `photos`; the input stays float.

    `ranges` is a file for what the calibration saw: written once, then read instead.
    """
    image = model.graph.input[0].name
    with tempfile.TemporaryDirectory() as folder:
        original, prepared, quantized = (Path(folder, f"{step}.onnx") for step in range(3))
        onnx.save(model, original)  # quant_pre_process would empty a ModelProto
        quant_pre_process(original, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            quantized,
            CalibrationPhotos(photos, input_size(model), image),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=recipe.reduce_range,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=float_nodes(onnx.load(prepared), recipe),
            extra_options={
                "CalibMovingAverage": recipe.mean_of_extremes,
                "TensorQuantOverrides": {image: [PIXEL_SCALE]},
            },
            calibration_cache_path=ranges,
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


def take_any_sides(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    """Free the sides of a file's input where its network allows it, and say what they may be."""
    shape = model.graph.input[0].type.tensor_type.shape.dim
    whole = f"{shape[2].dim_value} x {shape[1].dim_value}"
    try:
        freed = free_sides(model)
    except ShapesError as err:
        return model, f"{whole}; {err}"
    return freed, f"multiples of {metadata_of(model)['stride']} up to {whole}"


def check(
    parent: onnx.ModelProto, quantized: onnx.ModelProto, path: Path, photos: list[Path], sides: str
) -> Report:
    """Measure the finished file at `path` against its float parent and its float-input twin.

    Raises `GateError` when it is not INT8, `QuantizationError` when it is not close enough.
    """
    nodes = int8_nodes(path)
    distinct, scores, pixels = _compare(parent, quantized, path, photos[:CHECKED_PHOTOS])
    report = Report(
        nodes=nodes,
        distinct_scores=distinct,
        score_difference=scores,
        pixel_difference=pixels,
        sides=sides,
    )
    failures = {
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


def _table(report: Report) -> str:
    """Format the report, a line a fact."""
    shown = ("QLinearConv", "QLinearSigmoid", "QLinearMul", "Conv")
    rows = {
        **{f"{operator} nodes": str(report.nodes.get(operator, 0)) for operator in shown},
        "other nodes": str(sum(n for op, n in report.nodes.items() if op not in shown)),
        "distinct scores a photo": f">= {report.distinct_scores}",
        "score difference to float": f"{report.score_difference:.4f} (best {COMPARED_ANCHORS})",
        "uint8 against float input": f"{report.pixel_difference} (largest difference)",
        "sides of the input": report.sides,
    }
    return "\n".join(f"{name:<26} {value}" for name, value in rows.items())


def build(args: argparse.Namespace) -> Report:
    """Quantise, write and check as the command line says."""
    parent = load_float(args.model)
    photos = find_photos(args.calibration, args.images)
    quantized = rewrite(quantize(parent, photos))
    finished = take_pixels(quantized)
    metadata = metadata_of(parent)
    name = args.name or metadata.get("name", args.output.stem)
    added = {
        "description": name,  # the exporter wrote a path of the training machine
        "name": name,
        "precision": "int8",
        "training_data": args.training_data or metadata.get("training_data", "unknown"),
        "license": args.license or metadata.get("license", "unknown"),
        "parent": "sha256:" + hashlib.sha256(args.model.read_bytes()).hexdigest(),
        "calibration": f"mean MinMax of {len(photos)} photos",
    }
    describe(finished, metadata | added)
    finished, sides = take_any_sides(finished)
    # Checked under another name, so that a bad result never takes the place of a good one.
    draft = args.output.with_suffix(".draft.onnx")
    try:
        onnx.save(finished, draft)
        report = check(parent, quantized, draft, photos, sides)
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
    parser.add_argument(
        "--images", type=at_least(1), default=300, help="photos to calibrate on (300)"
    )
    parser.add_argument("--name", help="model name in every result; the parent's unless given")
    parser.add_argument(
        "--training-data", help="what it was trained on; as the parent says unless given"
    )
    parser.add_argument("--license", help="of the weights; the parent's unless given")
    args = parser.parse_args(argv)
    try:
        report = build(args)
    except (DatasetError, GateError, QuantizationError) as err:
        sys.exit(str(err))
    print(_table(report))
    digest = hashlib.sha256(args.output.read_bytes()).hexdigest()
    print(f"wrote {args.output}\nsha256:{digest}")


if __name__ == "__main__":
    main()
