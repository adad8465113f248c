"""Calibrate a detector's scores, so that it counts right at the service's threshold.

A detector trained for average precision ranks its boxes well, but nothing makes 0.25 the score at
which it finds as many products as there are. One constant added to every score's logit does (Platt
scaling with the slope left at 1; https://en.wikipedia.org/wiki/Platt_scaling): the order of the
boxes stays, and with it average precision. INT8 moves scores a little, so what ships is calibrated
again after it was quantised.

Then a logistic regression learns from the same photos what the boxes around a product say of it
(`function.context`); its weights go into the file's metadata, and with them how large products are
on those photos: what is much larger is looked at from further off (`function.tiles`).
"""

from __future__ import annotations

import argparse
import ast
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from function.boxes import Floats, Ints, pairwise_iou
from function.context import (
    ALONE,
    LEAST,
    METADATA,
    TERMS,
    Bounds,
    Context,
    logit,
    sigmoid,
    terms_of,
)
from function.detector import Detector
from function.errors import ModelError
from function.tiles import SIDE, input_scale, shorter_sides
from model.evaluate import COUNT_CONFIDENCE, PROTOCOL
from model.gate import GateError, head_of, load_model, metadata_of
from model.labelled import LabelledPhoto, read_dataset, read_gaps
from model.photos import DatasetError, progress, read_photo, spread

PHOTOS = 200  # more move the result by less than a hundredth
# Where the right threshold is looked for: beyond, the model is not one to calibrate.
SCORES = np.linspace(0.02, 0.9, 353)
LOGITS = np.linspace(-15, 15, 1501)  # of scores that a fit has moved anywhere
SHIFT = "score_shift"  # the metadata that keeps what was added
MATCHING_IOU = 0.5
# Newton's steps: five are enough where the boxes tell right from wrong. The penalty keeps a term
# that says nothing where it was, and is little beside the thousand boxes of a photo.
STEPS, PENALTY = 50, 1e-2
# Boxes for which a score is worth less than a fifth of itself do not tell right from wrong.
LEAST_SCORE = 0.2


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a detector finds on a photo, and what is labelled there: one kind of the two."""

    xyxy: Floats  # (n, 4) in pixels, best first
    confidence: Floats  # (n,)
    class_id: Ints  # (n,)
    bounds: Bounds  # of the photo
    labelled: Floats  # (m, 4) in pixels
    grouped: bool  # more is labelled, as groups


def find(detector: Detector, photos: list[LabelledPhoto], *, gaps: bool = False) -> list[Found]:
    """Look for products on photos with the network's own scores; or for gaps, all labels."""
    plain = replace(detector, model=replace(detector.model, context=ALONE))
    return [_find(plain, photo, gaps) for photo in progress(photos, "counting: photo")]


def _find(detector: Detector, photo: LabelledPhoto, gaps: bool) -> Found:
    image = read_photo(photo.path, detector.model.input_size)
    found = detector.detect(image, PROTOCOL)
    xyxy, confidence, class_id = found.xyxy, found.confidence, found.class_id
    if gaps:
        xyxy, confidence = found.gap_xyxy, found.gap_confidence
        class_id = np.zeros(len(xyxy), np.int64)
    of_kind = gaps | ~photo.gaps(detector.model.gap_classes)
    return Found(
        xyxy=xyxy,
        confidence=confidence,
        class_id=class_id,
        bounds=(0, 0, image.width, image.height),
        labelled=photo.xyxy(image)[of_kind & ~photo.crowd].astype(np.float32),
        grouped=bool((of_kind & photo.crowd).any()),
    )


def right_threshold(
    scored: Sequence[tuple[npt.NDArray[np.floating], int]],
    thresholds: npt.NDArray[np.float64] = SCORES,
) -> float:
    """Return the threshold at which half of the photos count too many products and half too few.

    Takes each photo's scores and true count; photos without a product do not vote. Raises
    `GateError` where none of the `thresholds` is right.
    """
    scored = [(scores, count) for scores, count in scored if count]
    excess = [
        [(scores >= threshold).sum() / count - 1 for scores, count in scored]
        for threshold in thresholds
    ]
    bias = np.median(excess, axis=1) if scored else np.array([-1.0])
    if not bias[0] >= 0 >= bias[-1]:
        between = f"between {thresholds[0]:g} and {thresholds[-1]:g}"
        msg = f"no threshold {between} counts {len(scored)} photos right"
        raise GateError(msg)
    right = np.abs(bias) == np.abs(bias).min()
    return float(thresholds[right].mean())


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


def fit_context(found: list[Found]) -> Context:
    """Learn what the boxes of photos say of each other, so that 0.25 still counts right.

    Raises `GateError` as `right_threshold` does.
    """
    terms = [terms_of(of.xyxy, of.confidence, of.class_id, of.bounds) for of in found]
    # A box in a group may be right or wrong.
    alone = [index for index, of in enumerate(found) if not of.grouped]
    none = np.zeros((0, len(TERMS)), np.float32)
    weights = _regress(
        np.concatenate([none, *(terms[index] for index in alone)]),
        np.concatenate([none[:, 0], *(_is_right(found[index]) for index in alone)]),
    )
    moved = [(rows @ weights, len(of.labelled)) for rows, of in zip(terms, found, strict=True)]
    weights[TERMS.index("one")] += logit(COUNT_CONFIDENCE) - right_threshold(moved, LOGITS)
    if weights[TERMS.index("score")] < LEAST_SCORE:
        return ALONE
    try:
        return Context.read(Context(weights=tuple(weights.tolist())).text())
    except ValueError:
        return ALONE


def _is_right(of: Found) -> npt.NDArray[np.bool_]:
    """Tell which boxes (n,) are labelled: COCO's matching, best boxes first."""
    iou = pairwise_iou(of.xyxy, of.labelled)
    right = np.zeros(len(iou), np.bool_)
    for box in np.flatnonzero((iou >= MATCHING_IOU).any(axis=1)):
        label = iou[box].argmax()
        right[box] = iou[box, label] >= MATCHING_IOU
        iou[:, label] *= ~right[box]  # a label is found once
    return right


def _regress(terms: Floats, right: Floats) -> npt.NDArray[np.float64]:
    """Fit logistic regression: rows (n, t) and answers (n,) of 0 or 1 give weights (t,).

    Newton's method, each step halved until it is one for the better.
    """
    rows = terms.astype(np.float64)
    start = np.array(ALONE.weights)  # the scores as they are
    weights = start.copy()

    def loss(of: npt.NDArray[np.float64]) -> float:
        logits = rows @ of
        penalty = PENALTY / 2 * np.square(of - start).sum()
        return float((np.logaddexp(0, logits) - right * logits).sum() + penalty)

    for _ in range(STEPS):
        chance = sigmoid(rows @ weights)
        slope = rows.T @ (right - chance) - PENALTY * (weights - start)
        bend = (rows.T * (chance * (1 - chance))) @ rows + PENALTY * np.eye(len(weights))
        step, now = np.linalg.solve(bend, slope), loss(weights)
        while loss(weights + step) > now and np.abs(step).max() > LEAST:
            step /= 2
        weights += step
    return weights


def product_side(found: Sequence[Found], size: tuple[int, int]) -> float:
    """Return the median of the photos' medians of their products' shorter sides, in input pixels.

    Takes the model's input (width, height). Infinite where no photo has a product.
    """
    sides = [
        float(np.median(shorter_sides(of.labelled))) * input_scale(of.bounds[2], of.bounds[3], size)
        for of in found
        if len(of.labelled)
    ]
    return float(np.median(sides)) if sides else math.inf


def _shifted(found: list[Found], shift: float) -> list[Found]:
    """Return what would be found with `shift` on every logit."""
    times = np.float32(math.exp(shift))
    odds = [times * of.confidence / np.maximum(1 - of.confidence, LEAST) for of in found]
    moved = [(of / (1 + of)).astype(np.float32) for of in odds]
    return [replace(of, confidence=new) for of, new in zip(found, moved, strict=True)]


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
        found = find(detector, spread(photos, PHOTOS), gaps=kind == "gaps")
        threshold = right_threshold([(of.confidence, len(of.labelled)) for of in found])
        done[kind] = threshold, logit(COUNT_CONFIDENCE) - logit(threshold)
        model = shift_scores(model, done[kind][1], classes)
        if kind == "products":
            context = fit_context(_shifted(found, done[kind][1]))
            side = f"{product_side(found, detector.model.input_size):.1f}"
            learned = {METADATA: context.text(), SIDE: side}
            helper.set_model_props(model, metadata_of(model) | learned)
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
    learned = metadata_of(load_model(args.output))
    print(f"{METADATA} of products: {learned[METADATA]}; their shorter sides: {learned[SIDE]} px")
    print(f"wrote {args.output}")


if __name__ == "__main__":
    main()
