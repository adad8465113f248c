"""`python -m function`: audits without a server, as people, programs and spreadsheets read them."""

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from conftest import GOOD_SAMPLE, ROOT, SAMPLES

import function.__main__ as command
from function.audit import audit_image
from function.detections import Thresholds
from function.detector import Detector
from function.listing import csv_lines, table_line, whole_facings
from function.metrics import Metrics
from function.result import Result
from function.spreadsheet import csv_text

GAPS = SAMPLES / "store-17" / "aisle-5" / "gaps.jpg"
CORRUPT = SAMPLES / "store-21" / "aisle-2" / "corrupt.jpg"
Command = Callable[..., tuple[int, str, str]]  # exit code, output, errors


@pytest.fixture(scope="session")
def expected(detector: Detector) -> Result:
    """What the function finds on the shelf with gaps."""
    return audit_image(GAPS.read_bytes(), detector, Thresholds(), Metrics())


@pytest.fixture
def run(
    detector: Detector, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Run the command in this process, with the model that is warm already."""
    monkeypatch.setattr(Detector, "load", lambda *_: detector)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            code = command.main([str(one) for one in arguments])
        except SystemExit as end:  # argparse, for an odd argument
            code = int(end.code or 0)
        return (code, *capsys.readouterr())

    return run


def test_photos_are_a_table_and_a_refused_one_stops_none(
    run: Command, tmp_path: Path, expected: Result
) -> None:
    code, printed, errors = run(CORRUPT, tmp_path / "no.jpg", GAPS, GOOD_SAMPLE)
    head, gaps, full = [line for line in printed.splitlines() if line[0] != " "]  # less the notes
    assert head.split() == ["photo", "products", "rows", "gaps", "facings", "filled"]
    facings = sum(map(whole_facings, expected["gaps"]))
    numbers = [expected["count"], len(expected["rows"]), len(expected["gaps"]), facings]
    rate = f"{expected['fill_rate']:.0%}"
    assert gaps.split() == ["gaps.jpg", *map(str, numbers), rate]
    assert full.split()[0] == "full.jpg"
    assert {len(line) for line in (head, gaps, full)} == {80}
    corrupt, missing, total = errors.splitlines()
    assert corrupt.startswith(f"{CORRUPT}: Corrupt image: ")
    assert missing.startswith(f"{tmp_path / 'no.jpg'}: ")
    assert total == "2 of 4 photos refused"
    assert code == 1


def test_a_folder_is_walked_and_pictures_are_drawn(
    run: Command, tmp_path: Path, expected: Result
) -> None:
    (tmp_path / "in" / "a").mkdir(parents=True)
    for name in ("a/1.JPG", "2.jpg"):
        (tmp_path / "in" / name).write_bytes(GAPS.read_bytes())
    (tmp_path / "in" / "notes.txt").write_text("none")
    code, printed, errors = run(tmp_path / "in", "--json", "--pictures", tmp_path / "out")
    outcomes = [json.loads(line) for line in printed.splitlines()]
    assert [(one["name"], one["status"]) for one in outcomes] == [("2.jpg", 200), ("a/1.JPG", 200)]
    assert {one["result"]["count"] for one in outcomes} == {expected["count"]}
    assert (code, errors) == (0, "")
    with PIL.Image.open(tmp_path / "out" / "a" / "1.JPG.boxes.jpg") as drawn:
        assert drawn.size == (1080, 810)


def test_photos_of_one_name_keep_their_own_lines_and_pictures(
    run: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd.jpg").mkdir()  # a folder, whatever its name
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.jpg").write_bytes(GAPS.read_bytes())
    photos = (tmp_path / "a" / "1.jpg", tmp_path / "a" / ".." / "b" / "1.jpg")
    code, printed, errors = run(*photos, "--json", "--pictures", tmp_path / "out")
    names = [json.loads(line)["name"] for line in printed.splitlines()]
    assert (names, code, errors) == (["a/1.jpg", "b/1.jpg"], 0, "")
    drawn = [path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.jpg")]
    assert sorted(map(str, drawn)) == ["a/1.jpg.boxes.jpg", "b/1.jpg.boxes.jpg"]
    (tmp_path / "full").write_text("no folder")
    code, printed, errors = run(tmp_path, "--pictures", tmp_path / "full")
    assert (code, printed) == (2, "")
    assert "full" in errors
    (tmp_path / "out" / "c.jpg.boxes.jpg").mkdir()
    (tmp_path / "c.jpg").write_bytes(GAPS.read_bytes())
    code, printed, errors = run(tmp_path / "c.jpg", "--pictures", tmp_path / "out")
    assert code == 1
    assert errors.startswith("Stopped: ")
    assert "Traceback" not in errors


def test_csv_has_a_line_a_gap_and_a_product(run: Command, expected: Result) -> None:
    code, printed, _ = run(GAPS, "--csv")
    lines = list(csv.DictReader(io.StringIO(printed, newline="")))
    kinds = [line["kind"] for line in lines]
    found = len(expected["gaps"])
    assert (kinds.count("gap"), kinds.count("product")) == (found, expected["count"])
    facings = sum(int(line["facings"]) for line in lines[:found])
    assert facings == sum(map(whole_facings, expected["gaps"]))
    first, second = lines[found : found + 2]
    assert [(one["row"], one["number"]) for one in (first, second)] == [("1", "1"), ("1", "2")]
    assert code == 0


def test_a_shelf_is_compared_with_a_reference(run: Command, tmp_path: Path) -> None:
    _, printed, _ = run(GAPS, "--json")
    morning = tmp_path / "morning.json"
    morning.write_text(printed)
    code, printed, _ = run(GAPS, "--reference", morning)
    assert code == 0
    assert "    100% in place: 0 missing, 0 extra, 0 moved" in printed.splitlines()


@pytest.mark.parametrize(
    ("encoding", "name"),
    [("ascii", "caf\\xe9.jpg"), ("latin-1", "café.jpg"), ("utf-8", "café.jpg")],
)
def test_a_name_that_the_terminal_cannot_show_stops_nothing(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, name: str
) -> None:
    photo = tmp_path / "café.jpg"
    photo.write_bytes(GAPS.read_bytes())
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding))
    assert run(photo, "--csv")[0] == 0
    assert printed.getvalue().decode(encoding).splitlines()[1].startswith(f"{name},gap,")


def test_json_has_the_problem_of_a_refused_photo(run: Command) -> None:
    code, printed, _ = run(CORRUPT, "--json")
    outcome = json.loads(printed)
    assert (code, outcome["status"]) == (1, 422)
    assert outcome["problem"]["type"] == "urn:shelfwatch:problem:image-corrupt"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "PHOTO|FOLDER"),
        ([GAPS, "--json", "--csv"], "not allowed with"),
        ([GAPS, "--confidence", "high"], "got 'high'"),
        ([GAPS, "--reference", CORRUPT], "The reference must be JSON"),
        ([GAPS, "--reference", "no.json"], "no.json"),
        ([ROOT / "docs" / "performance" / ".." / ".." / "events"], "holds no .jpg"),
    ],
)
def test_a_misused_command_says_so_before_it_begins(
    run: Command, arguments: list[object], words: str
) -> None:
    code, printed, errors = run(*arguments)
    assert (code, printed) == (2, "")
    assert words in errors
    assert "Traceback" not in errors


def test_it_runs_as_a_program_and_its_help_has_examples() -> None:
    usage = subprocess.run(
        [sys.executable, "-m", "function", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert len(re.findall(r"^  python -m function ", usage, re.MULTILINE)) >= 3


EMPTY: Any = {
    "count": 0,
    "truncated": False,
    "fill_rate": None,
    "rows": [],
    "gaps": [],
    "detections": [],
}


def test_names_neither_break_the_table_nor_run_as_formulas() -> None:
    line = table_line("very/" * 30 + "end.jpg", EMPTY, 60)
    assert line.startswith("…")
    assert "/end.jpg" in line
    assert (len(line), line.split()[-1]) == (60, "-")
    assert table_line("\x1b[2J\n\udcff.jpg", EMPTY, 60).startswith("\ufffd[2J\ufffd\ufffd.jpg ")
    gap = {"row": 0, "xyxy": [0, 0, 1, 1], "facings": 0.2, "confidence": 0.5}
    text = csv_text(csv_lines("=1+1,.jpg", EMPTY | {"gaps": [gap]}))
    assert text == '"\'=1+1,.jpg",gap,1,1,,0.5,1,0,0,1,1\r\n'
