"""Let a static export take any sides up to its own: a landscape picture needs no square.

An export of one size has the anchor points of that size among its constants, and reshapes to
numbers that follow from it. Here the points are cut to the picture's own grid while it runs, which
costs nothing measurable, and the numbers are left open. At full size the output stays the same, to
the bit; a picture of 4:3 takes three quarters of the time.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper

from model.gate import metadata_of, opset_of

Array = npt.NDArray[np.generic]

MIN_OPSET = 15  # whose Shape can take a part
PREFIX = "/sides/"  # of all that is added


class ShapesError(Exception):
    """The sides of this export cannot be freed; says why."""


def free_sides(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the static model with sides that may be any multiples of its stride, up to theirs.

    Takes an Ultralytics export of (1, 3, H, W) floats or (1, H, W, 3) pixels and one output
    (1, 4 + classes, anchors). Raises `ShapesError` where the result does not run.
    """
    freed = onnx.ModelProto()
    freed.CopyFrom(model)
    graph = _Graph(freed)
    graph.rewrite()
    try:
        onnx.checker.check_model(freed)
        _try_out(freed, graph.sides, graph.strides)
    except Exception as err:  # ONNX's and the runtime's own exceptions share no base but this
        msg = "The network takes its shapes from elsewhere, too"
        raise ShapesError(msg) from err
    return freed


def set_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Give a graph its nodes, in order, and drop the constants that none of them reads."""
    used = {name for node in nodes for name in node.input}
    kept = [of for of in graph.initializer if of.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)


class _Graph:
    """A graph while it is rewritten."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.constants = {of.name: numpy_helper.to_array(of) for of in self.graph.initializer}
        self.nodes: list[onnx.NodeProto] = []  # to go before all others
        self.image, self.output = self.graph.input[0], self.graph.output[0]
        axes = self.image.type.tensor_type.shape.dim
        self.at = 1 if axes[3].dim_value == 3 else 2
        self.sides = axes[self.at].dim_value, axes[self.at + 1].dim_value
        self.anchors = self.output.type.tensor_type.shape.dim[2].dim_value
        self.strides = _strides(self.sides, self.anchors, _stride(model))
        if opset_of(model) < MIN_OPSET:
            msg = f"Opset {opset_of(model)} is below {MIN_OPSET}"
            raise ShapesError(msg)

    def rewrite(self) -> None:
        """Free the sides of the input, and all that follows from them."""
        self._name_axes()
        sides = self._add("Shape", "sides", self.image.name, start=self.at, end=self.at + 2)
        grids = {
            stride: self._add("Div", f"grid{stride}", sides, self._constant(f"{stride}", [stride]))
            for stride in self.strides
        }
        cut: dict[tuple[tuple[int, ...], bytes], str] = {}  # most exports hold the anchors twice
        for node in self.graph.node:
            if node.op_type == "Reshape" and node.input[1] in self.constants:
                node.input[1] = self._open_shape(node.input[1], grids)
                continue
            for index, name in enumerate(node.input):
                value = self.constants.get(name)
                if value is not None and value.shape[-1:] == (self.anchors,):
                    key = value.shape, value.tobytes()
                    cut[key] = cut.get(key) or self._cut(f"cut{len(cut)}", value, grids)
                    node.input[index] = cut[key]
        set_nodes(self.graph, [*self.nodes, *self.graph.node])

    def _name_axes(self) -> None:
        axes = self.image.type.tensor_type.shape.dim
        axes[self.at].dim_param, axes[self.at + 1].dim_param = "height", "width"
        self.output.type.tensor_type.shape.dim[2].dim_param = "anchors"
        del self.graph.value_info[:]  # it held the static shapes

    def _open_shape(self, name: str, grids: dict[int, str]) -> str:
        """Rewrite a Reshape's constant where it follows from the sides."""
        wanted = self.constants[name].tolist()
        for stride, grid in grids.items():
            height, width = (side // stride for side in self.sides)
            if wanted[-2:] == [height, width]:
                front = self._constant(f"front/{name}", wanted[:-2])
                return self._add("Concat", f"shape/{name}", front, grid, axis=0)
            if height * width in wanted[2:]:
                return self._with_open(name, height * width)
        return self._with_open(name, self.anchors) if self.anchors in wanted[1:] else name

    def _with_open(self, name: str, number: int) -> str:
        wanted = [-1 if axis == number else axis for axis in self.constants[name].tolist()]
        return self._constant(f"open/{name}", wanted)

    def _cut(self, name: str, value: Array, grids: dict[int, str]) -> str:
        """Have a constant (..., anchors) hold those of the picture's own grid."""
        parts, start = [], 0
        front = list(value.shape[:-1])
        last = self._constant(f"{name}/last", [len(front), len(front) + 1])
        flat = self._constant(f"{name}/flat", [*front, -1])
        for stride, grid in grids.items():
            height, width = (side // stride for side in self.sides)
            level = value[..., start : start + height * width].reshape(*front, height, width)
            start += height * width
            whole = self._constant(f"{name}/level{stride}", level)
            zero = self._constant(f"{name}/zero{stride}", [0, 0])
            part = self._add("Slice", f"{name}/part{stride}", whole, zero, grid, last)
            parts.append(self._add("Reshape", f"{name}/line{stride}", part, flat))
        return self._add("Concat", name, *parts, axis=len(front)) if parts[1:] else parts[0]

    def _constant(self, name: str, values: Array | list[int]) -> str:
        array = np.array(values, np.int64) if isinstance(values, list) else values
        name = PREFIX + name
        if name not in self.constants:
            self.constants[name] = array
            self.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def _add(self, operator: str, name: str, *inputs: str, **attributes: int) -> str:
        node = helper.make_node(operator, inputs, [f"{PREFIX}{name}_out"], PREFIX + name)
        node.attribute.extend(helper.make_attribute(*pair) for pair in attributes.items())
        if not any(other.name == node.name for other in self.nodes):
            self.nodes.append(node)
        return f"{PREFIX}{name}_out"


def _stride(model: onnx.ModelProto) -> int:
    try:
        return int(metadata_of(model)["stride"])
    except (KeyError, ValueError) as err:
        msg = "The metadata tell no stride"
        raise ShapesError(msg) from err


def _strides(sides: tuple[int, int], anchors: int, largest: int) -> list[int]:
    """Find the strides, each half the next up to the largest, whose grids have that many points."""
    if any(side % largest for side in sides):
        msg = f"{sides[1]} x {sides[0]} are no multiples of the stride {largest}"
        raise ShapesError(msg)
    strides = [largest]
    while (points := _points(sides, strides)) < anchors:
        if strides[0] % 2:
            break
        strides.insert(0, strides[0] // 2)
    if points != anchors:
        msg = f"{anchors} anchors are not those of grids up to the stride {largest}"
        raise ShapesError(msg)
    return strides


def _points(sides: tuple[int, int], strides: list[int]) -> int:
    """Count the anchors of all grids together."""
    return sum(math.prod(side // stride for side in sides) for stride in strides)


def _try_out(model: onnx.ModelProto, sides: tuple[int, int], strides: list[int]) -> None:
    """Run the freed model on its narrowest pictures. Raises whatever goes wrong."""
    options = ort.SessionOptions()
    options.log_severity_level = 4  # a failure is told by its exception
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    image = session.get_inputs()[0]
    pixels = image.type == "tensor(uint8)"
    for height, width in ((strides[-1], sides[1]), (sides[0], strides[-1])):
        shape = (1, height, width, 3) if pixels else (1, 3, height, width)
        picture = np.zeros(shape, np.uint8 if pixels else np.float32)
        output = session.run(None, {image.name: picture})[0]
        if output.shape[2] != (points := _points((height, width), strides)):
            msg = f"{width} x {height} gives {output.shape[2]} anchors, not {points}"
            raise ValueError(msg)
