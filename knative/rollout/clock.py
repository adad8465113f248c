"""Time, and the signal to end."""

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
        """Wait; return early once the run should end."""

    @property
    def stopped(self) -> bool:
        """Tell whether the run should end."""


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
        """Wait; return early once the run should end."""
        self.stop.wait(seconds)

    @property
    def stopped(self) -> bool:
        """Tell whether the run should end."""
        return self.stop.is_set()
