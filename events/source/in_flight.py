"""How many messages are at work at a time: as many as the sink takes without refusing.

Additive increase, multiplicative decrease, as TCP does it: a full sink keeps room for other
callers, and a sink that scales out gets more work.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# What a pod of the function works on at a time, one on each of two processors: it begins there, as
# more would wait.
START = 2
# One more only after this many full rounds without a refusal: a refused image has been fetched and
# decoded for nothing.
ROUNDS = 10


class InFlight:
    """Slots for messages at work; their number follows the sink's answers."""

    def __init__(self, ceiling: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._changed = threading.Condition()
        self._clock = clock
        self._ceiling = float(ceiling)
        self._limit = float(min(START, ceiling))
        self._taken = 0
        self._shrunk_at = float("-inf")

    @property
    def limit(self) -> int:
        """The slots there are."""
        return int(self._limit)

    @property
    def taken(self) -> int:
        """The slots that are taken."""
        return self._taken

    def take(self, most: int, timeout: float) -> int:
        """Wait for a free slot, then take all that are free, at most `most`; 0 after `timeout`."""
        with self._changed:
            self._changed.wait_for(lambda: self._taken < self.limit, timeout)
            slots = max(0, min(most, self.limit - self._taken))
            self._taken += slots
            return slots

    def give_back(self, slots: int = 1) -> None:
        """Free slots that were taken."""
        with self._changed:
            self._taken -= slots
            self._changed.notify_all()

    def grow(self) -> None:
        """Note a success; it counts only where every slot was in use."""
        with self._changed:
            if self._taken >= self.limit:
                self._limit = min(self._ceiling, self._limit + 1 / (ROUNDS * self._limit))

    def shrink(self, sent_at: float) -> None:
        """Halve the slots after a refusal; those sent before the last one count as the same."""
        with self._changed:
            if sent_at >= self._shrunk_at:
                self._limit = max(1.0, self._limit / 2)
                self._shrunk_at = self._clock()
