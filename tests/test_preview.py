"""The page of labels beside detections."""

import re
from pathlib import Path

import PIL.Image
import pytest
from test_detector import ONE_BOX, save_model
from test_evaluate import split  # noqa: F401

from model import preview


def test_labels_and_detections_stand_side_by_side(
    split: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    model = save_model(tmp_path / "m.onnx", ONE_BOX)
    output = tmp_path / "new" / "preview.html"
    preview.main(["--data", str(split), "--model", str(model), "--output", str(output)])
    page = output.read_text()
    assert "a.png: 1 products and 0 gaps labelled" in page
    assert "b.png: 3 products and 0 gaps labelled" in page
    assert page.count("1 products and 0 gaps found") == 2
    assert page.count("data:image/jpeg;base64,") == 4
    assert "http" not in page


@pytest.mark.parametrize(("count", "shown"), [(3, "abd"), (2, "ac"), (1, "a"), (9, "abcde")])
def test_the_photos_that_are_shown_are_spread_evenly(
    tmp_path: Path, count: int, shown: str
) -> None:
    for name in "abcde":
        PIL.Image.new("RGB", (64, 48)).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").touch()
    model, output = save_model(tmp_path / "m.onnx", ONE_BOX), tmp_path / "preview.html"
    options = ["--model", str(model), "--output", str(output), "--count", str(count)]
    preview.main(["--data", str(tmp_path), *options])
    assert "".join(re.findall(r"(\w)\.png: 0 products", output.read_text())) == shown


def test_a_name_is_text_and_never_markup(tmp_path: Path) -> None:
    assert "<script>" not in preview.figure(PIL.Image.new("RGB", (1, 1)), "<script>")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds no photos"):
        preview.main(["--data", str(tmp_path), "--output", str(tmp_path / "x.html")])


def test_a_page_that_is_a_folder_is_named(
    split: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    model = save_model(tmp_path / "m.onnx", ONE_BOX)
    with pytest.raises(SystemExit, match="Is a directory"):
        preview.main(["--data", str(split), "--model", str(model), "--output", str(tmp_path)])
