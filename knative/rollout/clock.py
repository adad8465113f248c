"""Time, and the wish to end."""

from __future__ import annotations

import signal
import threading
import time
from typing import Protocol


class Clock(Protocol):
    """What a rollout needs of time; tests have one of their own."""

    def now(self) -> float:
        """Return seconds, monotonic."""

    def wait(self, seconds: float) -> None:
        """Wait, less where the end is wished for."""

    @property
    def stopped(self) -> bool:
        """Tell whether the end is wished for."""


class SystemClock:
    """The machine's time; SIGTERM and SIGINT end every wait."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, lambda *_: self.stop.set())

    def now(self) -> float:
        """Return seconds, monotonic."""
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        """Wait, less where the end is wished for."""
        self.stop.wait(seconds)

    @property
    def stopped(self) -> bool:
        """Tell whether the end is wished for."""
        return self.stop.is_set()
