"""Rewrite an INT8 network so that it says the same in less time.

Two steps of a YOLO export cost ONNX Runtime far more than what they compute: the softmax over the
16 bins of each box's side, a call for each of 40 000 sides, and the doubling of a picture pixel by
pixel. Together they were a third of the shipped network's time. Where the graph does not look as
an Ultralytics export does, it is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from model.shapes import set_nodes

Array = npt.NDArray[np.generic]

# e to the power of this, times 16 bins of up to 15, is still a float; no network says as much.
MOST = 80.0
SIDES = 4  # of a box
NEAREST = {
    "mode": "nearest",
    "coordinate_transformation_mode": "asymmetric",
    "nearest_mode": "floor",
}
NHWC, NCHW = [0, 2, 3, 1], [0, 3, 1, 2]


def rewrite(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the quantised model (QDQ, float or uint8 input) with both steps rewritten.

    Doubled pixels are the same to the bit; boxes differ by the rounding of floats.
    """
    rewritten = onnx.ModelProto()
    rewritten.CopyFrom(model)
    names = [node.name for node in model.graph.node if node.op_type in ("Softmax", "Resize")]
    for name in names:
        graph = _Graph(rewritten.graph)
        if graph.node(name).op_type == "Softmax":
            _sum_bins(graph, name)
        else:
            _double_pixels(graph, name)
    return rewritten


class _Graph:
    """A graph, by the names of its tensors."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self._nodes: dict[str, onnx.NodeProto] = {node.name: node for node in graph.node}
        self._makers = {output: node for node in graph.node for output in node.output}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._constants = {of.name: of for of in graph.initializer}

    def node(self, name: str) -> onnx.NodeProto:
        return self._nodes[name]

    def maker(self, tensor: str, operator: str) -> onnx.NodeProto | None:
        """Return the node that makes a tensor, where it is of that operator."""
        node = self._makers.get(tensor)
        return node if node is not None and node.op_type == operator else None

    def reader(self, tensor: str, operator: str) -> onnx.NodeProto | None:
        """Return the one node that reads a tensor, where it is of that operator."""
        readers = self._readers.get(tensor, [])
        return readers[0] if len(readers) == 1 and readers[0].op_type == operator else None

    def constant(self, name: str) -> Array | None:
        of = self._constants.get(name)
        return None if of is None else numpy_helper.to_array(of)

    def add(self, name: str, values: Array) -> str:
        self.graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    def replace(self, last: onnx.NodeProto, gone: Iterable[str], new: list[onnx.NodeProto]) -> None:
        """Put nodes in the place of `last`, and drop those named, and the constants of these."""
        dropped = {last.name, *gone}
        nodes = []
        for node in self.graph.node:
            if node.name == last.name:
                nodes += new
            elif node.name not in dropped:
                nodes.append(node)
        set_nodes(self.graph, nodes)


def _attributes(node: onnx.NodeProto) -> dict[str, object]:
    found = {of.name: helper.get_attribute_value(of) for of in node.attribute}
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in found.items()}


def _sum_bins(graph: _Graph, name: str) -> None:
    """Rewrite the mean over a softmax of bins, (1, 4 * bins, n) to (1, 4, n), as two products.

    The mean of k over softmax(x) is the sum of k * exp(x) over that of exp(x).
    """
    softmax = graph.node(name)
    transpose = graph.maker(softmax.input[0], "Transpose")
    reshape = transpose and graph.maker(transpose.input[0], "Reshape")
    mean = graph.reader(softmax.output[0], "Conv")
    flat = mean and graph.reader(mean.output[0], "Reshape")
    weights = graph.constant(mean.input[1]) if mean else None
    if transpose is None or reshape is None or mean is None or flat is None or weights is None:
        return
    if (
        _attributes(transpose).get("perm") != [0, 2, 1, 3]
        or _attributes(softmax).get("axis") != 1
        or len(mean.input) != 2
        or weights.shape != (1, weights.size, 1, 1)
    ):
        return
    of_side = weights.reshape(1, -1).astype(np.float32)
    bins = {"weighed": of_side, "total": np.ones_like(of_side)}
    own = name.removesuffix("Softmax")
    make = helper.make_node
    bounds = [
        graph.add(f"{own}{side}", np.array(bound, np.float32))
        for side, bound in (("least", -MOST), ("most", MOST))
    ]
    new = [
        make("Clip", [reshape.input[0], *bounds], [f"{own}clipped"], f"{own}Clip"),
        make("Exp", [f"{own}clipped"], [f"{own}exp"], f"{own}Exp"),
    ]
    for what, factors in bins.items():
        each_side = np.kron(np.eye(SIDES, dtype=np.float32), factors)  # (4, 4 * bins)
        matrix = graph.add(f"{own}{what}_bins", each_side)
        new.append(make("MatMul", [matrix, f"{own}exp"], [f"{own}{what}"], f"{own}MatMul_{what}"))
    new.append(make("Div", [f"{own}weighed", f"{own}total"], list(flat.output), f"{own}Div"))
    graph.replace(flat, [node.name for node in (reshape, transpose, softmax, mean)], new)


def _double_pixels(graph: _Graph, name: str) -> None:
    """Rewrite the doubling of quantised pixels as copies of whole pixels and of whole lines."""
    resize = graph.node(name)
    before = graph.maker(resize.input[0], "DequantizeLinear")
    after = graph.reader(resize.output[0], "QuantizeLinear")
    scales = graph.constant(resize.input[2]) if len(resize.input) == 3 else None
    if before is None or after is None or scales is None or scales.tolist() != [1, 1, 2, 2]:
        return
    pairs = zip(before.input[1:], after.input[1:], strict=True)
    same = all(np.array_equal(*map(graph.constant, pair)) for pair in pairs)  # type: ignore[arg-type]  # None is no array, and equals none
    if not same or NEAREST.items() - _attributes(resize).items():
        return
    own = f"{name}/"
    make = helper.make_node
    axis = graph.add(f"{own}axis", np.array([3]))
    line = graph.add(f"{own}line", np.array([0, 0, 1, -1]))
    double = graph.add(f"{own}double", np.array([1, 2, 2, 1]))
    new = [
        make("Transpose", [before.input[0]], [f"{own}nhwc"], f"{own}Transpose", perm=NHWC),
        make("Unsqueeze", [f"{own}nhwc", axis], [f"{own}pixel"], f"{own}Unsqueeze"),
        make("Concat", [f"{own}pixel"] * 2, [f"{own}pixels"], f"{own}Concat", axis=3),
        make("Reshape", [f"{own}pixels", line], [f"{own}line_of"], f"{own}Reshape"),
        make("Concat", [f"{own}line_of"] * 2, [f"{own}lines"], f"{own}Concat_1", axis=2),
        make("Shape", [f"{own}nhwc"], [f"{own}shape"], f"{own}Shape"),
        make("Mul", [f"{own}shape", double], [f"{own}doubled"], f"{own}Mul"),
        make("Reshape", [f"{own}lines", f"{own}doubled"], [f"{own}large"], f"{own}Reshape_1"),
        make("Transpose", [f"{own}large"], list(after.output), f"{own}Transpose_1", perm=NCHW),
    ]
    alone = graph.reader(before.output[0], "Resize") is not None
    graph.replace(resize, [after.name, *([before.name] if alone else [])], new)
