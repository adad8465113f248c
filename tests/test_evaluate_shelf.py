"""The measure of the audit, on shelves whose answer is known."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from function.detections import Detections
from model.evaluate_shelf import (
    Scene,
    Score,
    drawn,
    join_touching,
    main,
    rightly_rowed,
    score_drawn,
    score_scene,
    true_detections,
)
from model.render import RenderedShelf, render_shelf


def test_an_empty_score_is_perfect() -> None:
    assert (Score().precision, Score().recall, Score().f1) == (1, 1, 1)
    assert str(Score(1, 2, 4)).startswith("precision 0.500  recall 0.250  F1 0.333")


@pytest.mark.parametrize(
    ("gaps", "joined"),
    [
        ([], []),
        ([[0, 0, 10, 20]], [[0, 0, 10, 20]]),
        ([[11, 1, 21, 20], [0, 0, 10, 20]], [[0, 0, 21, 20]]),
        ([[0, 0, 10, 20], [11, 0, 21, 20], [22, 0, 32, 20]], [[0, 0, 32, 20]]),
        ([[0, 0, 10, 20], [14, 0, 24, 20]], [[0, 0, 10, 20], [14, 0, 24, 20]]),
        ([[0, 0, 10, 20], [5, 18, 15, 40]], [[0, 0, 10, 20], [5, 18, 15, 40]]),
    ],
)
def test_labels_that_touch_in_a_row_are_one_gap(
    gaps: list[list[float]], joined: list[list[float]]
) -> None:
    boxes = np.array(gaps, np.float32).reshape(-1, 4)
    assert join_touching(boxes).tolist() == joined


@pytest.mark.parametrize(
    ("true", "reported", "right"),
    [
        ([], [], 0),
        ([0, 0, 1, 1], [1, 1, 0, 0], 4),
        ([0, 0, 1, 1], [0, 0, 0, 0], 2),
        ([0, 0, 0, 1], [0, 0, 1, 1], 3),
    ],
)
def test_rows_are_paired_by_what_they_share(
    true: list[int], reported: list[int], right: int
) -> None:
    assert rightly_rowed(np.array(true, np.int64), np.array(reported, np.int64)) == right


@pytest.mark.slow
def test_true_boxes_of_drawn_shelves_reach_the_floors() -> None:
    report = score_drawn(drawn(10, seed=7), true_detections)
    assert report.rows.matched >= 0.98 * report.rows.true
    assert report.gaps.f1 >= 0.90


def test_products_that_are_not_detected_count_against_the_rows() -> None:
    shelf = render_shelf(3, width=480, height=480, rows=4)

    def half(shelf: RenderedShelf) -> Detections:
        whole = true_detections(shelf)
        return Detections(
            xyxy=whole.xyxy[::2], confidence=whole.confidence[::2], class_id=whole.class_id[::2]
        )

    report = score_drawn([("a", shelf)], half)
    assert report.rows.true == len(shelf.xyxy)
    assert report.rows.matched <= (len(shelf.xyxy) + 1) // 2


@pytest.mark.slow
def test_the_command_prints_scores_and_keeps_the_worst_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf = render_shelf(5, width=640, height=640, rows=4, gap_rate=0.2)
    (tmp_path / "images").mkdir()
    PIL.Image.fromarray(shelf.image).save(tmp_path / "images" / "a.png")
    label = {"image": "images/a.png", "width": 640, "height": 640, "gaps": shelf.gaps.tolist()}
    (tmp_path / "labels.json").write_text(json.dumps([label]))
    main(["--photos", str(tmp_path), "--drawn", "1", "--pictures", str(tmp_path / "worst")])
    printed = capsys.readouterr().out
    for line in (
        "photos, gaps joined",
        "drawn, true boxes: rows 1.0",
        "drawn, model's boxes: gaps",
    ):
        assert line in printed
    assert len(list((tmp_path / "worst").iterdir())) == 3


SCENE = {"image": "a.jpg", "boards": 1, "fill": 1.0, "empty": [], "products_by_eye": 2}
GAPS = {"image": "a.jpg", "width": 4, "height": 4, "gaps": []}


@pytest.mark.parametrize(
    ("option", "notes", "photo", "reason"),
    [
        ("--photos", "", None, "images holds no photos"),
        ("--photos", "[{}]", None, "labels.json is not a list of photos with their gaps: KeyErr"),
        ("--photos", "[]", None, "has no photos in that part"),
        ("--photos", json.dumps([GAPS | {"width": 0}]), None, "width and height of a.jpg must be"),
        ("--photos", json.dumps([GAPS]), None, r"a\.jpg is missing"),
        ("--photos", json.dumps([GAPS]), b"GIF89a", "a.jpg: The image must be one"),
        ("--scenes", "", None, "notes.json is not a list of scenes: FileNotFoundError"),
        ("--scenes", "{", None, "notes.json is not a list of scenes: JSONDecodeError"),
        (
            "--scenes",
            json.dumps([SCENE | {"fill": "full"}]),
            None,
            "not a list of scenes: ValueErr",
        ),
        ("--scenes", json.dumps([SCENE | {"boards": None}]), None, "not a list of scenes: TypeErr"),
        ("--scenes", json.dumps([SCENE]), b"", "a.jpg: The image must have bytes"),
    ],
)
def test_what_cannot_be_read_is_named(
    option: str, notes: str, photo: bytes | None, reason: str, tmp_path: Path
) -> None:
    if notes:
        name = "labels.json" if option == "--photos" else "notes.json"
        (tmp_path / name).write_text(notes)
    if photo is not None:
        (tmp_path / "a.jpg").write_bytes(photo)
    with pytest.raises(SystemExit, match=reason):
        main([option, str(tmp_path)])


@pytest.mark.parametrize(
    ("gaps", "empty", "covered", "false"),
    [
        pytest.param([], [], [], 0, id="none"),
        pytest.param([], [[0, 0, 0.5, 0.5]], [0.0], 0, id="missed"),
        pytest.param([[0, 0, 50, 50]], [[0, 0, 0.5, 0.5]], [1.0], 0, id="found"),
        pytest.param(
            [[0, 0, 20, 50], [20, 0, 40, 50]], [[0, 0, 0.5, 0.5]], [0.8], 0, id="in-two-pieces"
        ),
        pytest.param([[0, 60, 50, 90]], [[0, 0, 0.5, 0.5]], [0.0], 1, id="on-another-board"),
    ],
)
def test_a_scene_is_held_to_what_a_person_sees(
    gaps: list[list[float]], empty: list[list[float]], covered: list[float], false: int
) -> None:
    scene = Scene(
        image="a.jpg",
        boards=1,
        fill=0.5,
        empty=np.array(empty, np.float32).reshape(-1, 4),
        products=2,
    )
    result: Any = {
        "image": {"width": 100, "height": 100},
        "rows": [{"index": 0}],
        "gaps": [{"xyxy": box} for box in gaps],
        "fill_rate": 0.5,
        "count": 2,
    }
    score = score_scene(scene, result)
    assert score.covered == pytest.approx(covered, abs=0.01)
    assert (score.rows, score.products, score.false_gaps) == (1, 2, false)


def test_a_folder_for_pictures_that_is_a_file_is_named_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "worst").write_text("")
    with pytest.raises(SystemExit, match=r"worst: .Errno 17. File exists"):
        main(["--model", "none.onnx", "--drawn", "1", "--pictures", str(tmp_path / "worst")])
