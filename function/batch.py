"""Several pictures in one request: bounded as a whole, an outcome for each."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NotRequired, TypedDict

from function.container import MAX_IMAGE_PIXELS
from function.errors import BatchTooLarge, ImageError, Overloaded, Problem, ShelfWatchError
from function.image import read_header
from function.inputs import Picture
from function.result import Result

# The pictures are audited one after another, in the 60 s that a Knative Service has for a request.
MAX_BATCH = 10
# Three of the largest pictures there may be; ten photos of a 12 MP phone, and room.
MAX_BATCH_PIXELS = 3 * MAX_IMAGE_PIXELS
# What has not begun by then is left to the next try: one begun later may wait 20 s and be too late.
BATCH_SECONDS = 30.0


class Outcome(TypedDict):
    """One picture's result or problem, with the status that it would have alone."""

    name: str
    status: int
    result: NotRequired[Result]
    problem: NotRequired[Problem]


class BatchJson(TypedDict):
    """The answer to a batch, in the order of the request's parts."""

    outcomes: list[Outcome]


def audit_batch(pictures: list[Picture], audit: Callable[[Picture], Result]) -> BatchJson:
    """Audit each picture; one that fails has its problem in its place.

    Raises `BatchTooLarge` before anything is decoded.
    """
    _check(pictures)
    deadline = time.monotonic() + BATCH_SECONDS
    return {"outcomes": [_outcome(picture, audit, deadline) for picture in pictures]}


def _check(pictures: list[Picture]) -> None:
    if len(pictures) > MAX_BATCH:
        msg = f"A batch must have at most {MAX_BATCH} images, got {len(pictures)}"
        raise BatchTooLarge(msg)
    pixels = sum(map(_claimed_pixels, pictures))
    if pixels > MAX_BATCH_PIXELS:
        msg = f"A batch must have at most {MAX_BATCH_PIXELS} pixels, got {pixels}"
        raise BatchTooLarge(msg)


def _claimed_pixels(picture: Picture) -> int:
    try:
        header = read_header(picture.data)
    except ImageError:
        return 0  # its own outcome will say why
    return header.width * header.height


def _outcome(picture: Picture, audit: Callable[[Picture], Result], deadline: float) -> Outcome:
    try:
        if time.monotonic() > deadline:
            msg = f"The batch took {BATCH_SECONDS:.0f} s before this image"
            raise Overloaded(msg)
        return {"name": picture.name, "status": 200, "result": audit(picture)}
    except ShelfWatchError as err:
        return {"name": picture.name, "status": err.status, "problem": err.problem()}
