"""How many pixels may be decoded at a time: memory is bounded, whoever sends how many pictures."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from function.errors import Overloaded
from function.image import MAX_IMAGE_PIXELS

# One picture of the largest kind and, beside it, a full house of ordinary ones: a 12 MP JPEG is
# decoded at a quarter of its sides, to less than 1 MP. A pixel costs up to 10 bytes on the way.
PIXEL_BUDGET = MAX_IMAGE_PIXELS + 14_000_000
# As long as a picture may wait for the processor: less than any caller does.
WAIT_SECONDS = 10.0


@dataclass
class PixelBudget:
    """Pixels that may be in memory, and the wait for them; `hold` may be called from any thread."""

    capacity: int = PIXEL_BUDGET
    wait_seconds: float = WAIT_SECONDS
    _held: int = 0
    _freed: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Hold `pixels` for the block. Raises `Overloaded` when they do not come free in time."""
        with self._freed:
            if not self._freed.wait_for(lambda: self._fits(pixels), self.wait_seconds):
                msg = f"The image waited {self.wait_seconds:.0f} s for memory to be decoded in"
                raise Overloaded(msg)
            self._held += pixels
        try:
            yield
        finally:
            with self._freed:
                self._held -= pixels
                self._freed.notify_all()

    def _fits(self, pixels: int) -> bool:
        return self._held + pixels <= self.capacity
