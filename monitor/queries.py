"""What the board asks the database: stores, their views, and a view's history."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import Engine, Select, and_, func, select

from monitor.database import reading
from monitor.figures import FacingTime, Point, facing_time, refill_minutes
from monitor.fold import Box
from monitor.intake import ViewKey
from monitor.register import Register, Store, View, store_of, view_name
from monitor.tables import audits, episodes, mutes, rejections, views

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from monitor.records import Record

DAY = 86_400_000  # milliseconds
PAGE = 100  # rows of a list; a cursor leads on
# A sparkline is a thumb wide: more points than this are not seen.
SPARKS = 96


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
    folder: str
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
    """A store: its views, and its open gaps, oldest first."""

    store: Store
    numbers: Numbers
    views: Sequence[ViewLine]
    gaps: Sequence[EpisodeLine]


@dataclass(frozen=True, kw_only=True)
class ViewPage:
    """A view: its history, newest first, and where the lists go on."""

    line: ViewLine
    points: Sequence[AuditLine]  # of the days, oldest first
    audits: Sequence[AuditLine]
    audits_before: int | None
    episodes: Sequence[EpisodeLine]
    episodes_before: int | None


def list_stores(engine: Engine, register: Register) -> list[StoreLine]:
    """List all stores, those that never sent, too. Raises `StoreAway`."""
    unmuted = and_(episodes.c.closed.is_(None), episodes.c.id.not_in(select(mutes.c.episode)))
    with reading(engine) as connection:
        found = connection.execute(
            select(
                views.c.store,
                func.count().label("views"),
                func.count(views.c.silent_since).label("silent"),
                func.max(views.c.seen).label("seen"),
            ).group_by(views.c.store)
        ).all()
        gaps = connection.execute(
            select(episodes.c.store, func.count()).where(unmuted).group_by(episodes.c.store)
        ).all()
    by_key = {row.store: row for row in found}
    count: dict[str, int] = {key: number for key, number in gaps}
    lines = []
    for key in sorted(by_key.keys() | register.stores.keys()):
        row = by_key.get(key)
        registered = len(register.store(key).views)
        lines.append(
            StoreLine(
                key=key,
                name=register.store(key).name,
                views=max(row.views if row else 0, registered),
                open_gaps=count.get(key, 0),
                silent=row.silent if row else 0,
                seen=(row.seen or None) if row else None,
            )
        )
    return lines


def read_store(
    engine: Engine, register: Register, key: str, now: int, days: int
) -> StorePage | None:
    """Read a store over some days; None where nobody knows it. Raises `StoreAway`."""
    store = register.store(key)
    with reading(engine) as connection:
        found = connection.execute(select(views).where(views.c.store == key)).all()
        if not found and key not in register.stores:
            return None
        lines = _view_lines(connection, register, store, found, now, days)
        gaps = _open_gaps(connection, key, {row.id: row for row in found})
    total = sum((time for _, time in lines), FacingTime())
    shown = [line for line, _ in lines]
    return StorePage(
        store=store,
        numbers=Numbers(
            days=days,
            availability=total.availability,
            refill_minutes=_refill_of(engine, key, now - days * DAY),
            open_gaps=sum(not gap.muted for gap in gaps),
            photos=sum(line.numbers.photos for line in shown),
            doubtful=sum(line.numbers.doubtful for line in shown),
            rejected=sum(line.numbers.rejected for line in shown),
        ),
        views=shown,
        gaps=gaps,
    )


def read_view(
    engine: Engine,
    register: Register,
    folder: str,
    now: int,
    days: int,
    audits_before: int | None = None,
    episodes_before: int | None = None,
) -> ViewPage | None:
    """Read a view over some days; None where nobody knows it. Raises `StoreAway`."""
    store = register.store(store_of(folder))
    with reading(engine) as connection:
        found = connection.execute(select(views).where(views.c.folder == folder)).all()
        lines = _view_lines(connection, register, store, found, now, days)
        line = next((line for line, _ in lines if line.folder == folder), None)
        if line is None:
            return None
        names = [row.id for row in found]
        mine = audits.c.view.in_(names)
        recent = select(audits).where(mine, audits.c.captured > now - days * DAY)
        points = connection.execute(recent.order_by(audits.c.captured)).all()
        listed = select(audits).where(mine)
        if audits_before is not None:
            listed = listed.where(audits.c.captured < audits_before)
        last = connection.execute(listed.order_by(audits.c.captured.desc()).limit(PAGE)).all()
        gaps = select(episodes, mutes.c.episode.label("muted")).outerjoin(
            mutes, mutes.c.episode == episodes.c.id
        )
        gaps = gaps.where(episodes.c.view.in_(names))
        if episodes_before is not None:
            gaps = gaps.where(episodes.c.opened < episodes_before)
        told = connection.execute(gaps.order_by(episodes.c.opened.desc()).limit(PAGE)).all()
    by_id = {row.id: row for row in found}
    return ViewPage(
        line=line,
        points=[_audit_line(row) for row in points],
        audits=[_audit_line(row) for row in last],
        audits_before=last[-1].captured if len(last) == PAGE else None,
        episodes=[_episode_line(row, by_id) for row in told],
        episodes_before=told[-1].opened if len(told) == PAGE else None,
    )


def read_labels(engine: Engine) -> list[dict[str, object]]:
    """List what people said is no gap, oldest first. Raises `StoreAway`."""
    with reading(engine) as connection:
        found = connection.execute(select(mutes).order_by(mutes.c.muted, mutes.c.episode)).all()
    return [
        {
            "image": row.uri,
            "xyxy": [edge / 65535 for edge in json.loads(row.box)],
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


def _view_lines(
    connection: Connection,
    register: Register,
    store: Store,
    found: Sequence[Record],
    now: int,
    days: int,
) -> list[tuple[ViewLine, FacingTime]]:
    """Describe the views of a store, registered ones that never sent, too."""
    start = now - days * DAY
    names = [row.id for row in found]
    history = _history(connection, names, start)
    rejected = _counts(
        connection,
        select(rejections.c.view, func.count())
        .where(rejections.c.view.in_(names), rejections.c.uploaded > start)
        .group_by(rejections.c.view),
    )
    standing = _counts(
        connection,
        select(episodes.c.view, func.count())
        .where(
            episodes.c.view.in_(names),
            episodes.c.closed.is_(None),
            episodes.c.id.not_in(select(mutes.c.episode)),
        )
        .group_by(episodes.c.view),
    )
    first, last = (datetime.fromtimestamp(time / 1000, UTC) for time in (start, now))
    hours = [
        (round(opens.timestamp() * 1000), round(closes.timestamp() * 1000))
        for opens, closes in store.hours(first, last)
    ]
    filled = _filled(connection, names, start)
    lines = []
    for row in found:
        view = register.view(row.bucket, row.folder)
        points = history.get(row.id, [])
        time = facing_time([point for point, _ in points], view.cadence, hours)
        newest = next(((p, f) for p, f in reversed(points) if not p.doubtful), None)
        rates = [rate for point, rate in points if rate is not None and not point.doubtful]
        numbers = Numbers(
            days=days,
            availability=time.availability,
            refill_minutes=refill_minutes(filled.get(row.id, [])),
            open_gaps=standing.get(row.id, 0),
            photos=len(points),
            doubtful=sum(point.doubtful for point, _ in points),
            rejected=rejected.get(row.id, 0),
        )
        line = ViewLine(
            name=view_name(row.folder),
            bucket=row.bucket,
            folder=row.folder,
            registered=view.registered,
            cadence=view.cadence,
            seen=row.seen or None,
            silent_since=row.silent_since,
            count=newest[0].count if newest else None,
            empty=newest[0].empty if newest else None,
            fill_rate=newest[1] if newest else None,
            numbers=numbers,
            sparks=rates[-SPARKS:],
        )
        lines.append((line, time))
    known = {row.folder for row in found}
    lines += [
        (_never_seen(view, days), FacingTime())
        for view in store.views.values()
        if view.folder not in known
    ]
    return sorted(lines, key=lambda pair: (pair[0].folder, pair[0].bucket))


def _never_seen(view: View, days: int) -> ViewLine:
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


def _history(
    connection: Connection, names: Sequence[str], start: int
) -> dict[str, list[tuple[Point, float | None]]]:
    """Read what the photos of views say since a time, in the order of capture."""
    query = select(
        audits.c.view,
        audits.c.captured,
        audits.c.count.label("products"),
        audits.c.empty,
        audits.c.doubtful,
        audits.c.fill_rate,
    ).where(audits.c.view.in_(names), audits.c.captured > start)
    history: dict[str, list[tuple[Point, float | None]]] = {}
    for view, captured, count, empty, doubtful, rate in connection.execute(
        query.order_by(audits.c.view, audits.c.captured)
    ):
        point = Point(captured=captured, count=count, empty=empty, doubtful=doubtful)
        history.setdefault(view, []).append((point, rate))
    return history


def _filled(
    connection: Connection, names: Sequence[str], start: int
) -> Mapping[str, list[tuple[int, int | None, str]]]:
    query = select(episodes.c.view, episodes.c.opened, episodes.c.closed, episodes.c.ended).where(
        episodes.c.view.in_(names), episodes.c.closed > start
    )
    found: dict[str, list[tuple[int, int | None, str]]] = {}
    for view, opened, closed, ended in connection.execute(query):
        found.setdefault(view, []).append((opened, closed, ended))
    return found


def _refill_of(engine: Engine, store: str, start: int) -> float | None:
    query = select(episodes.c.opened, episodes.c.closed, episodes.c.ended).where(
        episodes.c.store == store, episodes.c.closed > start
    )
    with reading(engine) as connection:
        return refill_minutes((a, b, c) for a, b, c in connection.execute(query))


def _open_gaps(
    connection: Connection, store: str, by_id: Mapping[str, Record]
) -> list[EpisodeLine]:
    query = (
        select(episodes, mutes.c.episode.label("muted"))
        .outerjoin(mutes, mutes.c.episode == episodes.c.id)
        .where(episodes.c.store == store, episodes.c.closed.is_(None))
        .order_by(episodes.c.opened, episodes.c.id)
    )
    return [_episode_line(row, by_id) for row in connection.execute(query)]


def _counts(connection: Connection, query: Select[str, int]) -> dict[str, int]:
    return {name: count for name, count in connection.execute(query)}


def _episode_line(row: Record, by_id: Mapping[str, Record]) -> EpisodeLine:
    left, top, right, bottom = json.loads(row.box)
    folder = by_id[row.view].folder
    return EpisodeLine(
        id=row.id,
        view=view_name(folder),
        folder=folder,
        row=row.row,
        facings=row.facings,
        box=(left, top, right, bottom),
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
