"""The events that are due for a view's episodes, given those before them. Pure; no IO.

The events of an episode are numbered: a subscriber that gets them in another order keeps the one
with the highest number. The last one always says what the fold says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from events.types import GAP_CLOSED, GAP_CORRECTED, GAP_OPENED
from monitor.fold import Episode

OPEN, CLOSED, WITHDRAWN = "open", "closed", "withdrawn"


@dataclass(frozen=True, kw_only=True)
class GapEvent:
    """One event of an episode."""

    id: str  # 32 hex digits
    episode: str
    sequence: int  # 1 for the first
    type: str  # of the event
    state: str  # OPEN, CLOSED, or WITHDRAWN: there never was such a gap
    closed: int | None = None  # milliseconds since 1970
    ended: str = ""

    @property
    def fact(self) -> tuple[str, int | None, str]:
        """What it says."""
        return self.state, self.closed, self.ended


def events_due(
    episodes: Mapping[str, Episode], last: Mapping[str, GapEvent], muted: frozenset[str]
) -> Iterator[GapEvent]:
    """List the events that lead from each episode's last event to what it is now.

    `last` has the last event of each episode that could have changed. A muted episode
    has no events.
    """
    for name in sorted((episodes.keys() | last.keys()) - muted):
        before = last.get(name)
        is_now = fact_of(episodes.get(name))
        if before is None:
            before = _next(name, None, GAP_OPENED, (OPEN, None, ""))
            yield before
        if before.fact == is_now:
            continue
        closes = before.state == OPEN and is_now[0] == CLOSED
        yield _next(name, before, GAP_CLOSED if closes else GAP_CORRECTED, is_now)


def fact_of(episode: Episode | None) -> tuple[str, int | None, str]:
    """Say what an episode is, as its last event must."""
    if episode is None:
        return WITHDRAWN, None, ""
    return (OPEN if episode.closed is None else CLOSED), episode.closed, episode.ended


def _next(
    episode: str, last: GapEvent | None, event_type: str, fact: tuple[str, int | None, str]
) -> GapEvent:
    """Name an event by episode, type and content, so that who repeats it repeats its id."""
    sequence = last.sequence + 1 if last else 1
    content = json.dumps([episode, event_type, sequence, *fact])
    return GapEvent(
        id=hashlib.sha256(content.encode()).hexdigest()[:32],
        episode=episode,
        sequence=sequence,
        type=event_type,
        state=fact[0],
        closed=fact[1],
        ended=fact[2],
    )
