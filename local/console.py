"""What `make run` shows: a line an event, and the address of the page below them. Pure but for the
terminal that it writes to.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import time
from collections.abc import Mapping
from typing import TextIO

from events.codec import Json
from events.types import GAP_CORRECTED
from function.listing import printable

GREEN, YELLOW, RED, BOLD, DIM, PLAIN = "32", "33", "31", "1", "2", "0"
VIEW_COLUMNS = 16  # store and camera
COUNT_COLUMNS = 14  # "1000 products"


def event_line(event: Json, width: int) -> str:
    """Write an event of the topic in one line of at most `width` columns."""
    data = event.get("data")
    facts = data if isinstance(data, dict) else {}
    key = str(event.get("subject", ""))
    known = [str(event[name]) for name in ("store", "camera", "view") if event.get(name)]
    view = "/".join(known)
    name = key.removeprefix(f"{view}/") if view else key
    if "gap" in facts:
        words, name = _gap(facts), ""
        if event.get("type") == GAP_CORRECTED:  # else it reads like the event that it corrects
            words = f"corrected: {words}"
    else:
        words = _rejection(facts) if "reason" in facts else _audit(facts)
    view, words, name = (printable(text) for text in (view, words, name))
    line = f"{view or '-':<{VIEW_COLUMNS}}  {words}"
    room = width - len(line) - 2
    if len(name) > room:
        name = f"…{name[1 - room :]}" if room > 1 else ""
    return f"{line}  {name}".rstrip()[:width]


def _audit(data: Mapping[str, object]) -> str:
    gaps, rate = data.get("gaps"), data.get("fill_rate")
    count = _many(data.get("count", "?"), "product")
    missing = _many(len(gaps) if isinstance(gaps, list) else "?", "gap")
    share = f"{rate:.0%}" if isinstance(rate, int | float) else "-"
    return f"{count:<{COUNT_COLUMNS}}{missing:<9}{share:>4}"


def _many(count: object, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _gap(data: Mapping[str, object]) -> str:
    gap, minutes = data.get("gap"), data.get("minutes")
    facings = gap.get("facings", "?") if isinstance(gap, dict) else "?"
    stood = f" after {minutes:.0f} min" if isinstance(minutes, int | float) else ""
    return f"a gap of {_many(facings, 'facing')} is {data.get('state', '?')}{stood}"


def _rejection(data: Mapping[str, object]) -> str:
    reason = data.get("reason")
    title = reason.get("title", "") if isinstance(reason, dict) else ""
    return f"rejected: {title}"


def _is_empty(data: Mapping[str, object]) -> bool:
    return bool(data.get("gaps")) or data.get("state") == "open"


class Console:
    """A terminal, or a file or pipe, that events are written to; one line stays below them."""

    def __init__(self, file: TextIO = sys.stdout, env: Mapping[str, str] = os.environ) -> None:
        self._file = file
        if isinstance(file, io.TextIOWrapper):
            file.reconfigure(errors="backslashreplace")  # it need not take every photo's name
        self._terminal = file.isatty()
        # https://no-color.org
        self._coloured = self._terminal and not env.get("NO_COLOR")
        self._footer = ""

    def paint(self, text: str, *codes: str) -> str:
        """Colour a text where colours are shown and welcome."""
        return f"\033[{';'.join(codes)}m{text}\033[{PLAIN}m" if self._coloured else text

    def line(self, text: str = "") -> None:
        """Write a line above the one that stays."""
        self._erase()
        self._file.write(f"{text}\n{self._footer if self._terminal else ''}")
        self._file.flush()

    def event(self, event: Json) -> None:
        """Write an event in its line: green is full, yellow has gaps, red was rejected."""
        data = event.get("data")
        facts = data if isinstance(data, dict) else {}
        code = RED if "reason" in facts else YELLOW if _is_empty(facts) else GREEN
        self.line(self.paint(event_line(event, shutil.get_terminal_size().columns), code))

    def stay(self, text: str) -> None:
        """Keep a text in sight below the events; where nothing can stay, write it once."""
        if self._terminal:
            self._erase()
            self._footer = text
            self._file.write(text)
            self._file.flush()
        else:
            self.line(text)

    def end(self) -> None:
        """Take away what stays."""
        self._erase()
        self._footer = ""
        self._file.flush()

    def _erase(self) -> None:
        if self._terminal and self._footer:
            self._file.write("\r\033[K")


class Steps:
    """Tells on stderr what begins, and how long what went before has taken."""

    def __init__(self, file: TextIO = sys.stderr) -> None:
        self._file = file
        self._began = time.monotonic()
        self._running = ""

    def begin(self, what: str) -> None:
        """Name what begins now."""
        self.done()
        self._running = what
        self._began = time.monotonic()
        self._file.write(f"Starting {what} …")
        self._file.flush()

    def done(self) -> None:
        """Say how long the last one took."""
        if self._running:
            self._file.write(f" {time.monotonic() - self._began:.1f} s\n")
            self._file.flush()
        self._running = ""
