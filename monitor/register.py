"""The stores and views that are known beforehand: `stores.toml`, kept in Git and mounted.

A view that is not in it gets the defaults. One that is in it can be silent before its first photo.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

Mask = tuple[float, float, float, float]  # shares of the photo's width and height
MAX_CADENCE = 7 * 24 * 60  # minutes
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class RegisterError(ValueError):
    """The register says something odd; the message names the entry."""


@dataclass(frozen=True, kw_only=True)
class View:
    """What is known of a view: a folder of photos that show the same shelf."""

    folder: str
    bucket: str = ""  # empty: whichever sends
    cadence: int = 60  # minutes from photo to photo
    masks: tuple[Mask, ...] = ()  # never a gap
    registered: bool = False


@dataclass(frozen=True, kw_only=True)
class Store:
    """What is known of a store."""

    key: str  # the first folder of its photos' keys
    name: str
    zone: tzinfo = UTC
    # From and to by day of the week, Monday first; None: closed. Local time; where it closes no
    # later than it opens, that is on the next day.
    opens: tuple[tuple[time, time] | None, ...] = ((time.min, time.min),) * 7
    digest_hours: tuple[int, ...] = ()  # local
    views: Mapping[str, View] = field(default_factory=dict)  # by folder

    def hours(self, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
        """List when it is open between two times, which have a zone; in order, apart, in UTC."""
        day = start.astimezone(self.zone).date() - timedelta(days=1)
        while day <= end.astimezone(self.zone).date():
            if span := self.opens[day.weekday()]:
                until = day if span[0] < span[1] else day + timedelta(days=1)
                # In UTC: times of one zone are taken apart by their clocks, also when these change.
                first = max(datetime.combine(day, span[0], self.zone).astimezone(UTC), start)
                last = min(datetime.combine(until, span[1], self.zone).astimezone(UTC), end)
                if first < last:
                    yield first, last
                    start = last
            day += timedelta(days=1)

    def is_open(self, now: datetime) -> bool:
        """Tell whether it is open at a time."""
        return any(True for _ in self.hours(now, now + timedelta(seconds=1)))


@dataclass(frozen=True)
class Register:
    """All that is known beforehand."""

    stores: Mapping[str, Store] = field(default_factory=dict)  # by key

    def store(self, key: str) -> Store:
        """Look up a store; one that is not registered is always open, and named by its key."""
        return self.stores.get(key) or Store(key=key, name=key)

    def view(self, bucket: str, folder: str) -> View:
        """Look up a view; one that is not registered has the defaults."""
        known = self.store(store_of(folder)).views.get(folder)
        if known and known.bucket in ("", bucket):
            return known
        return View(folder=folder, bucket=bucket)


def store_of(folder: str) -> str:
    """Name the store that a folder belongs to; "-" for photos without a folder."""
    return folder.partition("/")[0] or "-"


def view_name(folder: str) -> str:
    """Name a view inside of its store; "-" where its photos lie in the store's own folder."""
    return folder.partition("/")[2] or "-"


def folder_of(store: str, view: str) -> str:
    """Undo `store_of` and `view_name`."""
    return "/".join(part for part in (store, view) if part != "-")


def folders_of(store: str, view: str) -> list[str]:
    """List the folders of a store and a view, `folder_of` first; keys may begin with a slash."""
    tops = [store, ""] if store == "-" else [store]
    rests = [f"/{view}", "", "/"] if view == "-" else [f"/{view}"]
    return list(dict.fromkeys([folder_of(store, view), *(a + b for a in tops for b in rests)]))


def load_register(path: Path | None) -> Register:
    """Read the register, an empty one without a path. Raises `RegisterError`."""
    if path is None:
        return Register()
    try:
        return read_register(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as err:
        msg = f"It must be a file that can be read, got {str(path)!r}"
        raise RegisterError(msg) from err


def read_register(text: str) -> Register:
    """Read a register from TOML. Raises `RegisterError` that names the entry."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as err:
        msg = f"The register is not TOML: {err}"
        raise RegisterError(msg) from err
    _known(document, {"stores"}, "the register")
    stores = _table(document.get("stores", {}), "stores")
    return Register({key: _store(key, _table(entry, key)) for key, entry in stores.items()})


def _store(key: str, entry: Mapping[str, object]) -> Store:
    if store_of(key) != key:
        msg = f"A store must be the first folder of its photos' keys, without a slash, got {key!r}"
        raise RegisterError(msg)
    _known(entry, {"name", "time_zone", "open", "digest_hours", "views"}, key)
    views = _table(entry.get("views", {}), f"{key}.views")
    found = [_view(key, name, _table(view, f"{key}.views.{name}")) for name, view in views.items()]
    return Store(
        key=key,
        name=_name(entry.get("name", key), f"{key}.name"),
        zone=_zone(entry.get("time_zone", "UTC"), f"{key}.time_zone"),
        opens=_opens(entry.get("open", "00:00-24:00"), f"{key}.open"),
        digest_hours=_hours(entry.get("digest_hours", []), f"{key}.digest_hours"),
        views={view.folder: view for view in found},
    )


def _view(store: str, name: str, entry: Mapping[str, object]) -> View:
    folder = folder_of(store, name)
    if (store_of(folder), view_name(folder)) != (store, name):
        msg = f"A view of {store} must be a folder below it, '-' for its own, got {name!r}"
        raise RegisterError(msg)
    _known(entry, {"bucket", "cadence_minutes", "masks"}, folder)
    cadence = entry.get("cadence_minutes", View.cadence)
    if type(cadence) is not int or not 1 <= cadence <= MAX_CADENCE:
        msg = f"{folder}.cadence_minutes must be a number from 1 to {MAX_CADENCE}, got {cadence!r}"
        raise RegisterError(msg)
    masks = entry.get("masks", [])
    if not isinstance(masks, list):
        msg = f"{folder}.masks must be a list of rectangles, got {masks!r}"
        raise RegisterError(msg)
    return View(
        folder=folder,
        bucket=_text(entry.get("bucket", ""), f"{folder}.bucket"),
        cadence=cadence,
        masks=tuple(_mask(mask, f"{folder}.masks") for mask in masks),
        registered=True,
    )


def _mask(edges: object, name: str) -> Mask:
    if isinstance(edges, list) and len(edges) == 4:
        numbers = [edge for edge in edges if type(edge) in (int, float) and 0 <= edge <= 1]
        if len(numbers) == 4 and numbers[0] < numbers[2] and numbers[1] < numbers[3]:
            return numbers[0], numbers[1], numbers[2], numbers[3]
    msg = f"{name} must be [left, top, right, bottom] as shares from 0 to 1, got {edges!r}"
    raise RegisterError(msg)


def _opens(given: object, name: str) -> tuple[tuple[time, time] | None, ...]:
    if isinstance(given, str):
        return (_span(given, name),) * 7
    table = _table(given, name)
    _known(table, set(DAYS), name)
    return tuple(_span(table[day], f"{name}.{day}") if day in table else None for day in DAYS)


def _span(text: object, name: str) -> tuple[time, time]:
    first, _, last = str(text).partition("-")
    try:
        opened = time.fromisoformat(first)
        closed = time.min if last == "24:00" else time.fromisoformat(last)
        alike = opened == closed and last != "24:00"  # never open, or always?
        if not (alike or opened.tzinfo or closed.tzinfo):
            return opened, closed
    except ValueError:
        pass
    msg = f"{name} must be a span such as '08:00-20:00', got {text!r}"
    raise RegisterError(msg)


def _hours(given: object, name: str) -> tuple[int, ...]:
    if isinstance(given, list) and all(type(hour) is int and 0 <= hour < 24 for hour in given):
        return tuple(given)
    msg = f"{name} must be a list of hours from 0 to 23, got {given!r}"
    raise RegisterError(msg)


def _zone(given: object, name: str) -> tzinfo:
    try:
        return ZoneInfo(_text(given, name))
    except (KeyError, ValueError, OSError) as err:
        msg = f"{name} must be a time zone such as 'Europe/Berlin', got {given!r}"
        raise RegisterError(msg) from err


def _text(given: object, name: str) -> str:
    if not isinstance(given, str):
        msg = f"{name} must be a text, got {given!r}"
        raise RegisterError(msg)
    return given


def _name(given: object, name: str) -> str:
    """Take what a page links by and an e-mail has for its subject."""
    text = _text(given, name)
    if not (text.strip() and text.isprintable()):
        msg = f"{name} must be a line of text, got {text!r}"
        raise RegisterError(msg)
    return text


def _table(given: object, name: str) -> Mapping[str, object]:
    if not isinstance(given, dict):
        msg = f"{name} must be a table, got {given!r}"
        raise RegisterError(msg)
    return given


def _known(entry: Mapping[str, object], known: set[str], name: str) -> None:
    if odd := sorted(entry.keys() - known):
        msg = f"{name}: {odd[0]!r} is none of {', '.join(sorted(known))}"
        raise RegisterError(msg)
