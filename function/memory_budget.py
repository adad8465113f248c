"""How many bytes requests may hold at a time: memory is bounded, whoever sends how much.

A request holds its body while it lasts, a picture while it is decoded and waits for the processor,
and a drawn answer until its reader has taken it. Each takes its bytes before it uses them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from function.container import MAX_IMAGE_PIXELS
from function.errors import Overloaded
from function.image import MAX_IMAGE_BYTES, PIXEL_BYTES

# One picture of the most costly kind. Beside a smaller one there is room for a full house of
# ordinary ones: a 12 MP JPEG is decoded at a quarter of its sides, in 6 MB.
PICTURE_BUDGET = max(PIXEL_BYTES.values()) * MAX_IMAGE_PIXELS + MAX_IMAGE_BYTES
# Four of the largest bodies, or one as JSON in base64. With the process itself (190 MiB) and the
# largest picture that is 1 080 MiB, of the 1 280 that the pod has.
BODY_BUDGET = 100 * 1024 * 1024
# As long as a picture may wait for the processor: less than any caller does.
WAIT_SECONDS = 10.0
# Each may wait a minute for a slow reader, and holds up to 150 MB meanwhile.
MAX_DRAWN = 3


@dataclass
class Hold:
    """Bytes held in a budget."""

    budget: MemoryBudget
    held: int

    def shrink(self, held: int) -> None:
        """Give back all but `held` bytes."""
        if held < self.held:
            self.budget.give_back(self.held - held)
            self.held = held


@dataclass
class MemoryBudget:
    """Bytes that may be held, and the wait for them; to be used from any thread."""

    capacity: int
    purpose: str  # what a request waits for, in a sentence
    wait_seconds: float = WAIT_SECONDS
    _held: int = 0
    _freed: threading.Condition = field(default_factory=threading.Condition)

    def take(self, size: int) -> Hold:
        """Take `size` bytes, to be given back by `shrink(0)`.

        Raises `Overloaded` when they do not come free in time.
        """
        with self._freed:
            if not self._freed.wait_for(lambda: self._fits(size), self.wait_seconds):
                msg = f"The request waited {self.wait_seconds:.0f} s for memory {self.purpose}"
                raise Overloaded(msg)
            self._held += size
        return Hold(self, size)

    @contextmanager
    def hold(self, size: int) -> Iterator[Hold]:
        """Hold `size` bytes for the block. Raises as `take` does."""
        held = self.take(size)
        try:
            yield held
        finally:
            held.shrink(0)

    def give_back(self, size: int) -> None:
        """Give back `size` bytes."""
        with self._freed:
            self._held -= size
            self._freed.notify_all()

    def _fits(self, size: int) -> bool:
        return self._held + size <= self.capacity


@dataclass(frozen=True)
class Memory:
    """What one process may hold for its requests."""

    bodies: MemoryBudget = field(
        default_factory=lambda: MemoryBudget(BODY_BUDGET, "to be received in")
    )
    pictures: MemoryBudget = field(
        default_factory=lambda: MemoryBudget(PICTURE_BUDGET, "to be decoded in")
    )
    drawn: MemoryBudget = field(  # counted in answers, not in bytes
        default_factory=lambda: MemoryBudget(MAX_DRAWN, "to be drawn in")
    )
