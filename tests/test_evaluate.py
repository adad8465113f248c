"""Average precision, recall and count error, on boxes whose score is known."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from test_detector import ONE_BOX, save_model

from function.detections import Detections
from function.detector import Detector
from function.image import Image
from model.evaluate import (
    CAPS,
    Box,
    ScoredBox,
    average_precision,
    evaluate,
    main,
    scored_products,
    true_boxes,
)
from model.labelled import LabelledPhoto, read_dataset
from model.photos import DatasetError

GRID = Detections(
    xyxy=np.array(
        [[x, y, x + 20, y + 30] for x in range(0, 500, 25) for y in range(0, 700, 35)], np.float32
    ),
    confidence=np.linspace(0.9, 0.3, 400, dtype=np.float32),
    class_id=np.zeros(400, np.int64),
)


def truth_of(detections: Detections) -> list[Box]:
    corner, end = np.hsplit(detections.xyxy.astype(np.float64), 2)
    count = len(detections)
    boxes = np.hstack([corner, end - corner])
    photo = LabelledPhoto(
        path=Path("a.jpg"),
        boxes=boxes,
        class_id=detections.class_id,
        crowd=np.zeros(count, bool),
        size=None,
    )
    truth = true_boxes(photo, boxes, 1)
    for number, box in enumerate(truth, start=1):
        box["id"] = number
    return truth


@pytest.mark.parametrize(
    ("step", "ap"),
    [
        pytest.param(0, 0.0, id="none-found"),
        pytest.param(1, 1.0, id="all-found"),
        pytest.param(2, 0.505, id="every-second-found"),  # recall 0.5: 51 of COCO's 101 points
    ],
)
def test_more_than_a_hundred_boxes_a_photo_count(step: int, ap: float) -> None:
    found = scored_products(GRID, 1)[::step] if step else []
    scores = average_precision(1, truth_of(GRID), found)[1000]
    averages = (scores.ap50, scores.ap75, scores.ap50_95)
    assert averages == pytest.approx((ap, ap, ap), abs=1e-3)
    assert scores.ar == pytest.approx(1 / step if step else 0)
    assert scores.curve.shape == (101,)
    assert scores.curve.mean() == pytest.approx(ap, abs=1e-3)


def test_a_cap_keeps_the_best_boxes_only() -> None:
    scores = average_precision(1, truth_of(GRID), scored_products(GRID, 1))
    assert CAPS == (300, 1000)
    assert scores[300].ar == pytest.approx(300 / 400)
    assert scores[300].ap50 == pytest.approx(0.752, abs=1e-3)  # 76 of 101 points
    assert scores[1000].ar == pytest.approx(1.0)


def test_the_average_is_over_overlaps_too() -> None:
    """Boxes moved by 3 of their 20 pixels overlap by 0.74: right at 0.7, wrong at 0.75."""
    found: list[ScoredBox] = scored_products(GRID, 1)
    for box in found:
        box["bbox"][0] += 3
    scores = average_precision(1, truth_of(GRID), found)[1000]
    assert (scores.ap50, scores.ap75) == pytest.approx((1.0, 0.0))
    assert scores.ap50_95 == pytest.approx(0.5)  # at 0.5, 0.55 … 0.7


BOX = "0 0.5 0.5 0.5 0.5"  # what ONE_BOX is in a 64 x 48 picture


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """Two photos: one has the box that the model finds everywhere, the other has two more."""
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for name in ("a.png", "b.png"):
        PIL.Image.new("RGB", (64, 48)).save(tmp_path / "images" / name)
    (tmp_path / "labels" / "a.txt").write_text(BOX)
    (tmp_path / "labels" / "b.txt").write_text(f"{BOX}\n3 0.1 0.1 0.1 0.1\n0 0.9 0.9 0.1 0.1\n")
    return tmp_path / "images"


def coco(split: Path, name: str = "coco.json", **changed: object) -> Path:
    """Describe the same photos as COCO does, and a crowd that no one has to find."""
    middle = [16.0, 12.0, 32.0, 24.0]
    rows = [
        (7, middle, 2, 0),
        (9, middle, 2, 0),
        (9, [0, 0, 6, 5], 5, 0),
        (9, [50, 40, 6, 5], 2, 0),
        (9, [0, 30, 10, 10], 2, 1),
    ]
    content = {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 9, "file_name": "b.png"}],
        "categories": [{"id": 5, "name": "tag"}, {"id": 2, "name": "product"}],
        "annotations": [
            {"id": i, "image_id": image, "bbox": box, "category_id": label, "iscrowd": crowd}
            for i, (image, box, label, crowd) in enumerate(rows)
        ],
    }
    path = split.parent / name
    path.write_text(json.dumps(content | changed))
    return path


@pytest.mark.parametrize("kind", ["yolo", "coco"])
def test_a_photo_is_scored_as_the_service_sees_it(split: Path, tmp_path: Path, kind: str) -> None:
    photos = read_dataset(split) if kind == "yolo" else read_dataset(coco(split), split)
    detector = Detector.load(save_model(tmp_path / "m.onnx", ONE_BOX), threads=1)
    detector.warm_up()
    scores = evaluate(detector, photos)
    assert scores.precision[1000].ap50 == pytest.approx(0.505, abs=1e-3)  # two of four, none wrong
    assert scores.precision[1000].ar == pytest.approx(0.5)
    np.testing.assert_allclose(scores.count_errors, [0, 2 / 3])
    assert len(scores.milliseconds) == 2


def test_a_model_of_several_classes_is_scored_a_class(split: Path, tmp_path: Path) -> None:
    output = np.zeros((1, 6, 21))
    output[0, :5] = ONE_BOX
    path = save_model(tmp_path / "m.onnx", output, names="{0: 'tag', 1: 'product'}")
    detector = Detector.load(path, threads=1)
    detector.warm_up()
    assert evaluate(detector, read_dataset(split)).precision[1000].ap50 == pytest.approx(
        np.mean([0.67, 0.0]), abs=0.01
    )  # two of three of class 0, none of class 3
    # COCO's category 2 comes before 5, so it is class 0.
    of_coco = evaluate(detector, read_dataset(coco(split), split))
    assert of_coco.precision[1000].ap50 == pytest.approx(np.mean([0.67, 0.0]), abs=0.01)


# What labels are called in COCO files, and which of a photo's boxes are then gaps.
CATEGORIES = [
    (["product"], [False]),
    (["product", "gap"], [False, True]),
    (["Out-of-Stock", "product"], [True, False]),
    (["bottle", "can"], [False, False]),
    (["things", "bottle", "Void"], [False, False, True]),  # Roboflow begins with one of no boxes
]


@pytest.mark.parametrize(("names", "gaps"), CATEGORIES)
def test_categories_are_gaps_by_their_names(
    split: Path, names: list[str], gaps: list[bool]
) -> None:
    categories = [{"id": label + 4, "name": name} for label, name in enumerate(names)]
    rows = [
        {"id": of["id"], "image_id": 7, "category_id": of["id"], "bbox": [1, 1, 2, 2]}
        for of in categories
    ]
    photo, _ = read_dataset(coco(split, categories=categories, annotations=rows), split)
    for gap_classes in ([], [1]):  # whatever the model's own numbers
        assert photo.gaps(gap_classes).tolist() == gaps


def test_gaps_are_not_scored_with_a_model_that_has_none(split: Path, tmp_path: Path) -> None:
    detector = Detector.load(save_model(tmp_path / "m.onnx", ONE_BOX), threads=1)
    detector.warm_up()
    categories = [{"id": 2, "name": "product"}, {"id": 5, "name": "gap"}]
    scores = evaluate(detector, read_dataset(coco(split, categories=categories), split))
    assert scores.gaps is None
    assert scores.labelled.tolist() == [1, 2]  # a gap is no product that was missed


def test_labels_are_read_in_pixels_of_the_photo_a_person_sees(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    PIL.Image.new("RGB", (40, 80)).save(tmp_path / "images" / "a.png")
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.25 0.5 0.125")
    (photo,) = read_dataset(tmp_path / "images")

    size = Image.of(np.zeros((80, 40, 3), np.uint8))
    np.testing.assert_allclose(photo.xywh(size), [[10, 15, 20, 10]])


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        ({}, [10, 20, 6, 5]),
        ({"width": None, "height": 0}, [10, 20, 6, 5]),
        ({"width": 64, "height": 48}, [10, 20, 6, 5]),
        ({"width": 640, "height": 480}, [1, 2, 0.6, 0.5]),  # made smaller after it was labelled
        ({"width": 64, "height": 64}, [10, 15, 6, 3.75]),
    ],
)
def test_a_photo_may_be_smaller_than_it_was_labelled(
    split: Path, said: dict[str, object], seen: list[float]
) -> None:
    images = [{"id": 7, "file_name": "a.png", **said}]
    rows = [{"image_id": 7, "category_id": 2, "bbox": [10, 20, 6, 5]}]
    (photo,) = read_dataset(coco(split, images=images, annotations=rows), split)
    np.testing.assert_allclose(photo.xywh(Image.of(np.zeros((48, 64, 3), np.uint8))), [seen])


def test_boxes_of_a_photo_on_its_side_are_refused(split: Path) -> None:
    images = [{"id": 7, "file_name": "a.png", "width": 64, "height": 48}]
    (photo,) = read_dataset(coco(split, images=images, annotations=[]), split)
    with pytest.raises(DatasetError, match=r"a\.png is 48 x 64 as a person sees it, .* 64 x 48"):
        photo.xywh(Image.of(np.zeros((64, 48, 3), np.uint8)))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"images": []}, "KeyError"),
        ({"images": [], "annotations": []}, "names no images"),
        ({"categories": []}, "not a COCO annotation file"),
        ({"images": [{"id": 7, "file_name": "none.png"}], "annotations": []}, "--photos names"),
        ({"annotations": [{"image_id": 7, "category_id": 2, "bbox": [1, 2]}]}, "bbox of a.png"),
        *(
            ({"annotations": [{"image_id": 7, "category_id": 2, "bbox": box}]}, "bbox of a.png")
            for box in ([], [9, 9, -4, -4], [1, 2, float("nan"), 4], [1, 2, 3, 4, 5])
        ),
    ],
)
def test_a_broken_coco_file_is_named(split: Path, changed: dict[str, Any], reason: str) -> None:
    path = coco(split, **changed)
    with pytest.raises(DatasetError, match=reason) as caught:
        read_dataset(path, split)
    assert str(path) in str(caught.value)


def test_a_split_without_any_label_is_refused(split: Path) -> None:
    for path in (split.parent / "labels").iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match="none has a label file"):
        read_dataset(split)


def test_a_folder_for_plots_that_is_a_file_is_named_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("")
    with pytest.raises(SystemExit, match=r"p: .Errno 17. File exists"):
        main(["--data", "none", "--model", "none.onnx", "--plots", str(tmp_path / "p")])


def test_models_stand_side_by_side_with_the_protocol_and_plots(
    split: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, blind = ONE_BOX, ONE_BOX.copy()
    blind[0, 4] = 0
    files = [
        save_model(tmp_path / f"{name}.onnx", output)
        for name, output in (("good", good), ("blind", blind))
    ]
    command = ["--data", str(split), "--model", *map(str, files), "--plots", str(tmp_path / "p")]
    main(command)
    said = capsys.readouterr().out
    assert "2 photos, 4 products; confidence 0.001, NMS IoU 0.6, at most 1000 boxes" in said
    assert "0.505" in next(line for line in said.splitlines() if line.startswith("good.onnx"))
    assert "blind.onnx fp32 loses +50.5 points of AP50" in said
    pictures = {path.name for path in (tmp_path / "p").iterdir()}
    assert pictures == {"precision-recall.png", "good.onnx-fp32.jpg", "blind.onnx-fp32.jpg"}
    with PIL.Image.open(tmp_path / "p" / "good.onnx-fp32.jpg") as sheet:
        red, green, _ = np.asarray(sheet.convert("RGB")).astype(int).transpose(2, 0, 1)
    assert (green > red + 50).sum() > 60  # the box that was found
    with pytest.raises(SystemExit, match=r"blind.onnx fp32 loses more than 1.0 points"):
        main([*command, "--max-loss", "1"])


@pytest.mark.parametrize(
    ("data", "model", "reason"),
    [("none", "good.onnx", "holds no photos"), ("images", "none.onnx", "missing or not an ONNX")],
)
def test_what_is_missing_is_named(
    split: Path, tmp_path: Path, data: str, model: str, reason: str
) -> None:
    save_model(tmp_path / "good.onnx", ONE_BOX)
    with pytest.raises(SystemExit, match=reason):
        main(["--data", str(split.parent / data), "--model", str(tmp_path / model)])
