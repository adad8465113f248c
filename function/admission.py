"""Admission: a few images are at work, and the others wait in a queue, as long as callers do.

An image that would wait longer is refused before any work on it, with the time to come again.
An image alone gets all processors for its inference. Of several each gets one: no thread then waits
for another, and the same processors make more images a second.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field

from function.errors import Overloaded

# An inference for each of two processors, and one image is decoded meanwhile: so neither idles.
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

    at_work: int = AT_WORK  # at a time
    _working: int = 0
    _coming: int = 0  # those that wait for memory first
    _waiting: deque[object] = field(default_factory=deque)  # a token each, the first one's first
    _pace: float = 0.0  # seconds from the end of one image to that of the next, at work
    _last_end: float = 0.0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def turn(self, memory: AbstractContextManager[object] | None = None) -> Iterator[None]:
        """Wait for `memory`, then for a turn, and keep both for the block.

        A turn comes only once there is memory: a large image must not keep ordinary ones out.
        Raises `Overloaded` when the wait would get too long, or too many wait, before any of it,
        and what `memory` raises.
        """
        with self._changed:
            if self._coming or self._waiting or self._working >= self.at_work:
                self._check()
            self._coming += 1
        with ExitStack() as held:
            try:
                if memory is not None:
                    held.enter_context(memory)
            finally:
                with self._changed:
                    self._coming -= 1
            with self._changed:
                if self._waiting or self._working >= self.at_work:
                    self._wait()
                self._working += 1
                self._changed.notify_all()
            began = time.monotonic()
            try:
                yield
            finally:
                self._end(began)

    def _check(self) -> None:
        ahead = self._coming + len(self._waiting)
        expected = (ahead + 1) * self._pace
        if expected > WAIT_SECONDS or ahead >= MAX_WAITING:
            msg = (
                f"The wait for the processor must be at most {WAIT_SECONDS:.0f} s, and behind "
                f"{MAX_WAITING - 1} others, got {expected:.1f} s behind {ahead}"
            )
            raise Overloaded(msg, retry_after=max(1, math.ceil(expected - WAIT_SECONDS)))

    def _wait(self) -> None:
        token = object()
        self._waiting.append(token)
        try:
            # Twice as long as expected: something hangs, or the images got dearer.
            if not self._changed.wait_for(
                lambda: self._working < self.at_work and self._waiting[0] is token, 2 * WAIT_SECONDS
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


@dataclass(eq=False)  # two that wait alike are two
class _Inference:
    """One that waits for processors or has them."""

    most: int = 0  # inferences at a time, since it came, itself among them
    began: float | None = None  # by time.monotonic()
    alone: bool = False


@dataclass
class Processors:
    """Shares `count` processors among inferences: all for one alone, else one for each."""

    count: int = 1
    _here: list[_Inference] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def hold(self, timeout: float) -> Iterator[bool]:
        """Wait for processors and keep them for the block; yield whether these are all of them.

        Raises `Overloaded` after `timeout` seconds.
        """
        mine = _Inference()
        with self._changed:
            self._here.append(mine)
            for one in self._here:
                one.most = max(one.most, len(self._here))
            admitted = self._changed.wait_for(lambda: self._begin(mine), timeout)
            if not admitted:
                self._here.remove(mine)
        if not admitted:
            msg = f"The image waited {timeout:.0f} s for the processor"
            raise Overloaded(msg)
        try:
            yield mine.alone
        finally:
            with self._changed:
                self._here.remove(mine)
                self._changed.notify_all()

    def _begin(self, mine: _Inference) -> bool:
        """Begin an inference if there is room for it."""
        running = [one for one in self._here if one.began is not None]
        # Who had to wait comes in a crowd, though it may have gone since: the next is on its way.
        alone = self.count == 1 or mine.most < self.count
        if running and (alone or running[0].alone or len(running) == self.count):
            return False
        mine.alone, mine.began = alone, time.monotonic()
        return True

    def longest(self) -> float:
        """Return for how many seconds the oldest inference has been running; 0 where none is."""
        now = time.monotonic()
        with self._changed:
            return max((now - one.began for one in self._here if one.began is not None), default=0)
