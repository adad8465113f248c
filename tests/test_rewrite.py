"""What a rewritten graph says is what it said before, and what is unknown is left alone."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from model.rewrite import rewrite

Array = npt.NDArray[Any]
BINS, ANCHORS = 16, 21
SCALE, ZERO = 0.04, 12  # of the quantised pixels
make = helper.make_node


def build(
    nodes: list[onnx.NodeProto],
    shape: list[int | str],
    kind: int,
    **constants: Array,
) -> onnx.ModelProto:
    """Make a model of nodes from `x` to `y`."""
    made = helper.make_graph(
        nodes,
        "part",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, ["a", "b", "c", "d"][: len(shape)])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model: onnx.ModelProto, x: Array) -> Array:
    onnx.checker.check_model(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    y: Array = session.run(None, {"x": x})[0]
    return y


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def mean_of_bins(**change: Any) -> onnx.ModelProto:
    """Make the decode of box sides as Ultralytics exports it, or nearly so."""
    nodes = [
        make("Reshape", ["x", "folded"], ["a"], "/model.1/dfl/Reshape"),
        make(
            "Transpose",
            ["a"],
            ["b"],
            "/model.1/dfl/Transpose",
            perm=change.get("perm", [0, 2, 1, 3]),
        ),
        make("Softmax", ["b"], ["c"], "/model.1/dfl/Softmax", axis=change.get("axis", 1)),
        make("Conv", ["c", "bins", *change.get("bias", [])], ["d"], "/model.1/dfl/conv/Conv"),
        make("Reshape", ["d", "flat"], ["y"], "/model.1/dfl/Reshape_1"),
    ]
    constants: dict[str, Array] = {"bins": np.arange(BINS, dtype=np.float32).reshape(1, BINS, 1, 1)}
    constants["zero"] = np.zeros(1, np.float32)
    folded, flat = np.array([1, 4, BINS, ANCHORS]), np.array([1, 4, ANCHORS])
    shape: list[int | str] = [1, 4 * BINS, ANCHORS]
    return build(nodes, shape, TensorProto.FLOAT, folded=folded, flat=flat, **constants)


@pytest.mark.parametrize("reach", [0.0, 1.0, 8.0, 40.0])
def test_the_mean_of_bins_stays_what_it_was(reach: float) -> None:
    model = mean_of_bins()
    logits = np.random.default_rng(1).uniform(-reach, reach, (1, 4 * BINS, ANCHORS))
    x = logits.astype(np.float32)
    rewritten = rewrite(model)
    assert "Softmax" not in operators(rewritten)
    np.testing.assert_allclose(run(rewritten, x), run(model, x), rtol=2e-6, atol=2e-5)


def test_logits_beyond_what_floats_hold_are_still_numbers() -> None:
    x = np.full((1, 4 * BINS, ANCHORS), -1e6, np.float32)
    x[0, 5] = 1e6
    sides = run(rewrite(mean_of_bins()), x)[0, :, 0]
    np.testing.assert_allclose(sides, [5, 7.5, 7.5, 7.5], rtol=1e-6)


@pytest.mark.parametrize(
    "change", [{"bias": ["zero"]}, {"perm": [0, 2, 3, 1], "axis": 3}], ids=["bias", "order"]
)
def test_another_decode_is_left_as_it_is(change: dict[str, Any]) -> None:
    model = mean_of_bins(**change)
    assert rewrite(model) == model


def larger(**change: Any) -> onnx.ModelProto:
    """Make the doubling of quantised pixels as the quantiser leaves it, or nearly so."""
    how: dict[str, Any] = {
        "mode": "nearest",
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
        **change.get("how", {}),
    }
    zero = change.get("zero", "zero")
    nodes = [
        make("DequantizeLinear", ["x", "scale", "zero"], ["a"], "before"),
        make("Resize", ["a", "", "times"], ["b"], "/model.11/Resize", **how),
        make("QuantizeLinear", ["b", "scale", zero], ["y"], "after"),
    ]
    times = np.array(change.get("times", [1, 1, 2, 2]), np.float32)
    shape: list[int | str] = [1, 5, "height", "width"]
    constants: dict[str, Array] = {
        "scale": np.array(SCALE, np.float32),
        "zero": np.array(ZERO, np.uint8),
    }
    constants |= {"other": np.array(0, np.uint8), "times": times}
    return build(nodes, shape, TensorProto.UINT8, **constants)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 6), (7, 1), (5, 8)])
def test_doubled_pixels_are_the_same_to_the_bit(height: int, width: int) -> None:
    x = np.random.default_rng(2).integers(0, 256, (1, 5, height, width), np.uint8)
    rewritten = rewrite(larger())
    assert not {"Resize", "DequantizeLinear"} & set(operators(rewritten))
    np.testing.assert_array_equal(run(rewritten, x), x.repeat(2, axis=2).repeat(2, axis=3))
    np.testing.assert_array_equal(run(rewritten, x), run(larger(), x))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"times": [1, 1, 3, 3]}, id="tripled"),
        pytest.param({"times": [1, 1, 2, 1]}, id="one-side"),
        pytest.param({"how": {"mode": "linear"}}, id="interpolated"),
        pytest.param({"how": {"nearest_mode": "ceil"}}, id="shifted"),
        pytest.param({"zero": "other"}, id="requantised"),
    ],
)
def test_another_resize_is_left_as_it_is(change: dict[str, Any]) -> None:
    model = larger(**change)
    assert rewrite(model) == model


def test_a_tensor_that_others_read_too_stays() -> None:
    model = larger()
    model.graph.node.append(make("QuantizeLinear", ["a", "scale", "zero"], ["z"], "beside"))
    model.graph.output.append(
        helper.make_tensor_value_info("z", TensorProto.UINT8, [1, 5, "h", "w"])
    )
    rewritten = rewrite(model)
    assert operators(rewritten).count("DequantizeLinear") == 1
    x = np.arange(5, dtype=np.uint8).reshape(1, 5, 1, 1)
    np.testing.assert_array_equal(run(rewritten, x), x.repeat(2, axis=2).repeat(2, axis=3))


def test_the_shipped_file_is_rewritten() -> None:
    path = Path(__file__).parents[1] / "model/shelf.onnx"
    model = onnx.load(path)
    assert rewrite(model) == model
    assert "Resize" not in operators(model)
    assert not any(node.name.endswith("/dfl/Softmax") for node in model.graph.node)
