"""What a detector file must be before it may ship, checked on the file itself.

`python -m model.gate model/shelf.onnx` prints what it saw, or why the file is refused. `make model`
ends with it and the tests hold the shipped file to it.
"""

from __future__ import annotations

import argparse
import math
import re
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto

from function.detector import Detector
from function.errors import ModelError
from function.image import Image
from model.render import render_shelf

MAX_OPSET = 20  # ONNX Runtime's static quantisation does not know later ones
MAX_MEGABYTES = 10.0  # of a file in Git
# Fewer distinct scores on a full shelf mean that the decode was quantised.
MIN_DISTINCT_SCORES = 50
SAMPLES = 3  # drawn shelves to look at
METADATA = ("name", "names", "stride", "imgsz", "precision", "training_data", "license", "parent")
FLOAT_CONVOLUTIONS = {"Conv", "FusedConv", "NhwcFusedConv"}


class GateError(Exception):
    """The file may not ship; says why in one sentence."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the file was seen to be and do."""

    name: str
    digest: str
    license: str
    megabytes: float
    nodes: dict[str, int]  # of the optimised graph
    distinct_scores: int  # the fewest on one picture


def load_model(path: Path) -> onnx.ModelProto:
    """Read and check an ONNX file. Raises `GateError`."""
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as err:  # the parser and the checker raise a dozen unrelated types
        msg = f"{path} is missing or not an ONNX model"
        raise GateError(msg) from err
    return model


def load_float(path: Path) -> onnx.ModelProto:
    """Read an Ultralytics float export: static (1, 3, H, W), opset 20 at most, classes named.

    Raises `GateError` for anything else.
    """
    model = load_model(path)
    shape = [axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim]
    kind = model.graph.input[0].type.tensor_type.elem_type
    if kind != TensorProto.FLOAT or len(shape) != 4 or shape[:2] != [1, 3] or 0 in shape:
        msg = f"{path} takes {shape}, not one static float image (1, 3, H, W)"
        raise GateError(msg)
    if (opset := opset_of(model)) > MAX_OPSET:
        msg = f"{path} has opset {opset}, static quantisation knows {MAX_OPSET} at most"
        raise GateError(msg)
    if "names" not in metadata_of(model):
        msg = f"{path} names no classes; export it with model.export"
        raise GateError(msg)
    return model


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of ONNX's own operators."""
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    return int(max(versions, default=0))


def metadata_of(model: onnx.ModelProto) -> dict[str, str]:
    """Return the file's metadata."""
    return {entry.key: entry.value for entry in model.metadata_props}


def head_of(model: onnx.ModelProto) -> str:
    """Return the prefix of the head's nodes: the last /model.N/ of an Ultralytics export."""
    names = (node.name for node in model.graph.node)
    blocks = [int(match[1]) for name in names if (match := re.match(r"/model\.(\d+)/", name))]
    return f"/model.{max(blocks, default=0)}/"


def last_convolutions(model: onnx.ModelProto) -> re.Pattern[str]:
    """Match the convolutions that may run in float: each head branch's last, and the decode's.

    The decode's is `dfl`: in INT8 it costs a point of AP.
    """
    return re.compile(re.escape(head_of(model)) + r"(cv[23]\.\d+/cv[23]\.\d+\.2|dfl)/")


def optimised(model: Path | bytes) -> onnx.ModelProto:
    """Return the graph that ONNX Runtime makes of a file, or of its bytes."""
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        # One level below ALL, whose layouts belong to this CPU.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(Path(folder, "optimised.onnx"))
        ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)


def int8_nodes(path: Path) -> dict[str, int]:
    """Count the operators that ONNX Runtime really runs.

    Raises `GateError` when a convolution outside `last_convolutions` runs in float, or none in
    INT8.
    """
    nodes = optimised(path).graph.node
    last = last_convolutions(load_model(path))
    in_float = [
        node.name
        for node in nodes
        if node.op_type in FLOAT_CONVOLUTIONS and not last.match(node.name)
    ]
    if in_float:
        msg = f"{path} runs {len(in_float)} convolutions in float, e.g. {min(in_float)}"
        raise GateError(msg)
    operators = [node.op_type for node in nodes]
    if "QLinearConv" not in operators:
        msg = f"{path} runs no convolution in INT8"
        raise GateError(msg)
    return {operator: operators.count(operator) for operator in sorted(set(operators))}


@cache
def _samples() -> list[Image]:
    pictures = [render_shelf(seed).image for seed in range(SAMPLES)]
    return [Image.of(pixels) for pixels in pictures]


def distinct_scores(detector: Detector) -> int:
    """Count the distinct scores on drawn shelves, the fewest of one picture."""
    counts = []
    for image in _samples():
        tensor, _ = detector.preprocess(image)
        output = detector.session.run(None, {detector.model.input_name: tensor})[0]
        counts.append(len(np.unique(output[:, 4:])))
    return min(counts)


def gate(path: Path, max_megabytes: float = math.inf) -> Report:
    """Look at a file as it would ship. Raises `GateError` with what is against it."""
    model = load_model(path)
    metadata = metadata_of(model)
    try:
        detector = Detector.load(path)
        detector.warm_up()
    except ModelError as err:
        raise GateError(str(err)) from err
    if detector.model.input_dtype != np.uint8:
        msg = f"{path} takes float pixels; model.quantize makes it take uint8"
        raise GateError(msg)
    report = Report(
        name=detector.model.name,
        digest=detector.model.digest,
        license=detector.model.license,
        megabytes=path.stat().st_size / 1e6,
        nodes=int8_nodes(path),
        distinct_scores=distinct_scores(detector),
    )
    missing = [key for key in METADATA if metadata.get(key, "unknown") == "unknown"]
    reasons = {
        f"its metadata lacks {', '.join(missing)}": bool(missing),
        f"it has opset {opset_of(model)}, at most {MAX_OPSET}": opset_of(model) > MAX_OPSET,
        f"it has {report.megabytes:.1f} MB, at most {max_megabytes}": (
            report.megabytes > max_megabytes
        ),
        f"it gives {report.distinct_scores} distinct scores, at least {MIN_DISTINCT_SCORES}": (
            report.distinct_scores < MIN_DISTINCT_SCORES
        ),
    }
    if said := [reason for reason, against in reasons.items() if against]:
        msg = f"{path} may not ship: {'; '.join(said)}"
        raise GateError(msg)
    return report


def check_card(report: Report, card: Path) -> None:
    """Hold the model card to the file it describes. Raises `GateError`."""
    if report.digest.removeprefix("sha256:") not in card.read_text():
        msg = f"{card} describes another file: {report.digest} is not in it"
        raise GateError(msg)


def table(report: Report) -> str:
    """Format the report, a line a fact."""
    shown = ("QLinearConv", "QLinearSigmoid", "QLinearMul", "Conv")
    rows = {
        "name": report.name,
        "licence": report.license,
        **{f"{operator} nodes": str(report.nodes.get(operator, 0)) for operator in shown},
        "other nodes": str(sum(n for op, n in report.nodes.items() if op not in shown)),
        "size": f"{report.megabytes:.2f} MB",
        "distinct scores a picture": f">= {report.distinct_scores}",
        "digest": report.digest,
    }
    return "\n".join(f"{name:<26} {value}" for name, value in rows.items())


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m model.gate", description=__doc__)
    parser.add_argument("model", type=Path, help="INT8 file of model.quantize")
    parser.add_argument("--card", type=Path, help="model card that must name the file's digest")
    parser.add_argument(
        "--max-megabytes", type=float, default=math.inf, help=f"{MAX_MEGABYTES:.0f} for Git"
    )
    args = parser.parse_args(argv)
    try:
        report = gate(args.model, args.max_megabytes)
        if args.card:
            check_card(report, args.card)
    except GateError as err:
        sys.exit(str(err))
    print(table(report))


if __name__ == "__main__":
    main()
