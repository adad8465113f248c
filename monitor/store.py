"""What the monitor keeps of each view: one transaction an event, under the view's lock.

An audit that comes in the order of capture is one step of the fold. A late one, and one that
replaces another of its photo, is folded from the checkpoint before it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ColumnElement,
    Engine,
    Table,
    and_,
    bindparam,
    delete,
    exists,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from events.codec import Json
from events.types import VIEW_BACK, VIEW_SILENT
from monitor.database import reading, writing
from monitor.fold import (
    Audit,
    Episode,
    Folded,
    Position,
    Rules,
    State,
    match,
    open_episodes,
    rank,
    step,
)
from monitor.gap_events import events_due
from monitor.intake import IncomingAudit, ViewKey
from monitor.messages import SilenceData, gap_data, silence_data, silence_id
from monitor.packed import state_from_json, state_to_json
from monitor.points import DAY, SPAN, pack_points, span_of
from monitor.records import audit_of, audit_record, episode_of, episode_record, gap_event_of
from monitor.register import store_of
from monitor.tables import (
    audits,
    checkpoints,
    episodes,
    mutes,
    outgoing_events,
    rejections,
    spans,
    views,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from monitor.records import Record

# A late audit costs at most so many steps more than there are audits after it.
CHECKPOINT_EVERY = 16


# What every event asks, built once: SQLAlchemy takes longer to build a statement than to run it.
LOCK = select(views).where(views.c.id == bindparam("name")).with_for_update()
KNOWN = select(audits).where(
    audits.c.view == bindparam("name"), audits.c.photo == bindparam("named_photo")
)
INSERT_AUDIT = insert(audits)
DROP_REJECTION = delete(rejections).where(
    rejections.c.view == bindparam("name"), rejections.c.photo == bindparam("named_photo")
)
OF_SPAN = (
    select(*(audits.c[name] for name in ("captured", "count", "empty", "fill_rate", "doubtful")))
    .where(
        audits.c.view == bindparam("name"),
        audits.c.captured >= bindparam("start"),
        audits.c.captured < bindparam("end"),
    )
    .order_by(audits.c.captured, audits.c.photo)
)
UNPUBLISHED = (
    select(outgoing_events)
    .where(
        outgoing_events.c.view == bindparam("name"),
        outgoing_events.c.told.is_(None),
        ~exists().where(mutes.c.episode == outgoing_events.c.episode),
    )
    .order_by(outgoing_events.c.time, outgoing_events.c.episode, outgoing_events.c.sequence)
)


@dataclass(frozen=True, kw_only=True)
class OutgoingEvent:
    """An event that is not known to be published."""

    id: str
    type: str
    time: int  # milliseconds since 1970
    data: Json


@dataclass(frozen=True)
class Store:
    """The database of the monitor; called from many threads and processes."""

    engine: Engine
    rules: Rules = field(default_factory=Rules)
    keep_days: int = 30

    def take_audit(self, key: ViewKey, incoming: IncomingAudit) -> list[OutgoingEvent]:
        """Take in one audit: keep it, fold it, and note the events of what it changed.

        Returns the events of its view to be published, in order. Raises `StoreAway`.
        """
        with writing(self.engine) as connection:
            view = _View(connection, key, self.rules, self.keep_days * DAY)
            view.has_come(incoming.uploaded)
            view.take(incoming)
            view.save()
            return _unpublished(connection, key.id)

    def take_rejection(
        self, key: ViewKey, photo: str, reason: str, uploaded: int
    ) -> list[OutgoingEvent]:
        """Take in a rejected photo: a sign of life of its camera. An audit of it says more.

        Returns the events of its view to be published, in order. Raises `StoreAway`.
        """
        with writing(self.engine) as connection:
            view = _View(connection, key, self.rules, self.keep_days * DAY)
            view.has_come(uploaded)
            view.save()
            if connection.execute(KNOWN, {"name": key.id, "named_photo": photo}).first() is None:
                row = {"view": key.id, "photo": photo, "uploaded": uploaded, "reason": reason}
                put(connection, rejections, ["view", "photo"], [row], keep=True)
            return _unpublished(connection, key.id)

    def note_silence(self, key: ViewKey, since: int, now: int) -> bool:
        """Note that a view has been silent since a time; false where it has come by now.

        Raises `StoreAway`.
        """
        with writing(self.engine) as connection:
            view = _View(connection, key, self.rules, self.keep_days * DAY)
            noted = view.is_silent(since, now)
            view.save()
            return noted

    def forget_silences(self, names: Iterable[str]) -> None:
        """Note that some views are not silent, of which nobody is told. Raises `StoreAway`."""
        if named := list(names):
            with writing(self.engine) as connection:
                mine = views.c.id.in_(named)
                connection.execute(update(views).where(mine).values(silent_since=None))

    def mute(self, episode: str, now: int) -> bool:
        """Note that an episode is no gap; false where there is none. Raises `StoreAway`."""
        with writing(self.engine) as connection:
            # Locked, as an audit that gives it another beginning must find the mute.
            named = select(episodes).where(episodes.c.id == episode).with_for_update()
            row = connection.execute(named).first()
            if row is None:
                return False
            facts = {"episode": episode, "view": row.view, "uri": row.uri, "box": row.box}
            put(connection, mutes, ["episode"], [{**facts, "muted": now}], keep=True)
            return True

    def unmute(self, episode: str, now: int) -> list[OutgoingEvent] | None:
        """Note that a muted episode is a gap after all; None where there is none.

        Returns the events of its view to be published, in order. Raises `StoreAway`.
        """
        of_view = select(views.c.bucket, views.c.folder).join(
            episodes, episodes.c.view == views.c.id
        )
        with writing(self.engine) as connection:
            found = connection.execute(of_view.where(episodes.c.id == episode)).first()
            if found is None:
                return None
            key = ViewKey(found.bucket, found.folder)
            view = _View(connection, key, self.rules, self.keep_days * DAY)
            if not view.unmute(episode, now):
                return None
            return _unpublished(connection, key.id)

    def unpublished(self, view: str) -> list[OutgoingEvent]:
        """List the events of a view to be published, in order. Raises `StoreAway`."""
        with reading(self.engine) as connection:
            return _unpublished(connection, view)

    def mark_published(self, names: Sequence[str], now: int) -> None:
        """Note what has been published; losing it costs a duplicate. Raises `StoreAway`."""
        if names:
            with writing(self.engine) as connection:
                named = outgoing_events.c.id.in_(names)
                connection.execute(update(outgoing_events).where(named).values(told=now))


def _unpublished(connection: Connection, view: str) -> list[OutgoingEvent]:
    rows = connection.execute(UNPUBLISHED, {"name": view})
    return [
        OutgoingEvent(id=row.id, type=row.type, time=row.time, data=json.loads(row.data))
        for row in rows
    ]


class _View:
    """One view, locked for the length of its transaction."""

    def __init__(self, connection: Connection, key: ViewKey, rules: Rules, keep: int) -> None:
        self._connection = connection
        self._key = key
        self._rules = rules
        self._keep = keep  # milliseconds
        self._id = key.id
        self._row = self._lock()
        self._changes: dict[str, object] = {}

    def _lock(self) -> Record:
        # SQLite has one lock for all writers, which the transaction holds since it began.
        row = self._connection.execute(LOCK, {"name": self._id}).first()
        if row is None:
            facts = {"id": self._id, "bucket": self._key.bucket, "folder": self._key.folder}
            facts["store"] = store_of(self._key.folder)
            put(self._connection, views, ["id"], [facts], keep=True)
            row = self._connection.execute(LOCK, {"name": self._id}).one()
        return row

    def save(self) -> None:
        """Write what has changed of the view itself."""
        if self._changes:
            mine = views.c.id == self._id
            self._connection.execute(update(views).where(mine), self._changes)

    def has_come(self, uploaded: int) -> None:
        """Note a sign of life; a view that was said to be silent is back."""
        if uploaded <= self._row.seen:
            return
        changes: dict[str, object] = {"seen": uploaded}
        since = self._row.silent_since
        if since is not None:
            changes["silent_since"] = None
            data = silence_data(self._key, since, uploaded)
            self._note(since, 2, VIEW_BACK, uploaded, data)
        self._update(**changes)

    def is_silent(self, since: int, now: int) -> bool:
        """Note a silence, unless something has come since."""
        if self._row.seen > since or self._row.silent_since is not None:
            return False
        self._note(since, 1, VIEW_SILENT, now, silence_data(self._key, since, None))
        self._update(silent_since=since)
        return True

    def take(self, incoming: IncomingAudit) -> None:
        """Take in an audit, unless it is known or older than what is kept."""
        audit = incoming.audit
        base = self._row.base_captured
        if base is not None and audit.position <= (base, self._row.base_photo):
            self._update(late=self._row.late + 1)
            return
        named = {"name": self._id, "named_photo": audit.photo}
        known = self._connection.execute(KNOWN, named).first()
        first, touched = audit.position, {span_of(audit.captured)}
        if known is not None:
            if rank(audit) <= rank(audit_of(known)):
                return
            first = min(first, (known.captured, known.photo))
            touched.add(span_of(known.captured))
            mine = and_(audits.c.view == self._id, audits.c.photo == audit.photo)
            self._connection.execute(delete(audits).where(mine))
        self._connection.execute(DROP_REJECTION, named)
        self._connection.execute(INSERT_AUDIT, audit_record(self._id, incoming))
        self._keep_spans(touched)
        head = state_from_json(self._row.state) if self._row.state else State(view=self._id)
        if head.at is None or head.at < first:
            self._go_on(head, head, [audit], self._row.steps)
        else:
            self._go_back(head, first)

    def _keep_spans(self, starts: Iterable[int]) -> None:
        """Pack anew what the audits of some spans say."""
        for start in starts:
            facts = {"name": self._id, "start": start, "end": start + SPAN}
            points = pack_points(start, map(tuple, self._connection.execute(OF_SPAN, facts)))
            row = {"view": self._id, "start": start, "points": points}
            row["store"] = store_of(self._key.folder)
            put(self._connection, spans, ["view", "start"], [row])

    def _go_back(self, head: State, first: Position) -> None:
        """Fold anew from the last checkpoint before a position."""
        mine, since = checkpoints.c.view == self._id, at_or_after(checkpoints, first)
        newest = (
            select(checkpoints.c.state)
            .where(mine, ~since)
            .order_by(checkpoints.c.captured.desc(), checkpoints.c.photo.desc())
            .limit(1)
        )
        checkpoint = self._connection.execute(newest).scalar()
        state = state_from_json(checkpoint) if checkpoint else State(view=self._id)
        self._connection.execute(delete(checkpoints).where(mine, since))
        query = select(audits).where(audits.c.view == self._id)
        if state.at is not None:
            query = query.where(~at_or_before(audits, state.at))
        rows = self._connection.execute(query.order_by(audits.c.captured, audits.c.photo))
        self._go_on(head, state, [audit_of(row) for row in rows], 0)

    def _go_on(self, head: State, state: State, new: list[Audit], steps: int) -> None:
        """Step through all audits after a state, and keep what came of it."""
        before = self._episodes_since(head, state)
        closed: list[Episode] = []
        for audit in new:
            state, ended = step(state, audit, self._rules)
            closed += ended
            steps += 1
            if steps == CHECKPOINT_EVERY:
                steps = 0
                self._keep_checkpoint(state)
        self._update(state=state_to_json(state), steps=steps)
        self._keep_episodes(before, Folded(state, tuple(closed)).episodes, new)
        if not steps:
            self._fold_away(state)

    def _episodes_since(self, head: State, state: State) -> dict[str, Episode]:
        """Read the episodes that the audits after a state have decided, and the open ones."""
        known = {episode.id: episode for episode in open_episodes(head)}
        if head.at is None or head.at == state.at:
            return known
        start = state.at or (0, "")
        query = select(episodes).where(episodes.c.view == self._id, episodes.c.settled >= start[0])
        decided = map(episode_of, self._connection.execute(query))
        return known | {e.id: e for e in decided if e.settled is not None and e.settled > start}

    def _keep_episodes(
        self, before: Mapping[str, Episode], now: Mapping[str, Episode], new: list[Audit]
    ) -> None:
        """Write what changed, and note the events of it."""
        known = {**before, **now}
        changed = [name for name in sorted(known) if before.get(name) != now.get(name)]
        if not changed:
            return
        uris = self._uris([known[name] for name in changed])
        left = [now[name] for name in changed if name in now]
        gone = [name for name in changed if name not in now]
        if gone:
            self._connection.execute(delete(episodes).where(episodes.c.id.in_(gone)))
        folder = self._key.folder
        rows = [episode_record(self._id, folder, episode, uris[episode.id]) for episode in left]
        put(self._connection, episodes, ["id"], rows)
        query = select(mutes.c.episode).where(mutes.c.episode.in_(changed))
        muted = frozenset(self._connection.execute(query).scalars())
        free = [episode for episode in left if episode.id not in muted]
        muted |= self._pass_on_mutes([known[name] for name in gone if name in muted], free)
        touched = {name: known[name] for name in changed}
        self._note_due(touched, gone, muted, uris, max(audit.captured for audit in new))

    def unmute(self, name: str, now: int) -> bool:
        """Note that a muted episode is a gap, and the events that it has not had meanwhile.

        False where there is no such episode.
        """
        row = self._connection.execute(select(episodes).where(episodes.c.id == name)).first()
        if row is None:
            return False
        self._connection.execute(delete(mutes).where(mutes.c.episode == name))
        self._note_due({name: episode_of(row)}, (), frozenset(), {name: row.uri}, now)
        return True

    def _note_due(
        self,
        known: Mapping[str, Episode],
        gone: Collection[str],
        muted: frozenset[str],
        uris: Mapping[str, str],
        time: int,
    ) -> None:
        """Note the events from what was told of some episodes to what they are, or were if gone."""
        earlier = select(outgoing_events).where(outgoing_events.c.episode.in_(known))
        in_order = self._connection.execute(
            earlier.order_by(outgoing_events.c.episode, outgoing_events.c.sequence)
        )
        last = {row.episode: gap_event_of(row) for row in in_order}
        left = {name: episode for name, episode in known.items() if name not in gone}
        for event in events_due(left, last, muted):
            data = gap_data(self._key, known[event.episode], uris[event.episode], event)
            row = {**asdict(event), "view": self._id, "time": time, "data": json.dumps(data)}
            self._connection.execute(insert(outgoing_events), row)

    def _pass_on_mutes(self, gone: list[Episode], free: list[Episode]) -> set[str]:
        """Mute what muted episodes are now, whose beginning and so name has changed; name these."""
        heirs: set[str] = set()
        for old in gone:
            beside = [new for new in free if new.id not in heirs and new.stood_beside(old)]
            found, _ = match([old.gap.box], [new.gap.box for new in beside])
            if found:
                heir = beside[found[0]].id
                said = mutes.c.episode == old.id
                self._connection.execute(update(mutes).where(said).values(episode=heir))
                # They were held back by the mute that is another's now.
                left = and_(outgoing_events.c.episode == old.id, outgoing_events.c.told.is_(None))
                self._connection.execute(delete(outgoing_events).where(left))
                heirs.add(heir)
        return heirs

    def _uris(self, wanted: list[Episode]) -> dict[str, str]:
        """Name the first photo of each episode; that of an old one is known to its own row."""
        names, photos = [e.id for e in wanted], [e.photo for e in wanted]
        own = select(episodes.c.id, episodes.c.uri).where(episodes.c.id.in_(names))
        kept = {row.id: row.uri for row in self._connection.execute(own)}
        query = select(audits.c.photo, audits.c.uri).where(
            audits.c.view == self._id, audits.c.photo.in_(photos)
        )
        by_photo = {row.photo: row.uri for row in self._connection.execute(query)}
        return {e.id: kept.get(e.id) or by_photo.get(e.photo, "") for e in wanted}

    def _keep_checkpoint(self, state: State) -> None:
        assert state.at is not None
        captured, photo = state.at
        row = {"view": self._id, "captured": captured, "photo": photo}
        row["state"] = state_to_json(state)
        put(self._connection, checkpoints, ["view", "captured", "photo"], [row])

    def _fold_away(self, state: State) -> None:
        """Drop the audits that are older than what is kept; a checkpoint stands for them."""
        assert state.at is not None
        mine = checkpoints.c.view == self._id
        base = self._connection.execute(
            select(checkpoints.c.captured, checkpoints.c.photo)
            .where(mine, checkpoints.c.captured < state.at[0] - self._keep)
            .order_by(checkpoints.c.captured.desc(), checkpoints.c.photo.desc())
            .limit(1)
        ).first()
        if base is None:
            return
        at = (base.captured, base.photo)
        old = and_(audits.c.view == self._id, at_or_before(audits, at))
        self._connection.execute(delete(audits).where(old))
        past = and_(spans.c.view == self._id, spans.c.start <= base.captured - SPAN)
        self._connection.execute(delete(spans).where(past))
        unread = and_(
            rejections.c.view == self._id, rejections.c.uploaded < state.at[0] - self._keep
        )
        self._connection.execute(delete(rejections).where(unread))
        self._connection.execute(delete(checkpoints).where(mine, ~at_or_after(checkpoints, at)))
        self._update(base_captured=base.captured, base_photo=base.photo)

    def _note(
        self, since: int, sequence: int, event_type: str, time: int, data: SilenceData
    ) -> None:
        name = silence_id(self._id, since)
        row = {
            "id": silence_id(name, sequence),
            "view": self._id,
            "episode": name,
            "sequence": sequence,
            "type": event_type,
            "state": "",
            "ended": "",
            "time": time,
            "data": json.dumps(data),
        }
        put(self._connection, outgoing_events, ["id"], [row], keep=True)

    def _update(self, **changes: object) -> None:
        self._changes |= changes


def put(
    connection: Connection,
    table: Table,
    keys: Sequence[str],
    rows: Iterable[Mapping[str, object]],
    keep: bool = False,
) -> int:
    """Insert rows; update those that are there, or `keep` them. Return how many were written."""
    given = [dict(row) for row in rows]
    if not given:
        return 0
    names = () if keep else tuple(given[0])
    statement = _upsert(connection.dialect.name, table, tuple(keys), names)
    # psycopg's count of a list of rows is lost unless it is asked for.
    counted = {"preserve_rowcount": True}
    written: int = connection.execute(statement, given, execution_options=counted).rowcount
    return written


@cache
def _upsert(dialect: str, table: Table, keys: tuple[str, ...], names: tuple[str, ...]) -> Any:
    """Build the statement of `put` once for each use; without names it changes nothing."""
    statement: Any = (postgresql_insert if dialect == "postgresql" else sqlite_insert)(table)
    changed = {name: statement.excluded[name] for name in names if name not in keys}
    if not changed:
        return statement.on_conflict_do_nothing(index_elements=keys)
    return statement.on_conflict_do_update(index_elements=keys, set_=changed)


def at_or_after(table: Table, at: Position) -> ColumnElement[bool]:
    """Select the rows of audits or checkpoints from a position on."""
    captured, photo = table.c.captured, table.c.photo
    return or_(captured > at[0], and_(captured == at[0], photo >= at[1]))


def at_or_before(table: Table, at: Position) -> ColumnElement[bool]:
    """Select the rows of audits or checkpoints up to a position."""
    captured, photo = table.c.captured, table.c.photo
    return or_(captured < at[0], and_(captured == at[0], photo <= at[1]))
