"""Admission: a few images are at work, and the others wait in a queue, as long as callers do.

An image that would wait longer is refused before any work on it, with the time to come again.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from function.errors import Overloaded

# One inference fills the processor, one image is decoded and waits for it, and one is decoded
# meanwhile: so the processor never idles.
AT_WORK = 3
# Knative sends up to eight requests to a pod. For the small model they take half a second, for
# YOLO11L two; the sum of the longest wait and the work stays far below any caller's time-out.
WAIT_SECONDS = 5.0
# Each keeps one of the 28 threads for requests: the others are left to the page and to refusals.
MAX_WAITING = 16
# How much the newest image says of the time that the next one takes.
WEIGHT = 0.2


@dataclass
class Admission:
    """The images at work and those that wait for their turn, first come, first served."""

    _working: int = 0
    _waiting: deque[object] = field(default_factory=deque)  # a token each, the first one's first
    _pace: float = 0.0  # seconds from the end of one image to that of the next, at work
    _last_end: float = 0.0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn and keep it for the block.

        Raises `Overloaded` when the wait would get too long, or too many wait.
        """
        with self._changed:
            if self._waiting or self._working >= AT_WORK:
                self._wait()
            self._working += 1
            self._changed.notify_all()
        began = time.monotonic()
        try:
            yield
        finally:
            self._end(began)

    def _wait(self) -> None:
        expected = (len(self._waiting) + 1) * self._pace
        if expected > WAIT_SECONDS or len(self._waiting) >= MAX_WAITING:
            msg = (
                f"The wait for the processor must be at most {WAIT_SECONDS:.0f} s, and behind "
                f"{MAX_WAITING - 1} others, got {expected:.1f} s behind {len(self._waiting)}"
            )
            raise Overloaded(msg, retry_after=max(1, math.ceil(expected - WAIT_SECONDS)))
        token = object()
        self._waiting.append(token)
        try:
            # Twice as long as expected: something hangs, or the images got dearer.
            if not self._changed.wait_for(
                lambda: self._working < AT_WORK and self._waiting[0] is token, 2 * WAIT_SECONDS
            ):
                msg = f"The image waited {2 * WAIT_SECONDS:.0f} s for the processor"
                raise Overloaded(msg)
        finally:
            self._waiting.remove(token)

    def _end(self, began: float) -> None:
        with self._changed:
            now = time.monotonic()
            took = now - max(began, self._last_end)
            self._pace += WEIGHT * (took - self._pace) if self._pace else took
            self._last_end = now
            self._working -= 1
            self._changed.notify_all()
