"""What training is given; training itself where the venv of model/requirements.txt is."""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import ROOT

from function.detector import Detector
from model import train
from model.crops import TrainingPhoto
from model.labelled import read_gaps
from model.photos import DatasetError
from model.render import encode, render_shelf, yolo_labels

MODEL_PYTHON = ROOT / os.environ.get("MODEL_VENV", ".venv-model") / "bin" / "python"
needs_ultralytics = pytest.mark.skipif(
    not MODEL_PYTHON.is_file(),
    reason="training needs a venv with model/requirements.txt: MODEL_VENV=… (or .venv-model)",
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A YOLO data set of drawn shelves, one of them without a label file."""
    for seed, name in enumerate(("train/0", "train/nested/1", "train/2", "val/3")):
        shelf = render_shelf(seed, width=160, height=160, rows=3)
        for kind, content in (("images", encode(shelf)), ("labels", yolo_labels(shelf).encode())):
            path = tmp_path / "data" / kind / f"{name}.{'jpg' if kind == 'images' else 'txt'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    (tmp_path / "data/labels/train/2.txt").unlink()
    return tmp_path / "data"


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def prepared(
    data: Path, folder: Path, **more: Any
) -> tuple[dict[str, object], list[TrainingPhoto]]:
    described, photos = train.prepare(data, folder, **more)
    return json.loads(described.read_text()), photos


def test_a_data_set_is_read_and_stays_untouched(data: Path, tmp_path: Path) -> None:
    before = files(data)
    described, photos = prepared(data, tmp_path / "run")
    assert described["names"] == {"0": "product"}
    assert sorted(photo.path.name for photo in photos) == ["0.jpg", "1.jpg", "2.jpg"]
    assert all(photo.labelled == {train.PRODUCT} for photo in photos)
    assert len(photos[0].cxcywh) == len(photos[0].class_id) > 3
    assert len(photos[2].cxcywh) == 0  # without a label file it shows no product
    # Ultralytics writes caches beside the labels it validates on: those are links elsewhere.
    assert files(tmp_path / "run") == {"data.yaml", "images/val/3.jpg", "labels/val/3.txt"}
    assert files(data) == before


def test_the_links_of_another_data_set_go(data: Path, tmp_path: Path) -> None:
    train.prepare(data, tmp_path / "run")
    for kind, suffix in (("images", "jpg"), ("labels", "txt")):
        (data / kind / f"val/3.{suffix}").rename(data / kind / f"val/4.{suffix}")
    train.prepare(data, tmp_path / "run")
    assert files(tmp_path / "run/images") == {"val/4.jpg"}


def test_drawn_shelves_are_trained_on_but_not_validated(data: Path, tmp_path: Path) -> None:
    described, photos = prepared(data, tmp_path / "run", drawn=1)
    assert described["val"] == "images/val"
    drawn = photos[-1]
    assert drawn.path == tmp_path / "run/drawn/images/000000.jpg"
    assert len(drawn.cxcywh) > 10
    assert set(drawn.class_id.tolist()) == {train.PRODUCT}


@pytest.fixture
def gaps(data: Path, tmp_path: Path) -> Path:
    """Two photos with their gaps; one of them stands in the data set as well."""
    (tmp_path / "gaps/images").mkdir(parents=True)
    for name in ("0", "9"):
        path = tmp_path / f"gaps/images/{name}.jpg"
        path.write_bytes((data / "images/train/0.jpg").read_bytes()[: None if name == "0" else -1])
    labels = [
        {"image": f"images/{name}.jpg", "width": 160, "height": 160, "gaps": [[16, 32, 48, 64]]}
        for name in ("0", "9")
    ]
    (tmp_path / "gaps/labels.json").write_text(json.dumps(labels))
    return tmp_path / "gaps"


def test_a_photo_is_labelled_for_what_its_data_set_is(
    data: Path, gaps: Path, tmp_path: Path
) -> None:
    described, photos = prepared(data, tmp_path / "run", gaps=gaps, drawn=1)
    assert described["names"] == {"0": "product", "1": "gap"}
    labelled = {photo.path.stem: set(photo.labelled) for photo in photos}
    both = {train.PRODUCT, train.GAP}
    products = {train.PRODUCT}
    assert labelled == {"0": both, "1": products, "2": products, "9": {train.GAP}, "000000": both}
    alone = next(photo for photo in photos if photo.path.stem == "9")
    np.testing.assert_allclose(alone.cxcywh, [[0.2, 0.3, 0.2, 0.2]])
    assert alone.class_id.tolist() == [train.GAP]


def test_photos_of_one_name_in_several_folders_are_all_trained_on(
    data: Path, gaps: Path, tmp_path: Path
) -> None:
    for kind, suffix in (("images", "jpg"), ("labels", "txt")):
        (data / kind / f"train/nested/1.{suffix}").rename(data / kind / f"train/nested/0.{suffix}")
    _, photos = prepared(data, tmp_path / "run", gaps=gaps)
    assert sorted((photo.path.stem, sorted(photo.labelled)) for photo in photos) == [
        *(("0", [train.PRODUCT]), ("0", [train.PRODUCT])),
        ("0", [train.GAP]),  # of which of the two nobody knows
        *(("2", [train.PRODUCT]), ("9", [train.GAP])),
    ]


LABELS = "0 0.5 0.5 0.1 0.1\n1 0.3 0.5 0.1 0.1\n7 0.7 0.5 0.1 0.1\n"


@pytest.mark.parametrize(("with_gaps", "classes"), [(False, "000"), (True, "010")])
def test_a_photo_is_validated_whatever_the_class_of_its_products(
    data: Path, gaps: Path, tmp_path: Path, with_gaps: bool, classes: str
) -> None:
    (data / "labels/val/3.txt").write_text(LABELS)
    train.prepare(data, tmp_path / "run", gaps=gaps if with_gaps else None)
    lines = (tmp_path / "run/labels/val/3.txt").read_text().splitlines()
    assert "".join(line[0] for line in lines) == classes
    assert (data / "labels/val/3.txt").read_text() == LABELS


def test_gaps_among_the_products_are_refused(data: Path, gaps: Path, tmp_path: Path) -> None:
    (data / "labels/train/0.txt").write_text(LABELS)
    assert len(prepared(data, tmp_path / "run")[1]) == 3
    with pytest.raises(DatasetError, match=f"got class 1 in {data / 'labels/train/0.txt'}"):
        prepared(data, tmp_path / "run", gaps=gaps)


@pytest.mark.parametrize("lost", ["0", "9"])
def test_a_photo_of_gaps_that_is_not_there_is_named(gaps: Path, lost: str) -> None:
    (gaps / f"images/{lost}.jpg").unlink()
    with pytest.raises(DatasetError, match=rf"{lost}\.jpg is missing: .*labels\.json"):
        read_gaps(gaps)


@pytest.mark.parametrize(
    "content",
    [
        "[",
        '[{"image": "x.jpg", "width": 9, "height": 9, "gaps": [[5, 5, 1, 1]]}]',
        '[{"image": "x.jpg", "width": 9, "height": 9, "gaps": [[0, 0, NaN, 1]]}]',
        '[{"image": "x.jpg"}]',
        "{}",
        '[{"gaps": 1}]',
    ],
)
def test_gaps_that_cannot_be_read_are_named(gaps: Path, content: str) -> None:
    (gaps / "labels.json").write_text(content)
    if content == "{}":
        assert read_gaps(gaps) == []
        return
    with pytest.raises(DatasetError, match="is not a list of photos with their gaps"):
        read_gaps(gaps)


@pytest.mark.parametrize(("size", "side"), [(800, 576), (640, 448), (64, 32), (32, 32)])
def test_a_crop_is_a_multiple_of_the_stride(size: int, side: int) -> None:
    assert train.crop_side(size) == side


@pytest.mark.parametrize(
    ("lost", "reason"),
    [("images/val/3.jpg", "holds no photos"), ("labels/val/3.txt", "label file")],
)
def test_a_data_set_that_cannot_train_is_refused(
    data: Path, tmp_path: Path, lost: str, reason: str
) -> None:
    (data / lost).unlink()
    with pytest.raises(DatasetError, match=reason):
        train.prepare(data, tmp_path / "run")


def test_a_run_is_not_overwritten(data: Path, tmp_path: Path) -> None:
    (tmp_path / "a/weights").mkdir(parents=True)
    (tmp_path / "a/weights/last.pt").touch()
    with pytest.raises(SystemExit, match="--resume goes on with it"):
        train.main(["--data", str(data), "--runs", str(tmp_path), "--name", "a"])


def test_without_ultralytics_it_says_what_to_install(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("YOLO_AUTOINSTALL", "false")
    with pytest.raises(SystemExit, match=r"pip install -r model/requirements.txt"):
        train.main(["--data", str(data), "--runs", str(tmp_path)])


def test_a_setting_without_a_value_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train.main(["--data", "x", "--set", "mosaic"])
    assert "'mosaic' is not KEY=VALUE" in capsys.readouterr().err
    assert train._setting("mosaic=1") == "mosaic=1"
    with pytest.raises(argparse.ArgumentTypeError):
        train._setting("")


@pytest.mark.parametrize("hours", ["0", "-1", "nan", "inf", "long"])
def test_hours_that_are_none_are_named(hours: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train.main(["--data", "x", "--hours", hours])
    assert f"--hours: must be a number above 0, got {hours!r}" in capsys.readouterr().err


@needs_ultralytics
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--weights", "model/shelf.onnx"], "weights must be a checkpoint, .pt or .safetensors"),
        (["--weights", "README.md"], "got README.md"),
        (["--weights", "random", "--set", "nosuch=1"], "'nosuch' is not a valid YOLO argument"),
        (["--weights", "random", "--set", "batch=many"], "'batch=many' is of invalid type str"),
    ],
)
def test_what_ultralytics_cannot_use_is_named(
    data: Path, tmp_path: Path, options: list[str], reason: str
) -> None:
    command = [str(MODEL_PYTHON), "-m", "model.train", "--data", str(data), "--runs", str(tmp_path)]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert reason in done.stderr.splitlines()[-1]


@needs_ultralytics
@pytest.mark.timeout(600)
def test_a_killed_training_goes_on_and_its_checkpoint_exports(data: Path, tmp_path: Path) -> None:
    options = ["--arch", "yolo11n", "--size", "64", "--epochs", "3", "--runs", str(tmp_path)]
    command = [str(MODEL_PYTHON), "-m", "model.train", "--data", str(data), *options, "--name", "r"]
    kept = tmp_path / "r/weights/resume.pt"
    with subprocess.Popen([*command, "--weights", "random", "--drawn", "1"], cwd=ROOT) as killed:
        while not kept.is_file():
            assert killed.poll() is None
            time.sleep(0.2)
        killed.send_signal(signal.SIGKILL)
    for name in ("last.pt", "best.pt"):
        (tmp_path / "r/weights" / name).write_bytes(b"half")  # killed while it was written
    again = subprocess.run([*command, "--resume"], cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "Resuming training" in again.stdout + again.stderr
    assert len((tmp_path / "r/results.csv").read_text().splitlines()) == 1 + 3
    assert not kept.exists()
    done = subprocess.run([*command, "--resume"], cwd=ROOT, capture_output=True, text=True)
    assert "has all its epochs" in done.stdout
    for picture in ("results.png", "BoxPR_curve.png", "val_batch0_pred.jpg"):
        assert (tmp_path / "r" / picture).is_file()

    best, tensors = tmp_path / "r/weights/best.pt", tmp_path / "best.safetensors"
    written = [str(MODEL_PYTHON), "-m", "model.yolo", str(best), str(tensors)]
    subprocess.run(written, cwd=ROOT, check=True)
    for weights in (best, tensors):
        output = tmp_path / f"{weights.suffix}.onnx"
        export = ["-m", "model.export", str(weights), "--output", str(output)]
        settings = ["--size", "64", "--label", "product", "--training-data", "drawn"]
        subprocess.run([str(MODEL_PYTHON), *export, *settings], cwd=ROOT, check=True)
        detector = Detector.load(output)
        detector.warm_up()
        assert detector.model.names == {0: "product"}
        assert detector.model.input_size == (64, 64)
        metadata = {entry.key: entry.value for entry in onnx.load(output).metadata_props}
        assert metadata["name"] == metadata["description"] == "shelf-yolo11n"
        assert (metadata["training_data"], metadata["stride"]) == ("drawn", "32")


def planned(*arguments: str) -> str:
    """Show what make would run."""
    venv = f"MODEL_VENV={Path(sys.executable).parent.parent}"
    command = ["make", "-n", "-o", str(Path(sys.executable).parent / "yolo"), "model", venv]
    done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "output", "limit"),
    [
        ([], "model/shelf.onnx", True),
        (["ARCH=yolo11l"], "build/shelf-yolo11l.onnx", False),
        (["ARCH=yolo11l", "OUTPUT=model/shelf.onnx"], "model/shelf.onnx", True),
    ],
)
def test_only_a_small_file_goes_into_git(arguments: list[str], output: str, limit: bool) -> None:
    said = planned("DATA=photos", *arguments)
    assert f"wrote {output}" in said
    assert ("--max-megabytes 10" in said) is limit
    assert said.index("model.gate") < said.index("cp ")


def test_a_model_is_not_called_like_the_computer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAME", "DESKTOP-1")  # as WSL does
    assert "--name shelf-yolo11n " in planned("DATA=photos")
    assert "--name mine " in planned("DATA=photos", "NAME=mine")


def test_a_trained_checkpoint_is_taken_as_it_is() -> None:
    said = planned("DATA=photos", "WEIGHTS=mine.pt", "EPOCHS=0", "ARCH=yolo11l")
    assert "model.train" not in said
    assert 'model.export "mine.pt"' in said


def test_paths_may_hold_blanks_and_the_tilde_that_zsh_passes_on() -> None:
    home = str(Path.home())
    said = planned("DATA=~/my photos", "GAPS=my gaps", "WEIGHTS=~/my best.pt", "OUTPUT=a b.onnx")
    assert said.count(f'--data "{home}/my photos/images/') == 3
    assert said.count('--gaps "my gaps"') == 3
    assert f'--weights "{home}/my best.pt"' in said
    assert '/int8.onnx "a b.onnx"' in said
    said = planned("DATA=.", "EPOCHS=0", "WEIGHTS=~/my best.pt")
    assert f'model.export "{home}/my best.pt"' in said
    assert f'--training-data "{ROOT.name}"' in said


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [([], "DATA is empty"), (["DATA=photos", "EPOCHS=0"], "WEIGHTS is empty")],
)
def test_make_model_names_what_is_missing(arguments: list[str], reason: str) -> None:
    assert reason in planned(*arguments)
