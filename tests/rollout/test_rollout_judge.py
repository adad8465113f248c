"""What is held against a candidate, case by case, and what the judge's folder must hold."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from knative.rollout.exam import ExamError, read_exam
from knative.rollout.judge import (
    Answer,
    Answers,
    Floors,
    RequestMetrics,
    judge,
    judge_requests,
    score,
)
from knative.rollout.verdict import Reason
from tests.rollout.runs import BOXES, EXAM

JUDGE = ROOT / "knative" / "rollout" / "judge"
FLOORS = EXAM.floors
RIGHT = Answer(
    picture="a.jpg", xyxy=BOXES, milliseconds=200.0, error="", revision="c", model="sha256:c"
)
STABLE = replace(RIGHT, revision="s")
ERROR = Answer(picture="a.jpg", xyxy=BOXES[:0], milliseconds=0.0, error="HTTP 500")
ONE_MISSED = replace(RIGHT, xyxy=BOXES[:2])
TOO_MANY = replace(RIGHT, xyxy=np.concatenate([BOXES, BOXES + 0.3]))


@pytest.mark.parametrize(
    ("candidate", "stable", "everybody", "reason"),
    [
        ([], [], [], Reason.FAILING),
        ([RIGHT], [], [], None),
        ([RIGHT], [STABLE], [], None),
        ([RIGHT], [STABLE], [RIGHT, STABLE], None),
        ([ONE_MISSED], [STABLE], [], Reason.INACCURATE),
        ([TOO_MANY], [STABLE], [], Reason.INACCURATE),
        ([ONE_MISSED], [replace(ONE_MISSED, revision="s")], [], Reason.INACCURATE),  # below floors
        ([replace(RIGHT, milliseconds=401)], [STABLE], [], Reason.TOO_SLOW),
        ([replace(RIGHT, milliseconds=399)], [STABLE], [], None),
        ([replace(RIGHT, milliseconds=401)], [ERROR], [], None),  # stable sets no measure
        ([replace(RIGHT, milliseconds=5001)], [ERROR], [], Reason.TOO_SLOW),
        ([RIGHT, ERROR], [STABLE], [], Reason.FAILING),
        ([RIGHT, ERROR], [ERROR], [], Reason.NO_ANSWER),  # both: the fault may lie before them
        ([RIGHT], [ERROR], [], None),  # the repair of a broken stable passes
        ([RIGHT], [STABLE], [ERROR, STABLE], Reason.FAILING),
        ([RIGHT], [ERROR], [ERROR, RIGHT], None),
        ([STABLE], [STABLE], [], Reason.NO_ANSWER),  # stable answered at the candidate's URL
        ([RIGHT], [STABLE], [replace(RIGHT, revision="x")], Reason.NO_ANSWER),
    ],
)
def test_verdicts(
    candidate: list[Answer], stable: list[Answer], everybody: list[Answer], reason: Reason | None
) -> None:
    answers = Answers(candidate, stable, everybody)
    verdict = judge(answers, ("c", "s"), EXAM.truth, FLOORS)
    assert (verdict.reason if verdict else None) == reason, verdict


def test_above_the_floor_it_may_still_be_worse_than_stable() -> None:
    low = replace(FLOORS, f1=0.5)
    verdict = judge(Answers([ONE_MISSED], [STABLE]), ("c", "s"), EXAM.truth, low)
    assert verdict
    assert verdict.reason is Reason.INACCURATE
    same = judge(
        Answers([ONE_MISSED], [replace(ONE_MISSED, revision="s")]), ("c", "s"), EXAM.truth, low
    )
    assert same is None


@pytest.mark.parametrize(
    ("candidate", "stable", "against"),
    [
        (RequestMetrics(), RequestMetrics(), False),
        (RequestMetrics(error_rate=0.5), RequestMetrics(), True),
        (RequestMetrics(error_rate=0.5), RequestMetrics(error_rate=0.6), False),
        (
            RequestMetrics(error_rate=0.02, p95_ms=100.0),
            RequestMetrics(error_rate=0.0, p95_ms=100.0),
            False,
        ),
        (
            RequestMetrics(error_rate=0.0, p95_ms=251.0),
            RequestMetrics(error_rate=0.0, p95_ms=100.0),
            True,
        ),
        (RequestMetrics(error_rate=0.0, p95_ms=9999.0), RequestMetrics(error_rate=0.0), False),
        (
            RequestMetrics(error_rate=0.0, p95_ms=100.0, refused_rate=1.0),
            RequestMetrics(error_rate=0.0, p95_ms=100.0),
            True,
        ),
        (
            RequestMetrics(error_rate=0.0, p95_ms=100.0, refused_rate=0.1),
            RequestMetrics(error_rate=0.0, p95_ms=100.0, refused_rate=0.1),
            False,
        ),
        (
            RequestMetrics(error_rate=0.0, p95_ms=100.0, deaths=2),
            RequestMetrics(error_rate=0.0, p95_ms=100.0, deaths=0),
            True,
        ),
        (
            RequestMetrics(error_rate=0.0, p95_ms=100.0, deaths=1),
            RequestMetrics(error_rate=0.0, p95_ms=100.0, deaths=0),
            False,
        ),
        (
            RequestMetrics(error_rate=0.0, p95_ms=100.0, deaths=2),
            RequestMetrics(error_rate=0.0, p95_ms=100.0, deaths=2),
            False,
        ),
    ],
)
def test_traffic_is_compared_where_prometheus_knows_of_it(
    candidate: RequestMetrics, stable: RequestMetrics, against: bool
) -> None:
    assert bool(judge_requests(candidate, stable, FLOORS)) == against


def test_scores_of_no_answers_are_the_worst() -> None:
    assert (score([], {}, 0.5).f1, score([], {}, 0.5).error_rate) == (0.0, 1.0)


def test_the_shipped_judge_can_be_read_and_leaves_room_for_more() -> None:
    exam = read_exam(JUDGE)
    assert {name: len(boxes) for name, boxes in exam.truth.items()} == {
        "dense.jpg": 68,
        "gaps.jpg": 46,
        "turned.jpg": 62,
    }
    for boxes in exam.truth.values():
        assert boxes.min() >= -1e-6
        assert boxes.max() <= 1 + 1e-6
        assert (boxes[:, 2:] > boxes[:, :2]).all()
    # A ConfigMap holds 1 MiB, pictures in base64.
    size = sum(p.stat().st_size * (4 / 3 if p.suffix == ".jpg" else 1.1) for p in JUDGE.iterdir())
    assert size < 2**20 / 2
    # For who applies by the server: else a copy goes into an annotation, which holds a quarter.
    for page in (ROOT / "docs").glob("*.md"):
        for applied in re.findall(r"kubectl apply [^\n]*knative/overlays", page.read_text()):
            assert "--server-side" in applied, page.name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: (d / "floors.json").unlink(), "floors.json"),
        (lambda d: (d / "floors.json").write_text('{"f1": 0.9}'), "must hold exactly"),
        (lambda d: (d / "a.txt").unlink(), "a.txt"),
        (lambda d: (d / "a.txt").write_text("0 0.5 0.5 0.1\n"), "a.txt holds no lines"),
        (lambda d: (d / "a.txt").write_text("product 1 2 3 4\n"), "could not convert"),
        (lambda d: (d / "a.jpg").unlink(), "no *.jpg"),
    ],
)
def test_an_odd_judge_is_refused_by_name(
    tmp_path: Path, change: Callable[[Path], object], said: str
) -> None:
    floors = {field: 1.0 for field in Floors.__dataclass_fields__}
    (tmp_path / "floors.json").write_text(json.dumps(floors))
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    assert list(read_exam(tmp_path).pictures) == ["a.jpg"]
    change(tmp_path)
    with pytest.raises(ExamError, match=said.replace("*", "[*]")):
        read_exam(tmp_path)
