"""Times and lengths of time, and the digest, in words for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo

from function.errors import PROBLEM_PREFIX, Problem
from monitor.messages import MINUTE
from monitor.queries import StorePage, ViewLine

# An e-mail that nobody scrolls through; the board has all.
MAX_GAPS = 20


# Problems whose own words are for who runs the board, by the last part of their type.
REFUSALS = {
    "unauthorized": ("Log in", "The board wants its password, with any user name"),
    "store-away": (
        "The board is away",
        "Its database does not answer. Nothing is lost: try again in a minute",
    ),
}


def refusal(told: Problem) -> tuple[str, str]:
    """Write a problem for people: a title and a sentence."""
    return REFUSALS.get(told["type"].removeprefix(PROBLEM_PREFIX), (told["title"], told["detail"]))


def clock(time: int, zone: tzinfo = UTC) -> str:
    """Write a time for people, in a store's own zone, which is named where the hour comes twice."""
    here = datetime.fromtimestamp(time / 1000, zone)
    twice = here.replace(fold=0).utcoffset() != here.replace(fold=1).utcoffset()
    return here.strftime("%a %d %b %H:%M %Z" if twice else "%a %d %b %H:%M")


def duration(minutes: float) -> str:
    """Write a length of time for people."""
    if minutes < 1:
        return "less than a minute"
    if minutes < 120:
        return f"{minutes:.0f} min"
    if minutes < 48 * 60:
        return f"{minutes / 60:.0f} h"
    return f"{minutes / 1440:.0f} days"


def digest(page: StorePage, now: int) -> tuple[str, str]:
    """Write a store's digest: the subject, and the text."""
    store = page.store
    standing = [gap for gap in page.gaps if not gap.muted]
    count = page.numbers.open_gaps
    subject = f"{store.name}: {_many(count, 'open gap')}"
    lines = [f"{store.name}, {clock(now, store.zone)}", ""]
    lines += [f"{_many(count, 'gap')} open, oldest first:" if standing else "No gap is open."]
    for gap in standing[:MAX_GAPS]:
        empty = duration((now - gap.opened) / MINUTE)
        since = clock(gap.opened, store.zone)
        lines.append(
            f"- {gap.view}, row {gap.row + 1}: {_many(gap.facings, 'facing')}, empty for {empty}"
            f" (since {since})"
        )
    if count > MAX_GAPS:
        lines.append(f"- and {count - MAX_GAPS} more")
    lines += ["", *_figures(page)]
    lines += [f"No photo from {view.name}: {words}." for view, words in _silent(page, now)]
    return subject, "\n".join(lines) + "\n"


def _figures(page: StorePage) -> Iterator[str]:
    numbers = page.numbers
    if numbers.availability is not None:
        yield f"On-shelf availability of the last day: {numbers.availability * 100:.1f} %."
    if numbers.refill_minutes is not None:
        stood = duration(numbers.refill_minutes)
        yield f"Half of the gaps that were refilled stood {stood} or less."
    if numbers.doubtful or numbers.rejected:
        all_photos = numbers.photos + numbers.rejected
        unread = _many(numbers.doubtful + numbers.rejected, "photo")
        yield f"{unread} of {all_photos} could not be relied on."


def _silent(page: StorePage, now: int) -> Iterator[tuple[ViewLine, str]]:
    for view in page.views:
        if view.seen is None:
            yield view, "it has never sent one"
        elif view.silent_since is not None:
            yield view, f"the last one is {duration((now - view.seen) / MINUTE)} old"


def _many(count: float, noun: str) -> str:
    return f"{count:g} {noun}" + ("" if count == 1 else "s")
