"""What the bench computes from its measurements; the measuring itself is run by `make bench`."""

import json
import math
import os
import shutil
from pathlib import Path

import pytest

from bench.against import median_interval, running_tree
from bench.contenders import form
from bench.load import Step, knee
from bench.report import BLOCK, PAGE, PLOTS, QUOTE, fill
from bench.results import quantile, ratio, table
from local.processes import ROOT
from local.stack import answers


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
