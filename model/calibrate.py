"""Calibrate a detector's scores, so that it counts right at the service's threshold.

A detector trained for average precision ranks its boxes well, but nothing makes 0.25 the score at
which it finds as many products as there are. One constant added to every score's logit does (Platt
scaling with the slope left at 1; https://en.wikipedia.org/wiki/Platt_scaling): the order of the
boxes stays, and with it average precision. INT8 moves scores a little, so what ships is calibrated
again after it was quantised.
"""

from __future__ import annotations

import argparse
import ast
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from function.detector import Detector, Timings
from function.errors import ModelError
from model.evaluate import COUNT_CONFIDENCE, PROTOCOL
from model.gate import GateError, head_of, load_model, metadata_of
from model.labelled import LabelledPhoto, read_dataset, read_gaps
from model.photos import DatasetError, progress, read_photo

Floats = npt.NDArray[np.float64]

PHOTOS = 200  # more move the result by less than a hundredth
# Where the right threshold is looked for: beyond, the model is not one to calibrate.
LOWEST, HIGHEST, STEP = 0.02, 0.9, 0.0025
SHIFT = "score_shift"  # the metadata that keeps what was added


def scores_of(
    detector: Detector, photos: list[LabelledPhoto], *, gaps: bool = False
) -> list[tuple[Floats, int]]:
    """Return each photo's scores and how many products are labelled on it; or gaps, all labels."""
    scored = []
    for photo in progress(photos, "counting: photo"):
        image = read_photo(photo.path, detector.model.input_size)
        detections = detector.detect(image, PROTOCOL, Timings())
        if gaps:
            scored.append((detections.gap_confidence.astype(np.float64), photo.count))
        else:
            products = ~photo.crowd & ~np.isin(photo.class_id, detector.model.gap_classes)
            scored.append((detections.confidence.astype(np.float64), int(products.sum())))
    return scored


def right_threshold(scored: list[tuple[Floats, int]]) -> float:
    """Return the score at which half of the photos count too many products and half too few.

    Photos without a product do not vote. Raises `GateError` where there is no such score.
    """
    scored = [(scores, count) for scores, count in scored if count]
    thresholds = np.arange(LOWEST, HIGHEST, STEP)
    excess = [
        [(scores >= threshold).sum() / count - 1 for scores, count in scored]
        for threshold in thresholds
    ]
    bias = np.median(excess, axis=1) if scored else np.array([-1.0])
    if not bias[0] >= 0 >= bias[-1]:
        msg = f"no score between {LOWEST} and {HIGHEST} counts {len(scored)} photos right"
        raise GateError(msg)
    right = np.abs(bias) == np.abs(bias).min()
    return float(thresholds[right].mean())


def logit(score: float) -> float:
    """Return the number whose sigmoid is `score`."""
    return math.log(score / (1 - score))


def shift_scores(
    model: onnx.ModelProto, shift: float, classes: Sequence[int] = ()
) -> onnx.ModelProto:
    """Return the model with `shift` added to the logit of every score, or of those of `classes`.

    Raises `GateError` where the head has not exactly one sigmoid over the scores.
    """
    shifted = onnx.ModelProto()
    shifted.CopyFrom(model)
    head = head_of(shifted)
    name = f"{head}{SHIFT}"
    graph = shifted.graph
    count = len(ast.literal_eval(metadata_of(model)["names"]))
    before = [float(of) for of in metadata_of(model).get(SHIFT, "0").split(",")]
    total = np.broadcast_to(np.array(before, np.float32), count).copy()
    total[list(classes) or slice(None)] += shift
    shifts = ",".join(f"{of:.4f}" for of in total.tolist())
    helper.set_model_props(shifted, metadata_of(model) | {SHIFT: shifts})
    added = numpy_helper.from_array(total[:, None], name)
    for initializer in graph.initializer:
        if initializer.name == name:  # calibrated before
            initializer.CopyFrom(added)
            return shifted
    sigmoids = [
        (index, node)
        for index, node in enumerate(graph.node)
        if node.op_type == "Sigmoid" and node.name.startswith(head) and "/act/" not in node.name
    ]
    if len(sigmoids) != 1:
        msg = f"{len(sigmoids)} sigmoids over scores below {head}, not one"
        raise GateError(msg)
    index, sigmoid = sigmoids[0]
    graph.initializer.append(added)
    # Below the head's prefix, so that quantisation leaves it in float with the rest of the decode.
    node = helper.make_node("Add", [sigmoid.input[0], name], [f"{name}_out"], name)
    graph.node.insert(index, node)
    sigmoid.input[0] = f"{name}_out"
    return shifted


def build(args: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """Calibrate as the command line says; return the threshold that was right, and the shift."""
    model = load_model(args.model)
    detector = Detector.load(args.model)
    detector.warm_up()
    sets = {"products": (read_dataset(args.data), list(detector.model.products))}
    if args.gaps and detector.model.gap_classes:
        sets["gaps"] = (read_gaps(args.gaps), detector.model.gap_classes)
    done = {}
    for kind, (photos, classes) in sets.items():
        photos = photos[:: max(len(photos) // PHOTOS, 1)][:PHOTOS]
        threshold = right_threshold(scores_of(detector, photos, gaps=kind == "gaps"))
        done[kind] = threshold, logit(COUNT_CONFIDENCE) - logit(threshold)
        model = shift_scores(model, done[kind][1], classes)
    onnx.save(model, args.output)
    return done


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m model.calibrate", description=__doc__)
    parser.add_argument("model", type=Path, help="ONNX file of model.export or model.quantize")
    parser.add_argument(
        "--data", type=Path, required=True, help="labelled photos: images folder or COCO file"
    )
    parser.add_argument("--gaps", type=Path, help="folder of photos on which gaps are labelled")
    parser.add_argument("--output", type=Path, required=True, help="ONNX file to write")
    args = parser.parse_args(argv)
    try:
        done = build(args)
    except (DatasetError, GateError, ModelError) as err:
        sys.exit(str(err))
    for kind, (threshold, shift) in done.items():
        print(
            f"{kind} counted right at {threshold:.3f}; {shift:+.3f} on every logit makes it "
            f"{COUNT_CONFIDENCE}"
        )
    print(f"wrote {args.output}")


if __name__ == "__main__":
    main()
