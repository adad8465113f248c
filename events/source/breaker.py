"""The breaker between queue and sink: while the sink is away, nothing is received.

Every receive brings a message nearer to the dead-letter queue, so that an hour without a sink would
drain good messages into it. One message alone never opens the breaker, as it may be what brings the
sink down; the line goes on with the others.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable

# Different messages that found the sink away, with no answer between them.
OPENS_AT = 3
# Seconds from one probe to the next, doubled after each that failed.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
GLANCE = 0.1  # seconds between two looks at the clock and at the word to stop


class Breaker:
    """Closed, open, or half-open with one probe on its way; called from many threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._changed = threading.Condition()
        self._clock = clock
        self._away: set[str] = set()  # message ids since the last answer
        self._pause = 0.0  # 0 while closed
        self._next_probe = 0.0
        self._probing = False
        self._line: deque[object] = deque()

    @property
    def state(self) -> str:
        """`closed`, `open` or `half-open`."""
        if not self._pause:
            return "closed"
        return "half-open" if self._probing else "open"

    @property
    def pause(self) -> float:
        """Seconds from the last probe to the next; 0 while closed."""
        return self._pause

    def needs_probe(self) -> bool:
        """Tell whether the pause is over and a probe must be received: no message waits in hand."""
        with self._changed:
            return bool(self._pause and not self._line and self._may_probe())

    def wait(self, stop: threading.Event) -> bool:
        """Wait until a message may be sent: at once while closed, else one by one after a pause.

        False when `stop` came first. Whoever gets True must then call `answered` or `away`.
        """
        ticket = object()
        with self._changed:
            self._line.append(ticket)
            try:
                while not stop.is_set():
                    if not self._pause:
                        return True
                    if self._line[0] is ticket and self._may_probe():
                        self._probing = True
                        return True
                    self._changed.wait(GLANCE)
                return False
            finally:
                self._line.remove(ticket)

    def answered(self) -> None:
        """Note that the sink answered, with whatever status."""
        with self._changed:
            self._away.clear()
            self._pause, self._probing = 0.0, False
            self._changed.notify_all()

    def away(self, message_id: str, retry_after: float = 0.0) -> None:
        """Note that the sink could not be reached; pause for at least `retry_after` seconds."""
        with self._changed:
            if self._pause and not self._probing:
                return  # sent before it opened
            self._away.add(message_id)
            if not self._pause and len(self._away) < OPENS_AT:
                return
            self._pause = min(LONGEST_PAUSE, self._pause * 2 or FIRST_PAUSE)
            # Jitter, so that many sources do not probe at once.
            pause = max(retry_after, self._pause * random.uniform(0.5, 1.0))
            self._next_probe = self._clock() + pause
            self._probing = False

    def _may_probe(self) -> bool:
        return not self._probing and self._clock() >= self._next_probe
