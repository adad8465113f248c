from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import PIL.Image
import pytest
from onnx import TensorProto, helper, numpy_helper

from model import quantize
from model.photos import find_photos

SIDE = 64
CLASSES = 2
NAMES = "{0: 'product', 1: 'price tag'}"
# The tiny network has one stride, 2.
METADATA = {"names": NAMES, "stride": "2", "imgsz": f"[{SIDE}, {SIDE}]", "license": "MIT"}
STAY_FLOAT = {
    "/model.1/cv2.0/cv2.0.2/Conv",
    "/model.1/cv3.0/cv3.0.2/Conv",
    "/model.1/Reshape",
    "/model.1/Reshape_1",
    "/model.1/Add_1",
    "/model.1/Mul_2",
    "/model.1/Sigmoid",
    "/model.1/Concat_3",
}
BECOME_INT8 = {
    "/model.0/conv/Conv",
    "/model.1/cv2.0/cv2.0.0/conv/Conv",
    "/model.1/cv3.0/cv3.0.0/conv/Conv",
}


class TinyYolo:
    """Builds the graph of a one-stride YOLO, its nodes named as Ultralytics exports name them."""

    def __init__(self, height: int = SIDE, width: int = SIDE) -> None:
        self.height, self.width = height, width
        self.anchors = (height // 2) * (width // 2)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(0)

    def node(self, operator: str, name: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [name + "_out"], name, **attributes))
        return name + "_out"

    def constant(self, name: str, values: npt.NDArray[np.generic]) -> str:
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def conv(self, name: str, x: str, shape: tuple[int, int, int, int], stride: int = 1) -> str:
        fan_in = np.prod(shape[1:])
        weight = self.random.normal(0, 2 / np.sqrt(fan_in), shape).astype(np.float32)
        pad = shape[2] // 2
        return self.node(
            "Conv",
            name,
            x,
            self.constant(name + ".weight", weight),
            self.constant(name + ".bias", np.zeros(shape[0], np.float32)),
            kernel_shape=shape[2:],
            pads=[pad] * 4,
            strides=[stride] * 2,
        )

    def block(self, name: str, x: str, shape: tuple[int, int, int, int], stride: int = 1) -> str:
        """Convolution and SiLU."""
        x = self.conv(f"{name}/conv/Conv", x, shape, stride)
        sigmoid = self.node("Sigmoid", f"{name}/act/Sigmoid", x)
        return self.node("Mul", f"{name}/act/Mul", x, sigmoid)

    def branch(self, name: str, x: str, channels: int, reshape: str) -> str:
        """One head branch: a block, the last 1x1 convolution and the flattening."""
        x = self.block(f"/model.1/{name}.0/{name}.0.0", x, (8, 8, 3, 3))
        x = self.conv(f"/model.1/{name}.0/{name}.0.2/Conv", x, (channels, 8, 1, 1))
        shape = self.constant(reshape + ".shape", np.array([1, channels, self.anchors]))
        return self.node("Reshape", f"/model.1/{reshape}", x, shape)

    def points(self) -> npt.NDArray[np.float32]:
        """Where each anchor stands, (1, 4, anchors), so close that boxes still overlap."""
        y, x = np.mgrid[: self.height // 2, : self.width // 2] / 100
        points = np.stack([x, y, x * 0, y * 0])
        return points.reshape(1, 4, -1).astype(np.float32)

    def model(self) -> onnx.ModelProto:
        features = self.block("/model.0", "images", (8, 3, 3, 3), stride=2)
        boxes = self.branch("cv2", features, 4, "Reshape")
        scores = self.branch("cv3", features, CLASSES, "Reshape_1")
        boxes = self.node("Add", "/model.1/Add_1", boxes, self.constant("points", self.points()))
        stride = self.constant("stride", np.array(2, np.float32))
        boxes = self.node("Mul", "/model.1/Mul_2", boxes, stride)
        scores = self.node("Sigmoid", "/model.1/Sigmoid", scores)
        output = self.node("Concat", "/model.1/Concat_3", boxes, scores, axis=1)
        graph = helper.make_graph(
            self.nodes,
            "tiny",
            [
                helper.make_tensor_value_info(
                    "images", TensorProto.FLOAT, [1, 3, self.height, self.width]
                )
            ],
            [
                helper.make_tensor_value_info(
                    output, TensorProto.FLOAT, [1, 4 + CLASSES, self.anchors]
                )
            ],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        helper.set_model_props(model, METADATA | {"description": "/home"})
        return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float model, photos to calibrate on and the INT8 file that the tool makes of them."""
    folder = tmp_path_factory.mktemp("quantize")
    onnx.save(TinyYolo().model(), folder / "float.onnx")
    (folder / "photos").mkdir()
    random = np.random.default_rng(1)
    for index in range(6):
        noise = random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        PIL.Image.fromarray(noise).save(folder / "photos" / f"{index}.png")
    quantize.main([*arguments(folder), "--name", "tiny", "--training-data", "noise"])
    return folder


def arguments(folder: Path, model: str = "float.onnx") -> list[str]:
    output = str(folder / "int8.onnx")
    photos = str(folder / "photos")
    return [str(folder / model), "--calibration", photos, "--output", output, "--images", "4"]


def test_quantised_file_takes_uint8_pixels(folder: Path) -> None:
    session = ort.InferenceSession(folder / "int8.onnx", providers=["CPUExecutionProvider"])
    pixels = session.get_inputs()[0]
    assert (pixels.name, pixels.type) == ("pixels", "tensor(uint8)")
    assert pixels.shape == [1, "height", "width", 3]


def test_a_network_of_fixed_shapes_stays_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = TinyYolo().model()
    helper.set_model_props(model, METADATA | {"stride": "48"})
    onnx.save(model, folder / "fixed.onnx")
    quantize.main([*arguments(folder, "fixed.onnx"), "--output", str(folder / "own.onnx")])
    session = ort.InferenceSession(folder / "own.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [1, SIDE, SIDE, 3]
    assert "64 x 64; 64 x 64 are no multiples of the stride 48" in capsys.readouterr().out


def test_decode_and_last_convolutions_stay_float(folder: Path) -> None:
    model = onnx.load(folder / "int8.onnx")
    dequantised = {
        output
        for node in model.graph.node
        if node.op_type == "DequantizeLinear"
        for output in node.output
    }
    assert set(quantize.float_nodes(TinyYolo().model())) == STAY_FLOAT
    weights = {node.name: node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    assert {name for name, weight in weights.items() if weight in dequantised} == BECOME_INT8
    assert weights.keys() - BECOME_INT8 == {name for name in STAY_FLOAT if name.endswith("Conv")}


def test_metadata_keeps_the_exporters_and_adds_ours(folder: Path) -> None:
    metadata = {entry.key: entry.value for entry in onnx.load(folder / "int8.onnx").metadata_props}
    assert metadata.pop("parent").startswith("sha256:")
    assert metadata == {
        **METADATA,
        "description": "tiny",
        "name": "tiny",
        "precision": "int8",
        "training_data": "noise",
        "calibration": "mean MinMax of 4 photos",
    }


def test_file_needs_only_onnx_operators(folder: Path) -> None:
    model = onnx.load(folder / "int8.onnx")
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]


def wrong_models() -> dict[str, tuple[onnx.ModelProto, str]]:
    dynamic, newer, unnamed, headless = (TinyYolo().model() for _ in range(4))
    dynamic.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    newer.opset_import[0].version = 21
    del unnamed.metadata_props[:]
    for node in headless.graph.node:
        node.name = node.name.replace("/cv2.0.2/", "/last/").replace("/cv3.0.2/", "/last/")
    return {
        "dynamic": (dynamic, "not one static float image"),
        "newer": (newer, "opset 21"),
        "unnamed": (unnamed, "names no classes"),
        "headless": (headless, "no YOLO detection head"),
    }


@pytest.mark.parametrize("kind", wrong_models())
def test_wrong_model_gives_one_sentence(folder: Path, kind: str) -> None:
    model, sentence = wrong_models()[kind]
    onnx.save(model, folder / f"{kind}.onnx")
    before = (folder / "int8.onnx").read_bytes()
    with pytest.raises(SystemExit, match=sentence) as stopped:
        quantize.main(arguments(folder, f"{kind}.onnx"))
    assert "\n" not in str(stopped.value)
    assert (folder / "int8.onnx").read_bytes() == before


@pytest.mark.parametrize("name", ["missing.onnx", "text.onnx"])
def test_file_that_is_no_model_gives_one_sentence(folder: Path, name: str) -> None:
    (folder / "text.onnx").write_text("not a model")
    with pytest.raises(SystemExit, match="missing or not an ONNX model"):
        quantize.main(arguments(folder, name))


def test_folder_without_photos_gives_one_sentence(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds no photos"):
        quantize.main([*arguments(folder), "--calibration", str(tmp_path)])


RECIPES = {
    "last convolutions in INT8": (
        quantize.Recipe(last_convolutions_in_float=False),
        {name for name in STAY_FLOAT if not name.endswith("Conv")},
    ),
    "first convolution in float": (
        quantize.Recipe(in_float=r"^/model\.0/conv/"),
        STAY_FLOAT | {"/model.0/conv/Conv"},
    ),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_what_stays_in_float(name: str) -> None:
    recipe, expected = RECIPES[name]
    assert set(quantize.float_nodes(TinyYolo().model(), recipe)) == expected


def test_seven_weight_bits_ship_and_eight_can_be_tried(folder: Path) -> None:
    parent = onnx.load(folder / "float.onnx")
    photos = find_photos(folder / "photos", 2)

    def largest(recipe: quantize.Recipe) -> int:
        made = quantize.quantize(parent, photos, recipe)
        weights = [numpy_helper.to_array(tensor) for tensor in made.graph.initializer]
        return max(int(np.abs(w.astype(int)).max()) for w in weights if w.dtype == np.int8)

    assert largest(quantize.SHIPPED) == 64
    assert largest(quantize.Recipe(reduce_range=False)) >= 127


def test_calibration_shows_how_far_it_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quantize.main(arguments(folder))
    assert "photo 4/4" in capsys.readouterr().err
