"""What the board asks the database: stores, their views, and a view's history."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, Engine, Select, and_, case, func, literal, or_, select, tuple_

from monitor.database import reading
from monitor.figures import FacingTime, OpeningTime, facing_times, refill_minutes
from monitor.fold import FULL_SCALE, Box
from monitor.intake import ViewKey
from monitor.packed import read_box
from monitor.points import DAY, NO_POINTS, PACKED, SPAN, Points, read_points
from monitor.register import Register, Store, View, folders_of, view_name
from monitor.tables import audits, episodes, mutes, rejections, spans, views

if TYPE_CHECKING:
    from sqlalchemy import Connection, Tuple

    from monitor.records import Record

PAGE = 100  # rows of a list; a cursor leads on
# The place of a list's last row, which leads on also when that row is gone or has moved since:
# milliseconds since 1970, and a name; before them, in a store's list, whether it is muted.
Place = tuple[int | str, ...]
# A sparkline is a thumb wide: more points than this are not seen.
SPARKS = 48
# Without the state of its fold, which is longer than all the rest.
VIEW = [views.c[name] for name in ("id", "bucket", "folder", "store", "seen", "silent_since")]
SEEN = [
    *(views.c[name] for name in ("store", "bucket", "folder", "seen")),
    views.c.silent_since.is_not(None).label("silent"),
]
LISTED = [
    audits.c[name]
    for name in (
        *("captured", "photo", "generation", "uri", "uploaded", "count"),
        *("empty", "fill_rate", "doubtful", "warnings"),
    )
]


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """The figures of a view or a store over some days."""

    days: int
    availability: float | None
    refill_minutes: float | None  # median
    open_gaps: int
    photos: int
    doubtful: int
    rejected: int


@dataclass(frozen=True, kw_only=True)
class ViewLine:
    """A view in the list of its store."""

    name: str
    bucket: str
    folder: str
    registered: bool
    cadence: int  # minutes
    seen: int | None  # milliseconds since 1970; None: never
    silent_since: int | None
    count: int | None
    empty: float | None  # facings
    fill_rate: float | None
    numbers: Numbers
    sparks: Sequence[float]  # fill rates


@dataclass(frozen=True, kw_only=True)
class EpisodeLine:
    """A gap in a list."""

    id: str
    view: str  # its name
    bucket: str
    row: int
    facings: float
    box: Box
    uri: str
    opened: int
    closed: int | None
    ended: str
    muted: bool


@dataclass(frozen=True, kw_only=True)
class AuditLine:
    """A photo in a list."""

    photo: str
    uri: str
    captured: int
    uploaded: int
    generation: int
    count: int
    empty: float
    fill_rate: float | None
    warnings: str
    doubtful: bool


@dataclass(frozen=True, kw_only=True)
class StoreLine:
    """A store in the list of all."""

    key: str
    name: str
    views: int
    open_gaps: int
    silent: int
    seen: int | None


@dataclass(frozen=True, kw_only=True)
class StorePage:
    """A store: its views, and its open gaps, oldest first, those that are muted last."""

    store: Store
    numbers: Numbers
    views: Sequence[ViewLine]
    gaps: Sequence[EpisodeLine]
    gaps_after: Place | None  # the list goes on after it


@dataclass(frozen=True, kw_only=True)
class ViewPage:
    """A view: its history, newest first, and where the lists go on."""

    line: ViewLine
    points: Points  # of the days
    stood: Sequence[EpisodeLine]  # in the days, all of them
    audits: Sequence[AuditLine]
    audits_before: Place | None
    episodes: Sequence[EpisodeLine]
    episodes_before: Place | None


def list_stores(engine: Engine, register: Register) -> list[StoreLine]:
    """List all stores, those that never sent, too. Raises `StoreAway`."""
    unmuted = and_(episodes.c.closed.is_(None), episodes.c.id.not_in(select(mutes.c.episode)))
    with reading(engine) as connection:
        found = connection.execute(select(*SEEN)).all()
        gaps = connection.execute(
            select(episodes.c.store, func.count()).where(unmuted).group_by(episodes.c.store)
        ).all()
    by_key: dict[str, list[Record]] = {key: [] for key in register.stores}
    for row in found:
        by_key.setdefault(row.store, []).append(row)
    count: dict[str, int] = {key: number for key, number in gaps}
    lines = []
    for key in sorted(by_key, key=_by_number):
        store, rows = register.store(key), by_key[key]
        never = sum(1 for _ in _never_seen(store, rows))
        silent = sum(
            row.silent and register.view(row.bucket, row.folder).registered for row in rows
        )
        lines.append(
            StoreLine(
                key=key,
                name=store.name,
                views=len(rows) + never,
                open_gaps=count.get(key, 0),
                silent=silent + never,
                seen=max((row.seen for row in rows), default=0) or None,
            )
        )
    return lines


def read_store(
    engine: Engine,
    register: Register,
    key: str,
    now: int,
    days: int,
    gaps_after: Place | None = None,
) -> StorePage | None:
    """Read a store over some days; None where nobody knows it. Raises `StoreAway`."""
    store = register.store(key)
    with reading(engine) as connection:
        found = connection.execute(select(*VIEW).where(views.c.store == key)).all()
        if not found and key not in register.stores:
            return None
        chosen = select(views.c.id).where(views.c.store == key)
        mine = (spans.c.store == key, episodes.c.store == key)
        of_store = _Past(connection, chosen, mine, now, days)
        lines = _view_lines(connection, of_store, register, store, found)
        gaps = _open_gaps(connection, key, {row.id: row for row in found}, gaps_after)
    total = sum((time for _, time in lines), FacingTime())
    shown = [line for line, _ in lines]
    return StorePage(
        store=store,
        numbers=Numbers(
            days=days,
            availability=total.availability,
            refill_minutes=refill_minutes(
                episode for filled in of_store.filled.values() for episode in filled
            ),
            open_gaps=sum(line.numbers.open_gaps for line in shown),
            photos=sum(line.numbers.photos for line in shown),
            doubtful=sum(line.numbers.doubtful for line in shown),
            rejected=sum(line.numbers.rejected for line in shown),
        ),
        views=shown,
        gaps=gaps,
        gaps_after=(
            (int(gaps[-1].muted), gaps[-1].opened, gaps[-1].id) if len(gaps) == PAGE else None
        ),
    )


def read_view(
    engine: Engine,
    register: Register,
    key: str,
    name: str,
    now: int,
    days: int,
    bucket: str | None = None,
    audits_before: Place | None = None,
    episodes_before: Place | None = None,
) -> ViewPage | None:
    """Read a view of a store over some days; None where nobody knows it. Raises `StoreAway`.

    Of several buckets with its folder it is the first by name, unless `bucket` names one.
    """
    store, folders = register.store(key), folders_of(key, name)
    with reading(engine) as connection:
        mine = and_(views.c.store == key, views.c.folder.in_(folders))
        if bucket is not None:
            mine = and_(mine, views.c.bucket == bucket)
        rows = connection.execute(select(*VIEW).where(mine)).all()
        found = sorted(rows, key=lambda row: (folders.index(row.folder), row.bucket))[:1]
        names = [row.id for row in found]
        chosen = select(views.c.id).where(views.c.id.in_(names))
        own = (spans.c.view.in_(chosen), episodes.c.view.in_(chosen))
        past = _Past(connection, chosen, own, now, days)
        lines = _view_lines(connection, past, register, store, found)
        wanted = (found[0].bucket, found[0].folder) if found else (bucket, folders[0])
        line = next(
            (
                line
                for line, _ in lines
                if wanted in ((line.bucket, line.folder), (None, line.folder))
            ),
            None,
        )
        if line is None:
            return None
        listed = select(*LISTED).where(audits.c.view.in_(names))
        if audits_before is not None:
            listed = listed.where(
                tuple_(audits.c.captured, audits.c.photo) < _literals(audits_before)
            )
        newest = (audits.c.captured.desc(), audits.c.photo.desc())
        last = connection.execute(listed.order_by(*newest).limit(PAGE)).all()
        gaps = select(episodes, mutes.c.episode.label("muted")).outerjoin(
            mutes, mutes.c.episode == episodes.c.id
        )
        gaps = gaps.where(episodes.c.view.in_(names))
        late = or_(episodes.c.closed.is_(None), episodes.c.closed > past.start)
        stood = connection.execute(gaps.where(late)).all()
        if episodes_before is not None:
            gaps = gaps.where(tuple_(episodes.c.opened, episodes.c.id) < _literals(episodes_before))
        newest = (episodes.c.opened.desc(), episodes.c.id.desc())
        told = connection.execute(gaps.order_by(*newest).limit(PAGE)).all()
    by_id = {row.id: row for row in found}
    return ViewPage(
        line=line,
        points=past.points_of(found[0].id) if found else NO_POINTS,
        stood=[_episode_line(row, by_id) for row in stood],
        audits=[_audit_line(row) for row in last],
        audits_before=(last[-1].captured, last[-1].photo) if len(last) == PAGE else None,
        episodes=[_episode_line(row, by_id) for row in told],
        episodes_before=(told[-1].opened, told[-1].id) if len(told) == PAGE else None,
    )


def read_labels(engine: Engine) -> list[dict[str, object]]:
    """List what people said is no gap, oldest first. Raises `StoreAway`."""
    with reading(engine) as connection:
        found = connection.execute(select(mutes).order_by(mutes.c.muted, mutes.c.episode)).all()
    return [
        {
            "image": row.uri,
            "xyxy": [edge / FULL_SCALE for edge in json.loads(row.box)],
            "label": "not-a-gap",
            "episode": row.episode,
        }
        for row in found
    ]


def view_key_of_episode(engine: Engine, name: str) -> ViewKey | None:
    """Find the view of an episode. Raises `StoreAway`."""
    query = select(views.c.bucket, views.c.folder).join(episodes, episodes.c.view == views.c.id)
    with reading(engine) as connection:
        found = connection.execute(query.where(episodes.c.id == name)).first()
    return ViewKey(found.bucket, found.folder) if found else None


class _Past:
    """What some views have been through in some days, by the ids of the views.

    Each is one query, whatever the number of views: `chosen` selects their ids, and `mine` their
    spans and their episodes, each by an index.
    """

    def __init__(
        self,
        connection: Connection,
        chosen: Select[tuple[str]],
        mine: tuple[ColumnElement[bool], ColumnElement[bool]],
        now: int,
        days: int,
    ) -> None:
        self.start, self.now, self.days = now - days * DAY, now, days
        my_spans, my_episodes = mine
        self._read_points(connection, my_spans)
        unmuted = episodes.c.id.not_in(select(mutes.c.episode))
        ended = select(
            episodes.c.view, episodes.c.opened, episodes.c.closed, episodes.c.ended
        ).where(my_episodes, episodes.c.closed > self.start, unmuted)
        self.filled: dict[str, list[tuple[int, int | None, str]]] = {}
        for view, opened, closed, how in connection.execute(ended).all():
            self.filled.setdefault(view, []).append((opened, closed, how))
        standing = select(episodes.c.view, func.count()).where(
            my_episodes, episodes.c.closed.is_(None), unmuted
        )
        self.standing = _counts(connection, standing.group_by(episodes.c.view))
        recent = rejections.c.uploaded > self.start
        rejected = select(rejections.c.view, func.count()).where(
            rejections.c.view.in_(chosen), recent
        )
        self.rejected = _counts(connection, rejected.group_by(rejections.c.view))

    def _read_points(self, connection: Connection, mine: ColumnElement[bool]) -> None:
        """Read what all photos say at once: a hundred views are a hundred times as many calls."""
        query = select(spans.c.view, spans.c.start, spans.c.points).where(
            mine, spans.c.start > self.start - SPAN
        )
        found = connection.execute(query.order_by(spans.c.view, spans.c.start)).all()
        self.names = sorted({view for view, _, _ in found})
        index = {name: number for number, name in enumerate(self.names)}
        points = read_points((start, packed) for _, start, packed in found)
        lengths = [len(packed) // PACKED.itemsize for _, _, packed in found]
        owner = np.repeat(np.array([index[view] for view, _, _ in found], np.int64), lengths)
        recent = points.captured > self.start
        self.points, self.owner = points[recent], owner[recent]

    def points_of(self, view: str) -> Points:
        """Give the points of one view."""
        if view not in self.names:
            return NO_POINTS
        return self.points[self.owner == self.names.index(view)]


@dataclass(frozen=True, kw_only=True)
class _Said:
    """What the photos of a view say, taken together."""

    time: FacingTime = field(default_factory=FacingTime)
    photos: int = 0
    doubtful: int = 0
    count: int | None = None
    empty: float | None = None
    fill_rate: float | None = None
    sparks: Sequence[float] = ()


def _said(past: _Past, cadences: Mapping[str, int], hours: OpeningTime) -> dict[str, _Said]:
    """Add up the photos of each view, all views at once."""
    points, owner, many = past.points, past.owner, len(past.names)
    times = facing_times(points, owner, [cadences[name] for name in past.names], hours)
    photos = np.bincount(owner, minlength=many).tolist()
    doubtful = np.bincount(owner[points.doubtful], minlength=many).tolist()
    sure = np.flatnonzero(~points.doubtful)
    newest = np.full(many, -1)
    newest[owner[sure]] = sure  # of several the last one stays
    known = (newest >= 0).tolist()
    shown = points[np.maximum(newest, 0)] if len(points) else points
    counts, empties, last = shown.count.tolist(), shown.empty.tolist(), shown.fill_rate.tolist()
    rated = np.flatnonzero(~points.doubtful & ~np.isnan(points.fill_rate))
    edges = np.searchsorted(owner[rated], np.arange(many + 1)).tolist()
    rates = points.fill_rate[rated]
    return {
        name: _Said(
            time=times[index],
            photos=photos[index],
            doubtful=doubtful[index],
            count=counts[index] if known[index] else None,
            empty=empties[index] if known[index] else None,
            fill_rate=last[index] if known[index] and last[index] == last[index] else None,
            sparks=_sparks(rates[edges[index] : edges[index + 1]]),
        )
        for index, name in enumerate(past.names)
    }


def _newest_sure(connection: Connection, names: Sequence[str]) -> dict[str, Record]:
    """Read the newest photo of each view that is not doubtful, however old."""
    if not names:
        return {}
    of_view = audits.alias()
    newest = select(func.max(of_view.c.captured)).where(
        of_view.c.view == views.c.id, ~of_view.c.doubtful
    )
    query = (
        select(*(audits.c[name] for name in ("view", "count", "empty", "fill_rate")))
        .join(views, views.c.id == audits.c.view)
        .where(views.c.id.in_(names), ~audits.c.doubtful)
        .where(audits.c.captured == newest.scalar_subquery())
    )
    return {row.view: row for row in connection.execute(query.order_by(audits.c.photo))}


def _view_lines(
    connection: Connection,
    past: _Past,
    register: Register,
    store: Store,
    found: Sequence[Record],
) -> list[tuple[ViewLine, FacingTime]]:
    """Describe the views of a store, registered ones that never sent, too."""
    days = past.days
    first, last = (datetime.fromtimestamp(time / 1000, UTC) for time in (past.start, past.now))
    hours = OpeningTime(
        [
            (round(opens.timestamp() * 1000), round(closes.timestamp() * 1000))
            for opens, closes in store.hours(first, last)
        ]
    )
    known_views = {row.id: register.view(row.bucket, row.folder) for row in found}
    everything = _said(past, {name: view.cadence for name, view in known_views.items()}, hours)
    unsaid = [row.id for row in found if everything.get(row.id, _Said()).count is None]
    for name, last_one in _newest_sure(connection, unsaid).items():
        everything[name] = replace(
            everything.get(name, _Said()),
            count=last_one._mapping["count"],
            empty=last_one.empty,
            fill_rate=last_one.fill_rate,
        )
    lines = []
    for row in found:
        view = known_views[row.id]
        said = everything.get(row.id, _Said())
        numbers = Numbers(
            days=days,
            availability=said.time.availability,
            refill_minutes=refill_minutes(past.filled.get(row.id, [])),
            open_gaps=past.standing.get(row.id, 0),
            photos=said.photos,
            doubtful=said.doubtful,
            rejected=past.rejected.get(row.id, 0),
        )
        line = ViewLine(
            name=view_name(row.folder),
            bucket=row.bucket,
            folder=row.folder,
            registered=view.registered,
            cadence=view.cadence,
            seen=row.seen or None,
            silent_since=row.silent_since if view.registered else None,
            count=said.count,
            empty=said.empty,
            fill_rate=said.fill_rate,
            numbers=numbers,
            sparks=said.sparks,
        )
        lines.append((line, said.time))
    lines += [(_never_seen_line(view, days), FacingTime()) for view in _never_seen(store, found)]
    return sorted(lines, key=lambda pair: (_by_number(pair[0].folder), pair[0].bucket))


def _by_number(name: str) -> list[tuple[int, str]]:
    """Order names as people do: aisle-9 before aisle-10."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), part) if part.isdecimal() else (0, part) for part in parts]


def _never_seen(store: Store, found: Sequence[Record]) -> Iterator[View]:
    """List the registered views of a store that none of its rows is of."""
    known = {(bucket, row.folder) for row in found for bucket in ("", row.bucket)}
    return (view for view in store.views.values() if (view.bucket, view.folder) not in known)


def _never_seen_line(view: View, days: int) -> ViewLine:
    numbers = Numbers(
        days=days,
        availability=None,
        refill_minutes=None,
        open_gaps=0,
        photos=0,
        doubtful=0,
        rejected=0,
    )
    return ViewLine(
        name=view_name(view.folder),
        bucket=view.bucket,
        folder=view.folder,
        registered=True,
        cadence=view.cadence,
        seen=None,
        silent_since=None,
        count=None,
        empty=None,
        fill_rate=None,
        numbers=numbers,
        sparks=(),
    )


def _sparks(rates: npt.NDArray[np.float64]) -> list[float]:
    """Choose fill rates for a sparkline, evenly, the newest with them."""
    step = -(-len(rates) // SPARKS) or 1
    chosen: list[float] = rates[::-1][::step][::-1].tolist()
    return chosen


def _open_gaps(
    connection: Connection,
    store: str,
    by_id: Mapping[str, Record],
    after: Place | None,
) -> list[EpisodeLine]:
    """List a page of a store's open gaps, those after a place."""
    place = (case((mutes.c.episode.is_(None), 0), else_=1), episodes.c.opened, episodes.c.id)
    muting = mutes.c.episode == episodes.c.id
    query = (
        select(episodes, mutes.c.episode.label("muted"))
        .outerjoin(mutes, muting)
        .where(episodes.c.store == store, episodes.c.closed.is_(None))
    )
    if after is not None:
        query = query.where(tuple_(*place) > _literals(after))
    rows = connection.execute(query.order_by(*place).limit(PAGE)).all()
    return [_episode_line(row, by_id) for row in rows]


def _literals(place: Place) -> Tuple:
    """Write a place as the database compares it."""
    return tuple_(*map(literal, place))


def _counts(connection: Connection, query: Select[str, int]) -> dict[str, int]:
    return {name: count for name, count in connection.execute(query).all()}


def _episode_line(row: Record, by_id: Mapping[str, Record]) -> EpisodeLine:
    view = by_id[row.view]
    return EpisodeLine(
        id=row.id,
        view=view_name(view.folder),
        bucket=view.bucket,
        row=row.row,
        facings=row.facings,
        box=read_box(json.loads(row.box)),
        uri=row.uri,
        opened=row.opened,
        closed=row.closed,
        ended=row.ended,
        muted=row.muted is not None,
    )


def _audit_line(row: Record) -> AuditLine:
    return AuditLine(
        photo=row.photo,
        uri=row.uri,
        captured=row.captured,
        uploaded=row.uploaded,
        generation=row.generation,
        count=row._mapping["count"],
        empty=row.empty,
        fill_rate=row.fill_rate,
        warnings=row.warnings,
        doubtful=row.doubtful,
    )
