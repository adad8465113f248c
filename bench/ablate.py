"""Measure what each choice of the INT8 recipe is worth, in accuracy and in time.

    python -m bench.ablate float.onnx --calibration photos/images/train --data photos/images/val

The variants are quantised one after another from the same calibration and scored like
`model.evaluate`; then all run in turns, so that other work on the machine slows them alike. INT8
times depend on the processor: the table names it.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from function.detector import Detector, to_float_nchw
from function.errors import ModelError
from model.evaluate import CAPS, PROTOCOL, evaluate
from model.gate import FLOAT_CONVOLUTIONS, GateError, load_float, metadata_of, optimised
from model.labelled import read_dataset
from model.options import at_least
from model.photos import DatasetError, find_photos, progress, read_tensor
from model.quantize import (
    SHIPPED,
    QuantizationError,
    Recipe,
    input_size,
    quantize,
    take_pixels,
)

FLOAT = "float (FP32)"
FUSED = "as shipped, activations in float, fused to QuickGelu"
VARIANTS = {
    "plain: only the decode in float, extremes over all photos": Recipe(
        last_convolutions_in_float=False, mean_of_extremes=False
    ),
    "plain, mean of the photos' extremes": Recipe(last_convolutions_in_float=False),
    "plain, last head convolutions in float": Recipe(mean_of_extremes=False),
    "as shipped: both of these": SHIPPED,
    "as shipped, first convolution in float": Recipe(in_float=r"^/model\.0/conv/"),
    "as shipped, attention in float": Recipe(in_float="/attn/"),
    "as shipped, activations in float": Recipe(in_float="/act/"),
    FUSED: Recipe(in_float="QuickGelu"),
    "as shipped, eight weight bits (reduce_range off)": Recipe(reduce_range=False),
}


def fuse_activations(model: onnx.ModelProto) -> onnx.ModelProto:
    """Let ONNX Runtime make one QuickGelu of each sigmoid and product, before quantisation."""
    fused = optimised(model.SerializeToString())
    for node in fused.graph.node:
        if node.op_type == "QuickGelu":
            node.name = f"QuickGelu {node.output[0]}"
            # ONNX's shape inference does not know the operator, and the quantiser wants types.
            output = helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)
            fused.graph.value_info.append(output)
    return fused


def build(parent: onnx.ModelProto, photos: list[Path], name: str, ranges: Path, path: Path) -> None:
    """Quantise one variant and write it; pixels go in as uint8 where the input is quantised."""
    recipe = VARIANTS[name]
    source = fuse_activations(parent) if name == FUSED else parent
    kind = f"{recipe.mean_of_extremes}-{name == FUSED}.json"
    quantized = quantize(source, photos, recipe, ranges / kind)
    try:
        quantized = take_pixels(quantized)
    except QuantizationError:  # a first convolution in float takes no uint8
        print(f"{name}: takes float pixels", file=sys.stderr)
    del quantized.metadata_props[:]
    helper.set_model_props(quantized, metadata_of(parent) | {"name": name})
    onnx.save(quantized, path)


def float_convolutions(detector_file: Path) -> int:
    """Count the convolutions that run in float."""
    nodes = optimised(detector_file).graph.node
    return sum(node.op_type in FLOAT_CONVOLUTIONS for node in nodes)


def times(detectors: dict[str, Detector], photo: Path, rounds: int) -> dict[str, list[float]]:
    """Measure a bare inference of each in turns, milliseconds.

    The order changes each round: each model finds the caches as the one before left them.
    """
    taken: dict[str, list[float]] = {name: [] for name in detectors}
    tensor = read_tensor(photo, next(iter(detectors.values())).model.input_size)
    planes = to_float_nchw(tensor)
    for _ in progress(range(rounds), "timing: round"):
        for name in random.sample(list(detectors), len(detectors)):
            detector = detectors[name]
            fed = tensor if detector.model.input_dtype == np.uint8 else planes
            start = time.perf_counter()
            detector.session.run(None, {detector.model.input_name: fed})
            taken[name].append((time.perf_counter() - start) * 1000)
    return taken


def main() -> None:
    """Run the command line and print a Markdown table."""
    parser = argparse.ArgumentParser(prog="python -m bench.ablate", description=__doc__)
    add = parser.add_argument
    add("model", type=Path, help="float ONNX file of model.export")
    add("--calibration", type=Path, required=True, help="folder of photos to calibrate on")
    add("--data", type=Path, required=True, help="labelled photos, as for model.evaluate")
    add("--photos", type=Path, help="folder of a COCO file's photos")
    add("--images", type=at_least(1), default=300, help="photos to calibrate on (300)")
    add("--rounds", type=at_least(1), default=30, help="of the timing (30)")
    add("--output", type=Path, help="folder that keeps the files; none unless given")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        try:
            run(args, args.output or Path(temporary))
        except (DatasetError, GateError, ModelError, QuantizationError) as err:
            sys.exit(str(err))


def run(args: argparse.Namespace, folder: Path) -> None:
    """Build, score and time every variant."""
    folder.mkdir(parents=True, exist_ok=True)
    parent = load_float(args.model)
    labelled = read_dataset(args.data, args.photos)
    photos = find_photos(args.calibration, args.images)
    files = {FLOAT: args.model}
    for index, name in enumerate(VARIANTS):
        files[name] = folder / f"{index}.onnx"
        build(parent, photos, name, folder, files[name])
    detectors = {name: Detector.load(path) for name, path in files.items()}
    for detector in detectors.values():
        detector.warm_up()
    taken = times(detectors, photos[0], args.rounds)
    whole = statistics.median(taken[FLOAT])
    isa = detectors[FLOAT].cpu_isa
    print(
        f"{args.model.name}, {input_size(parent)[0]} px, {len(labelled)} photos, {len(photos)} to "
        f"calibrate on, NMS IoU {PROTOCOL.iou}, at most {CAPS[1]} boxes; {isa}, "
        f"median of {args.rounds} rounds\n"
    )
    print("| variant | AP50 | AP75 | AP50-95 | count error median | ms | of FP32 | float Conv |")
    print("|---|---|---|---|---|---|---|---|")
    for name, detector in detectors.items():
        scores = evaluate(detector, labelled)
        precision = scores.precision[CAPS[1]]
        milliseconds = statistics.median(taken[name])
        print(
            f"| {name} | {precision.ap50:.3f} | {precision.ap75:.3f} | {precision.ap50_95:.3f} | "
            f"{np.median(scores.count_errors) * 100:.1f} % | {milliseconds:.0f} | "
            f"{milliseconds / whole:.2f} | {float_convolutions(files[name])} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
