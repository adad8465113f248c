"""What an exported file must be; the export itself is tested with training, in its venv."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from test_detector import ONE_BOX, save_model
from test_quantize import TinyYolo, wrong_models

from function.detector import Detector
from model import export
from model.gate import GateError


def test_an_export_that_serves_is_kept_with_its_metadata(tmp_path: Path) -> None:
    onnx.save(TinyYolo().model(), tmp_path / "exported.onnx")
    output = tmp_path / "new" / "float.onnx"
    export.finish(tmp_path / "exported.onnx", output, {"name": "mine", "training_data": "own"})
    model = onnx.load(output)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["names"] == "{0: 'product', 1: 'price tag'}"
    assert metadata["license"] == "MIT"
    assert metadata["training_data"] == "own"
    assert metadata["name"] == metadata["description"] == "mine"  # no path of this machine
    assert Detector.load(output).model.name == "mine"


@pytest.mark.parametrize("kind", ["dynamic", "newer", "unnamed"])
def test_an_export_that_cannot_be_quantised_is_refused(tmp_path: Path, kind: str) -> None:
    model, sentence = wrong_models()[kind]
    onnx.save(model, tmp_path / "exported.onnx")
    with pytest.raises(GateError, match=sentence):
        export.finish(tmp_path / "exported.onnx", tmp_path / "float.onnx", {"name": "mine"})
    assert not (tmp_path / "float.onnx").exists()


def test_an_export_that_does_not_run_takes_no_good_ones_place(tmp_path: Path) -> None:
    broken = save_model(tmp_path / "broken.onnx", ONE_BOX * np.nan)
    output = save_model(tmp_path / "float.onnx", ONE_BOX)
    before = output.read_bytes()
    with pytest.raises(GateError, match="does not serve: The model's output holds NaN"):
        export.finish(broken, output, {"name": "mine"})
    assert output.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"broken.onnx", "float.onnx"}


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"none\.pt is not a file"):
        export.main([str(tmp_path / "none.pt"), "--output", str(tmp_path / "float.onnx")])


def test_metadata_replaces_the_exporters(tmp_path: Path) -> None:
    model = TinyYolo().model()
    helper.set_model_props(model, {"license": "AGPL-3.0"} | {"names": "{0: 'a', 1: 'b'}"})
    onnx.save(model, tmp_path / "exported.onnx")
    added = {"name": "mine", "license": "ours"}
    export.finish(tmp_path / "exported.onnx", tmp_path / "float.onnx", added)
    assert Detector.load(tmp_path / "float.onnx").model.license == "ours"
