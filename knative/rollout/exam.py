"""Holds exams: asks revisions about pictures whose boxes are known, over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import numpy as np
import urllib3

from function.boxes import Floats, cxcywh_to_xyxy
from knative.rollout.clock import Clock
from knative.rollout.judge import Answer, Floors

# Below the 60 s of the Knative Service.
TIMEOUT: Final = urllib3.Timeout(connect=5, read=55)
# What every client of the service tries again: a pod that starts, is full, or has just gone.
TRY_AGAIN: Final = frozenset({408, 425, 429, 502, 503, 504})
ATTEMPTS: Final = 3
PAUSE_SECONDS: Final = 2.0
# A pod that says when to come again is full of its users' photos, not broken; so long in one exam.
FULL_SECONDS: Final = 60.0


class ExamError(ValueError):
    """The folder of the judge is missing or odd; the message names the file."""


@dataclass(frozen=True)
class Exam:
    """Pictures by name, their true boxes (n, 4) as shares of the picture, and the floors."""

    pictures: Mapping[str, bytes]
    truth: Mapping[str, Floats]
    floors: Floors


def read_exam(folder: Path) -> Exam:
    """Read floors.json, the pictures and beside each its labels in YOLO lines.

    Raises `ExamError`.
    """
    try:
        floors = _floors(json.loads((folder / "floors.json").read_text()))
        paths = sorted(folder.glob("*.jpg"))
        pictures = {path.name: path.read_bytes() for path in paths}
        truth = {path.name: _boxes(path.with_suffix(".txt")) for path in paths}
    except (OSError, ValueError, TypeError) as err:
        msg = f"JUDGE {folder}: {err}"
        raise ExamError(msg) from err
    if not pictures:
        msg = f"JUDGE {folder} holds no *.jpg"
        raise ExamError(msg)
    return Exam(pictures, truth, floors)


def _floors(given: Mapping[str, float]) -> Floors:
    names = {field.name for field in fields(Floors)}
    if set(given) != names:
        msg = f"floors.json must hold exactly {sorted(names)}, got {sorted(given)}"
        raise ValueError(msg)
    return Floors(**{name: float(value) for name, value in given.items()})


def _boxes(path: Path) -> Floats:
    rows = [line.split() for line in path.read_text().splitlines() if line.strip()]
    numbers = np.array(rows, dtype=np.float32)
    if numbers.ndim != 2 or numbers.shape[1] != 5:
        msg = f"{path.name} holds no lines of class, x, y, width, height"
        raise ValueError(msg)
    return cxcywh_to_xyxy(numbers[:, 1:])


class Examiner:
    """Asks about the pictures of an exam."""

    def __init__(self, exam: Exam, rounds: int, token: str, clock: Clock) -> None:
        self.exam = exam
        self.rounds = rounds
        self.clock = clock
        self.http = urllib3.PoolManager(timeout=TIMEOUT, retries=False)
        self.headers = {"content-type": "image/jpeg", "accept": "application/json"}
        if token:
            self.headers["authorization"] = f"Bearer {token}"

    def ask(self, *urls: str) -> list[list[Answer]]:
        """Put the same questions to all URLs in turn, so that load and time hit them alike.

        The first answer of each is not counted: it opens the connection.
        """
        answers: list[list[Answer]] = [[] for _ in urls]
        until = self.clock.now() + FULL_SECONDS
        for url in urls:
            self._answer(url, next(iter(self.exam.pictures)), until)
        for picture in list(self.exam.pictures) * self.rounds:
            if self.clock.stopped:
                break
            for url, given in zip(urls, answers, strict=True):
                given.append(self._answer(url, picture, until))
        return answers

    def _answer(self, url: str, picture: str, until: float) -> Answer:
        nothing = np.zeros((0, 4), np.float32)
        error = ""
        attempts, pause = 0, 0.0
        while attempts < ATTEMPTS and not (pause and self.clock.stopped):
            if pause:
                self.clock.wait(pause)
            attempts, pause = attempts + 1, PAUSE_SECONDS
            started = time.perf_counter()
            try:
                response = self.http.request(
                    "POST",
                    f"{url}/predict",
                    body=self.exam.pictures[picture],
                    headers=self.headers,
                )
            except urllib3.exceptions.HTTPError as err:
                error = type(err).__name__
                continue
            milliseconds = (time.perf_counter() - started) * 1000
            if response.status == 200:
                return _read(picture, response.data, milliseconds)
            error = f"HTTP {response.status}"
            if response.status not in TRY_AGAIN:
                break
            later = response.headers.get("retry-after", "")
            if later.isdecimal() and self.clock.now() + int(later) < until:
                attempts, pause = attempts - 1, max(float(later), 1.0)
        return Answer(picture=picture, xyxy=nothing, milliseconds=0.0, error=error)


def _read(picture: str, body: bytes, milliseconds: float) -> Answer:
    try:
        result = json.loads(body)
        size = np.array([result["image"]["width"], result["image"]["height"]] * 2, np.float32)
        boxes = [detection["xyxy"] for detection in result["detections"]]
        xyxy = np.array(boxes, np.float32).reshape(-1, 4) / size
        model = result["model"]
        return Answer(
            picture=picture,
            xyxy=xyxy,
            milliseconds=milliseconds,
            error="",
            revision=str(model["revision"]),
            model=str(model["digest"]),
        )
    except (ValueError, KeyError, TypeError) as err:
        nothing = np.zeros((0, 4), np.float32)
        return Answer(
            picture=picture,
            xyxy=nothing,
            milliseconds=milliseconds,
            error=f"odd answer: {type(err).__name__}",
        )
