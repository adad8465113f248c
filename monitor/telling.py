"""What is to be told of a view's episodes, given what has been told. Pure; nothing here does IO.

The tellings of an episode are numbered: a subscriber that gets them in another order keeps the one
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
class Telling:
    """One thing said of an episode."""

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


def due(
    episodes: Mapping[str, Episode], last: Mapping[str, Telling], muted: frozenset[str]
) -> Iterator[Telling]:
    """Tell what changed: for each episode what leads from its last telling to what it is now.

    `last` has the last telling of each episode that could have changed. Nothing is told of an
    episode that is muted.
    """
    for name in sorted((episodes.keys() | last.keys()) - muted):
        told = last.get(name)
        is_now = fact_of(episodes.get(name))
        if told is None:
            told = _next(name, None, GAP_OPENED, (OPEN, None, ""))
            yield told
        if told.fact == is_now:
            continue
        closes = told.state == OPEN and is_now[0] == CLOSED
        yield _next(name, told, GAP_CLOSED if closes else GAP_CORRECTED, is_now)


def fact_of(episode: Episode | None) -> tuple[str, int | None, str]:
    """Say what an episode is, as its last telling must."""
    if episode is None:
        return WITHDRAWN, None, ""
    return (OPEN if episode.closed is None else CLOSED), episode.closed, episode.ended


def _next(
    episode: str, last: Telling | None, event_type: str, fact: tuple[str, int | None, str]
) -> Telling:
    """Name a telling by episode, type and content, so that who repeats it repeats its id."""
    sequence = last.sequence + 1 if last else 1
    content = json.dumps([episode, event_type, sequence, *fact])
    return Telling(
        id=hashlib.sha256(content.encode()).hexdigest()[:32],
        episode=episode,
        sequence=sequence,
        type=event_type,
        state=fact[0],
        closed=fact[1],
        ended=fact[2],
    )
