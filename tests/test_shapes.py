from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper
from test_quantize import METADATA, SIDE, TinyYolo

from function.boxes import match_one_to_one, pairwise_iou
from function.detections import Thresholds
from function.detector import Detector
from function.image import Image
from model.render import render_shelf
from model.shapes import ShapesError, free_sides

SHIPPED = Path(__file__).parents[1] / "model/shelf.onnx"
STEP = 2  # the tiny network's stride


def run(model: onnx.ModelProto, image: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    output: npt.NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: image})[0]
    return output


def noise(height: int, width: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(2).random((1, 3, height, width), np.float32)


@pytest.mark.parametrize(
    ("height", "width"), [(STEP, STEP), (STEP, SIDE), (SIDE, STEP), (48, 64), (30, 22), (64, 64)]
)
def test_a_freed_network_answers_as_one_exported_at_those_sides(height: int, width: int) -> None:
    freed = free_sides(TinyYolo().model())
    own = TinyYolo(height, width).model()
    np.testing.assert_array_equal(run(freed, noise(height, width)), run(own, noise(height, width)))


def without_stride(model: onnx.ModelProto) -> None:
    helper.set_model_props(model, {"names": METADATA["names"]})


def with_another_stride(model: onnx.ModelProto) -> None:
    helper.set_model_props(model, METADATA | {"stride": "4"})


def of_an_old_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 14


def that_counts_on_its_sides(model: onnx.ModelProto) -> None:
    """Fold the picture by a number that is no grid's."""
    fold = numpy_helper.from_array(np.array([1, 3 * SIDE, SIDE]), "fold")
    back = numpy_helper.from_array(np.array([1, 3, SIDE, SIDE]), "back")
    model.graph.initializer.extend([fold, back])
    nodes = list(model.graph.node)
    nodes[0].input[0] = "unfolded"
    added = [
        helper.make_node("Reshape", ["images", "fold"], ["folded"], "/model.0/fold"),
        helper.make_node("Reshape", ["folded", "back"], ["unfolded"], "/model.0/back"),
    ]
    del model.graph.node[:]
    model.graph.node.extend([*added, *nodes])


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (without_stride, "The metadata tell no stride"),
        (with_another_stride, "1024 anchors are not those of grids up to the stride 4"),
        (of_an_old_opset, "Opset 14 is below 15"),
        (that_counts_on_its_sides, "The network takes its shapes from elsewhere, too"),
    ],
)
def test_a_network_that_cannot_be_freed_says_why(
    spoil: Callable[[onnx.ModelProto], None], reason: str
) -> None:
    model = TinyYolo().model()
    spoil(model)
    before = model.SerializeToString()
    with pytest.raises(ShapesError, match=reason):
        free_sides(model)
    assert model.SerializeToString() == before


@pytest.mark.parametrize(
    ("size", "shape"),
    [((1280, 960), (672, 896)), ((960, 1280), (896, 672)), ((1600, 900), (512, 896))],
)
def test_the_shipped_file_finds_on_a_rectangle_what_it_finds_on_the_square(
    size: tuple[int, int], shape: tuple[int, int]
) -> None:
    detector = Detector.load(SHIPPED)
    detector.warm_up()
    shelf = render_shelf(3, width=size[0], height=size[1])
    image = Image.of(shelf.image)
    assert detector.preprocess(image)[0].shape == (1, *shape, 3)
    found = detector.detect(image, Thresholds())
    square = replace(detector, model=replace(detector.model, input_step=0))
    assert square.preprocess(image)[0].shape == (1, 896, 896, 3)
    padded = square.detect(image, Thresholds())
    matches = match_one_to_one(pairwise_iou(found.xyxy, padded.xyxy), 0.8)
    assert len(padded) > 40
    assert len(matches) >= 0.95 * max(len(found), len(padded))
