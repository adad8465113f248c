"""The gate: what a file must be to ship, tried on the shipped file and on worse ones."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import ROOT
from onnx import helper, numpy_helper
from test_quantize import BECOME_INT8, STAY_FLOAT, folder

from model.gate import MAX_MEGABYTES, GateError, check_card, gate, int8_nodes, main

__all__ = ["folder"]  # the fixture
SHIPPED = ROOT / "model" / "shelf.onnx"
CARD = ROOT / "model" / "MODEL_CARD.md"


@pytest.mark.slow
def test_the_shipped_file_passes() -> None:
    report = gate(SHIPPED, MAX_MEGABYTES)
    check_card(report, CARD)
    assert report.nodes["QLinearConv"] > report.nodes["Conv"]
    assert "evaluation" in report.license


def test_a_quantised_file_passes_and_says_what_it_is(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(folder / "int8.onnx")])
    said = dict(re.split(r"  +", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert said["name"] == "tiny"
    assert said["licence"] == "MIT"
    assert int(said["QLinearConv nodes"]) == len(BECOME_INT8)
    assert int(said["Conv nodes"]) == sum(name.endswith("Conv") for name in STAY_FLOAT)
    assert said["digest"].startswith("sha256:")


def without_training_data(model: onnx.ModelProto) -> None:
    kept = {entry.key: entry.value for entry in model.metadata_props}
    kept["training_data"] = "unknown"
    del kept["parent"], model.metadata_props[:]
    helper.set_model_props(model, kept)


def with_one_score(model: onnx.ModelProto) -> None:
    """Round the scores as one INT8 scale over boxes and scores does."""
    zero = numpy_helper.from_array(np.array(0, np.float32), "zero")
    model.graph.initializer.append(zero)
    concat = next(node for node in model.graph.node if node.op_type == "Concat")
    scores = concat.input[1]
    concat.input[1] = "rounded"
    multiply = helper.make_node("Mul", [scores, "zero"], ["rounded"])
    model.graph.node.insert(len(model.graph.node) - 1, multiply)


def with_a_float_convolution(model: onnx.ModelProto) -> None:
    """Feed the second block from a convolution whose input was never quantised."""
    for node in model.graph.node:
        node.name = node.name.replace("/cv2.0/cv2.0.2/", "/cv2.0/cv2.0.9/")


def with_a_late_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 21


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (without_training_data, "metadata lacks training_data, parent"),
        (with_a_late_opset, "opset 21, at most 20"),
        (with_one_score, "1 distinct scores, at least 50"),
        (with_a_float_convolution, r"1 convolutions in float, e.g. /model.1/cv2.0/cv2.0.9/Conv"),
    ],
)
def test_a_spoilt_file_is_refused(
    folder: Path, tmp_path: Path, spoil: Callable[[onnx.ModelProto], None], reason: str
) -> None:
    model = onnx.load(folder / "int8.onnx")
    spoil(model)
    onnx.save(model, tmp_path / "spoilt.onnx")
    with pytest.raises(GateError, match=reason):
        gate(tmp_path / "spoilt.onnx")


def test_a_float_file_is_refused(folder: Path) -> None:
    with pytest.raises(GateError, match="takes float pixels"):
        gate(folder / "float.onnx")
    with pytest.raises(GateError, match="3 convolutions in float"):
        int8_nodes(folder / "float.onnx")


def test_a_file_too_large_for_git_is_refused(folder: Path) -> None:
    with pytest.raises(SystemExit, match=r"it has 0.0 MB, at most 0.001"):
        main([str(folder / "int8.onnx"), "--max-megabytes", "0.001"])


def test_another_files_card_is_refused(folder: Path) -> None:
    with pytest.raises(SystemExit, match="describes another file"):
        main([str(folder / "int8.onnx"), "--card", str(CARD)])


@pytest.mark.parametrize("name", ["missing.onnx", "text.onnx"])
def test_a_file_that_is_no_model_gives_one_sentence(folder: Path, name: str) -> None:
    (folder / "text.onnx").write_text("not a model")
    with pytest.raises(SystemExit, match="missing or not an ONNX model"):
        main([str(folder / name)])
