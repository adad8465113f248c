"""What the bench computes from its measurements; the measuring itself is run by `make bench`."""

import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import PIL.Image
import pytest
from test_detector import ONE_BOX, save_model

from bench.against import median_interval, running_tree
from bench.contenders import form
from bench.load import Step, knee
from bench.report import BLOCK, PAGE, PLOTS, QUOTE, fill
from bench.results import quantile, ratio, table
from bench.watch import SOLD, Score, in_frame, photos_of, rows_of, to_sell, watch
from bench.watch import main as watch_main
from function.result import Result
from local.processes import ROOT
from local.stack import answers
from monitor.fold import Audit, Gap, Rules, pack


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([7.0], 0.99, 7.0),
        (list(range(100)), 0.5, 50),
        (list(range(100)), 0.99, 99),
        ([3.0, 1.0, 2.0], 0.0, 1.0),
    ],
)
def test_a_quantile_is_one_of_the_values(
    values: list[float], share: float, expected: float
) -> None:
    assert quantile(values, share) == expected


def test_no_values_have_no_quantile() -> None:
    assert math.isnan(quantile([], 0.5))


def test_a_ratio_comes_with_the_spread_over_the_run() -> None:
    theirs = [10.0] * 10
    assert ratio([5.0] * 10, theirs) == (0.5, 0.5, 0.5)
    ours = [4.0] * 2 + [5.0] * 6 + [8.0] * 2
    assert ratio(ours, theirs) == (0.5, 0.4, 0.8)


def test_the_knee_is_the_highest_rate_that_is_served() -> None:
    served = Step(0.5, 10.0, 1.0, answers=["200"] * 10)
    full = Step(1.0, 20.0, 1.0, answers=["200"] * 990 + ["503"] * 9)
    shed = Step(4.0, 80.0, 1.0, answers=["200"] * 20 + ["503"] * 60)
    assert knee([]) == 0
    assert knee([served, full, shed]) == 20
    assert shed.refused == 0.75
    assert shed.json()["answers"] == {"200": 20, "503": 60}


def test_the_other_tree_runs_its_own_code_and_model(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for room in ("function", "events", "local"):
        shutil.copytree(ROOT / room, tree / room, ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "model").mkdir()
    shutil.copy(ROOT / "model/shelf.onnx", tree / "model/own.onnx")
    config = tree / "function/config.py"
    config.write_text(config.read_text().replace('"shelf.onnx"', '"own.onnx"'))
    log = tmp_path / "log"
    with running_tree("The other", tree, os.environ, log) as (url, _):
        assert answers(f"{url}/health/ready")
    lines = map(json.loads, log.read_text().splitlines())
    assert [line["graph"] for line in lines if "graph" in line] == ["own.onnx"]


def test_a_table_aligns_numbers() -> None:
    assert table(["who", "ms"], [["we", 3]]) == "| who | ms |\n| --- | --: |\n| we | 3 |"


def test_a_form_holds_the_picture_as_it_is() -> None:
    assert form(b"\xff\xd8\r\n--").split(b"\r\n\r\n", 1)[1].startswith(b"\xff\xd8\r\n--\r\n--")


def test_the_page_takes_the_parts_that_were_run_and_keeps_the_others(tmp_path: Path) -> None:
    machine = {"time": "now", "threads": 2, "cpu": "a CPU", "isa": "avx2", "load": 0.1}
    (tmp_path / "load.json").write_text(json.dumps({"full": True, "machine": machine}))
    (tmp_path / "load.md").write_text("| new |\n")
    page = "<!-- rows of compare -->\n<!-- end -->\na\n"  # whose end begins no block
    page += "<!-- load -->\nold\n<!-- end -->\nb\n<!-- start -->\nkept\n<!-- end -->\n"
    filled = fill(page, tmp_path)
    assert "| new |" in filled
    assert "full form, now, 2 threads of a CPU (avx2), load 0.1" in filled
    assert "old" not in filled
    assert filled.endswith("b\n<!-- start -->\nkept\n<!-- end -->\n")
    assert fill(filled, tmp_path) == filled


def test_a_quoted_row_follows_its_table_and_one_that_is_gone_stays(tmp_path: Path) -> None:
    new = "|  | 2 MP |\n| --- | --: |\n| we | 2 |\n| they | 4 |\n"
    (tmp_path / "start.md").write_text(new)
    page = "<!-- rows of start -->\n|  | 2 MP |\n| --- | --: |\n{}\n<!-- end -->\n"
    assert fill(page.format("| they | 3 |"), tmp_path) == page.format("| they | 4 |")
    assert fill(page.format("| gone | 3 |"), tmp_path) == page.format("| gone | 3 |")


def test_the_page_quotes_its_tables_to_the_letter() -> None:
    history = (PLOTS / "history.md").read_text()
    tables = {found["part"]: found[0].splitlines() for found in BLOCK.finditer(history)}
    quotes = list(QUOTE.finditer(PAGE.read_text()))
    assert {found["part"] for found in quotes} == {"compare", "compare-large", "start"}
    for found in quotes:
        assert set(found[0].splitlines()[1:-1]) <= set(tables[found["part"]])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0], (1.0, 1.0, 1.0)),
        ([2.0, 1.0], (1.5, 1.0, 2.0)),
        # Of 100 values, the ranks 50 - 9.8 and 50 + 9.8.
        ([float(value) for value in range(100)], (49.5, 40.0, 60.0)),
        ([1.0] * 399 + [50.0], (1.0, 1.0, 1.0)),
    ],
)
def test_a_median_has_its_interval_by_ranks(
    values: list[float], expected: tuple[float, float, float]
) -> None:
    assert median_interval(values) == expected


SLOTS = [(3000 + 6000 * column, 20000, 8500 + 6000 * column, 40000) for column in range(10)]


def shelf_photos(empty: dict[int, tuple[int, ...]]) -> list[Audit]:
    """Eighteen photos of a row of ten facings, some of which are empty on some of them."""
    audits = []
    for index in range(18):
        gone = empty.get(index, ())
        boxes = np.array([box for slot, box in enumerate(SLOTS) if slot not in gone], float)
        gaps = tuple(Gap(box=SLOTS[slot], row=0, facings=1.0) for slot in gone)
        audits.append(
            Audit(
                photo=f"{index:02d}",
                generation=0,
                captured=900_000 * index,
                doubtful=False,
                products=pack(boxes / 65535),
                gaps=gaps,
            )
        )
    return audits


@pytest.mark.parametrize(
    ("empty", "expected"),
    [
        pytest.param({}, Score(views=1, sold=1), id="a sale that nobody saw"),
        pytest.param(
            {index: (4,) for index in SOLD},
            Score(views=1, gaps=1 / 3, sold=1, after_sold=[2], refilled=1, after_refilled=[2]),
            id="what was sold is told, and that it was refilled",
        ),
        pytest.param(
            {index: (1,) for index in range(18)},
            Score(views=1, gaps=1, stood=1, sold=1),
            id="a gap that stands",
        ),
        pytest.param(
            {3: (1,), 4: (1,)},
            Score(views=1, gaps=1 / 9, opened=1, filled=1, sold=1),
            id="one that nobody made",
        ),
        pytest.param(
            {index: (4,) for index in range(18)}, Score(views=1, gaps=1), id="no sale: it was empty"
        ),
    ],
)
def test_what_a_watched_shelf_scores(empty: dict[int, tuple[int, ...]], expected: Score) -> None:
    score = Score()
    watch(score, shelf_photos(empty), SLOTS[4], Rules())
    assert score == expected


def test_a_score_of_no_views_is_a_table() -> None:
    assert [row[1] for row in rows_of(Score())] == [
        "0.0",
        "0.0",
        "0.00",
        "0.00",
        "0.00",
        "0%",
        "0%",
        "0%",
        "0%",
    ]


def test_two_facings_in_the_middle_of_a_row_are_sold() -> None:
    def result(facings: int, confidence: float) -> Result:
        found = [
            {"confidence": confidence, "row": 0, "xyxy": [10.0 * i, 5.0, 10.0 * i + 9, 30.0]}
            for i in range(facings)
        ]
        return cast("Result", {"detections": found})

    assert to_sell(result(0, 0.9), 0) is None
    assert to_sell(result(5, 0.9), 0) is None
    assert to_sell(result(6, 0.5), 0) is None
    assert to_sell(result(6, 0.9), 0) == (20, 5, 39, 30)
    assert in_frame((50, 50, 98, 98), (100, 100)) == (32768, 32768, 65535, 65535)


def test_facings_are_sold_on_the_photo_as_a_person_sees_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned = PIL.Image.Exif()
    turned[0x112] = 6
    PIL.Image.new("RGB", (96, 64)).save(tmp_path / "a.jpg", exif=turned)
    model = save_model(tmp_path / "m.onnx", ONE_BOX)
    seen = []

    def photos(picture: PIL.Image.Image, *others: Any) -> Iterator[bytes]:
        seen.append(picture.size)
        return photos_of(picture, *others)

    monkeypatch.setattr("bench.watch.photos_of", photos)
    watch_main([str(tmp_path), "--model", str(model), "--output", str(tmp_path)])
    assert seen == [(64, 96)]


def test_a_folder_without_photos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds no photos"):
        watch_main([str(tmp_path)])
