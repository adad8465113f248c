"""The variants of the recipe really differ in what they say they do."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from test_quantize import folder

from bench import ablate
from function.detector import Detector
from model.gate import load_float
from model.photos import find_photos

__all__ = ["folder"]  # the fixture
SHIPPED = "as shipped: both of these"
FIRST = "as shipped, first convolution in float"


@pytest.mark.parametrize(
    ("name", "float_convolutions", "takes"),
    [
        (SHIPPED, 2, np.uint8),
        ("plain: only the decode in float, extremes over all photos", 0, np.uint8),
        (FIRST, 3, np.float32),
        (ablate.FUSED, 2, np.uint8),
    ],
)
def test_a_variant_runs_and_differs(
    folder: Path, tmp_path: Path, name: str, float_convolutions: int, takes: type
) -> None:
    photos = find_photos(folder / "photos", 2)
    path = tmp_path / "made.onnx"
    ablate.build(load_float(folder / "float.onnx"), photos, name, tmp_path, path)
    detector = Detector.load(path)
    detector.warm_up()
    assert detector.model.name == name
    assert detector.model.input_dtype == np.dtype(takes)
    assert ablate.float_convolutions(path) == float_convolutions
    fused = any(node.op_type == "QuickGelu" for node in onnx.load(path).graph.node)
    assert fused is (name == ablate.FUSED)


def test_the_table_has_a_row_a_variant(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(ablate, "VARIANTS", {n: ablate.VARIANTS[n] for n in (SHIPPED, FIRST)})
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    (tmp_path / "images" / "0.png").write_bytes((folder / "photos" / "0.png").read_bytes())
    (tmp_path / "labels" / "0.txt").write_text("0 .5 .5 .2 .2")
    options = ["--data", str(tmp_path / "images"), "--rounds", "2", "--images", "2"]
    command = [str(folder / "float.onnx"), "--calibration", str(folder / "photos"), *options]
    monkeypatch.setattr(sys, "argv", ["ablate", *command])
    ablate.main()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0].strip("| ") for row in rows[1:]] == [ablate.FLOAT, SHIPPED, FIRST]
