"""The law of the monitor: in whatever order audits come, and however often, the store holds the
episodes of the fold, and what was last told of each agrees with it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Row, Table, func, select
from test_fold import ELSEWHERE, MINUTE, SHELF, photo

from events.types import GAP_CORRECTED
from monitor import fold as fold_module
from monitor import queries
from monitor import store as store_module
from monitor.database import migrate, open_database, reading, writing
from monitor.fold import Audit, Folded, Gap, Rules, State, chosen, fold
from monitor.gap_events import events_due, fact_of
from monitor.intake import IncomingAudit, ViewKey
from monitor.points import SPAN, read_points
from monitor.records import episode_of, gap_event_of
from monitor.register import Register
from monitor.store import Store
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
from tests.faults.postgresql import Server

COUNTER = itertools.count()


@pytest.fixture(autouse=True)
def checkpoints_come_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "CHECKPOINT_EVERY", 4)


@pytest.fixture(scope="module")
def on_postgresql(postgresql: Server) -> Iterator[Store]:
    engine = open_database(postgresql.url)
    yield Store(engine)
    engine.dispose()


@pytest.fixture(scope="module")
def on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    path: Path = tmp_path_factory.mktemp("monitor") / "monitor.sqlite"
    engine = open_database(f"sqlite:///{path}")
    migrate(engine)
    yield Store(engine)
    engine.dispose()


@pytest.fixture(params=["on_sqlite", "on_postgresql"])
def store(request: pytest.FixtureRequest) -> Store:
    store: Store = request.getfixturevalue(request.param)
    return store


def new_key() -> ViewKey:
    """A view that no other test has used."""
    return ViewKey("shelves", f"store-{next(COUNTER)}/cam")


def incoming(audit: Audit) -> IncomingAudit:
    return IncomingAudit(
        audit=audit,
        uri=f"s3://shelves/{audit.photo}.jpg",
        uploaded=audit.captured,
        count=len(audit.products) // 8,
        empty=sum(gap.facings for gap in audit.gaps),
        fill_rate=None,
        warnings=("blurred",) if audit.doubtful else (),
    )


def take(store: Store, key: ViewKey, arrivals: list[Audit]) -> None:
    for audit in arrivals:
        store.take_audit(key, incoming(audit))


def rows(store: Store, table: Table, key: ViewKey) -> list[Row[Any]]:
    with reading(store.engine) as connection:
        query = select(table).where(table.c.view == key.id)
        return list(connection.execute(query))


def held(store: Store, key: ViewKey) -> dict[str, fold_module.Episode]:
    return {row.id: episode_of(row) for row in rows(store, episodes, key)}


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Audit], int]:
    """The audits of a day at a shelf that sells, is refilled, is nudged and loses its camera."""
    steps = draw(st.lists(st.sampled_from([0.0, 0.4, 5.0, 15.0, 40.0]), min_size=1, max_size=22))
    moved_at = draw(st.one_of(st.none(), st.integers(0, len(steps))))
    found: list[Audit] = []
    empty: set[int] = set()
    minute = 0.0
    for index, step in enumerate(steps):
        minute += step
        empty ^= draw(st.sets(st.integers(0, 4), max_size=1))
        moved = moved_at is not None and index >= moved_at
        taken = photo(
            minute,
            tuple(i for i in sorted(empty) if not (moved and i > 2)),
            shelf=ELSEWHERE if moved else SHELF,
            shift=(draw(st.sampled_from([0, 0, 300])), 0),
            doubtful=draw(st.integers(0, 7)) == 0,
            name=f"{index:04d}",
        )
        found.append(taken)
        if draw(st.integers(0, 5)) == 0:
            again = photo(minute, tuple(sorted(empty ^ {1})), generation=1, name=taken.photo)
            found.append(again)
    return found, draw(st.integers(0, 2**32))


def arrivals_of(history: tuple[list[Audit], int]) -> list[Audit]:
    """All audits, some of them twice, in any order."""
    found, seed = history
    order = random.Random(seed)
    # A queue's own disorder is mild; the worst one is tried, too.
    if order.random() < 0.5:
        keys = {id(audit): i + order.uniform(0, 5) for i, audit in enumerate(found)}
        arrived = sorted(found, key=lambda audit: keys[id(audit)])
    else:
        arrived = order.sample(found, len(found))
    return arrived + order.choices(found, k=len(found) // 3)


def shows(audit: Audit, gap: Gap) -> bool:
    """Tell whether a photo shows a gap in a place, give or take a nudge."""
    middles = [np.add(box[:2], box[2:]) / 2 for box in (gap.box, *(g.box for g in audit.gaps))]
    return any(np.abs(middle - middles[0]).max() < 2000 for middle in middles[1:])


def check_hysteresis(history: list[Audit], found: list[fold_module.Episode]) -> None:
    """A change takes two photos a minute apart that say the same, by the photos alone."""
    reliable = [audit for audit in chosen(history) if not audit.doubtful]
    for episode in found:
        since = [a for a in reliable if a.captured >= episode.opened and shows(a, episode.gap)]
        assert since[0].captured == episode.opened
        assert since[-1].captured - episode.opened >= MINUTE
        if episode.ended == "filled":
            assert episode.closed is not None
            gone = [a for a in reliable if a.captured >= episode.closed]
            assert not shows(gone[0], episode.gap)
            assert any(a.captured - episode.closed >= MINUTE for a in gone)


def check_law(store: Store, history: tuple[list[Audit], int]) -> None:
    key = new_key()
    take(store, key, arrivals_of(history))
    expected = fold(State(view=key.id), chosen(history[0]), store.rules).episodes
    assert held(store, key) == expected
    check_hysteresis(history[0], list(expected.values()))
    kept = [(r.captured, r._mapping["count"], r.doubtful) for r in rows(store, audits, key)]
    packed = sorted((row.start, row.points) for row in rows(store, spans, key))
    points = read_points(packed)
    seen = zip(points.captured.tolist(), points.count.tolist(), points.doubtful, strict=True)
    assert sorted(kept) == sorted(seen)
    by_episode: dict[str, list[Row[Any]]] = {}
    for row in sorted(rows(store, outgoing_events, key), key=lambda row: row.sequence):
        by_episode.setdefault(row.episode, []).append(row)
    assert expected.keys() <= by_episode.keys()
    for name, said in by_episode.items():
        assert [row.sequence for row in said] == list(range(1, len(said) + 1))
        assert gap_event_of(said[-1]).fact == fact_of(expected.get(name))


QUICK = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def test_any_order_of_arrival_gives_the_same_episodes_and_tellings(on_sqlite: Store) -> None:
    QUICK(given(histories())(lambda history: check_law(on_sqlite, history)))()


def test_the_same_on_postgresql(on_postgresql: Store) -> None:
    few = settings(QUICK, max_examples=12)
    few(given(histories())(lambda history: check_law(on_postgresql, history)))()


def by_arrival(patch: pytest.MonkeyPatch) -> None:
    def go_back(view: Any, head: State, first: object) -> None:
        audit = replace(head.elsewhere or photo(0), photo=str(first))
        view._go_on(head, head, [audit], 0)

    patch.setattr(store_module._View, "_go_back", go_back)


def ids_from_arrival(patch: pytest.MonkeyPatch) -> None:
    make = fold_module._episode
    arrived = itertools.count()
    patch.setattr(
        fold_module, "_episode", lambda *facts: replace(make(*facts), id=f"{next(arrived):032x}")
    )


def corrections_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        store_module,
        "events_due",
        lambda *facts: (event for event in events_due(*facts) if event.type != GAP_CORRECTED),
    )


def checkpoints_kept_when_a_late_audit_comes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(store_module, "at_or_after", lambda table, at: table.c.captured < 0)


def generations_ignored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(store_module, "rank", lambda audit: 0)


def no_hysteresis(patch: pytest.MonkeyPatch) -> None:
    """The database and the fold agree: only the photos say that they are wrong."""
    sure = fold_module.step
    for module in (store_module, fold_module):
        patch.setattr(module, "step", lambda state, audit, _: sure(state, audit, Rules(1, 0)))


def spans_overlap(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(store_module, "span_of", lambda captured: captured - captured % (SPAN // 24))


@pytest.mark.parametrize(
    "mutant",
    [
        no_hysteresis,
        spans_overlap,
        by_arrival,
        ids_from_arrival,
        corrections_forgotten,
        checkpoints_kept_when_a_late_audit_comes,
        generations_ignored,
    ],
)
def test_the_law_catches(
    on_sqlite: Store, monkeypatch: pytest.MonkeyPatch, mutant: Callable[[pytest.MonkeyPatch], None]
) -> None:
    mutant(monkeypatch)
    fast = settings(QUICK, phases=[Phase.generate], max_examples=40)
    with pytest.raises((AssertionError, ExceptionGroup)):
        fast(given(histories())(lambda history: check_law(on_sqlite, history)))()


def test_without_hysteresis_a_gap_that_flickers_would_be_told() -> None:
    audits = [photo(0, (3,)), photo(15), photo(30, (3,))]
    assert fold(State(view="v"), audits, Rules()).episodes == {}
    assert len(fold(State(view="v"), audits, Rules(1, 0)).episodes) == 2


def test_a_late_audit_is_folded_from_the_checkpoint_before_it(store: Store) -> None:
    key = new_key()
    day = [photo(15 * i, (3,) if 20 < i < 60 else ()) for i in range(80)]
    late = day.pop(50)
    take(store, key, day)
    assert len(rows(store, checkpoints, key)) == len(day) // store_module.CHECKPOINT_EVERY
    take(store, key, [late])
    assert len(rows(store, audits, key)) == 80
    expected = fold(State(view=key.id), [*day[:50], late, *day[50:]], store.rules).episodes
    assert held(store, key) == expected
    assert len(expected) == 1


def test_what_is_old_is_folded_away_and_open_episodes_stay(store: Store) -> None:
    store = replace(store, keep_days=1)
    key = new_key()
    days = [photo(60 * hour, (3,) if hour > 2 else ()) for hour in range(80)]
    for name, hour in (("old", 1), ("new", 78)):
        store.take_rejection(key, name, "urn:x", 60 * hour * MINUTE)
    take(store, key, days)
    assert [row.photo for row in rows(store, rejections, key)] == ["new"]
    kept = rows(store, audits, key)
    assert 24 <= len(kept) < 24 + 2 * store_module.CHECKPOINT_EVERY
    assert held(store, key) == fold(State(view=key.id), days, store.rules).episodes
    # Older than what is kept: counted and dropped. Younger: folded in.
    take(store, key, [photo(30, (3,)), photo(79.5 * 60, (3, 7))])
    with reading(store.engine) as connection:
        view = connection.execute(select(views).where(views.c.id == key.id)).one()
    assert (view.late, len(rows(store, audits, key))) == (1, len(kept) + 1)
    assert len(held(store, key)) == 1


def test_a_duplicate_and_a_rejection_change_no_episode(store: Store) -> None:
    key = new_key()
    take(store, key, [photo(0, (3,)), photo(15, (3,))] * 4)
    for _ in range(2):
        store.take_rejection(key, "p", "urn:x", 60 * MINUTE)
    assert (len(rows(store, audits, key)), len(rows(store, outgoing_events, key))) == (2, 1)
    assert len(rows(store, rejections, key)) == 1
    with reading(store.engine) as connection:
        assert connection.execute(select(views.c.seen).where(views.c.id == key.id)).scalar() == (
            60 * MINUTE
        )


def test_a_photo_with_an_audit_is_not_rejected_whichever_comes_first(store: Store) -> None:
    key = new_key()
    store.take_rejection(key, photo(0).photo, "urn:x", 0)
    take(store, key, [photo(0, generation=1), photo(15)])
    store.take_rejection(key, photo(15).photo, "urn:x", 15 * MINUTE)
    assert (len(rows(store, audits, key)), rows(store, rejections, key)) == (2, [])


def test_a_place_leads_on_in_either_database(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time of today is beyond 32 bits, which one of them minds."""
    monkeypatch.setattr(queries, "PAGE", 1)
    key, now = new_key(), 1_795_000_000_000
    at_noon = [replace(photo(0, (1, 3), name=name), captured=now) for name in "ab"]
    take(store, key, [*at_noon, replace(photo(15, (1, 3)), captured=now + 15 * MINUTE)])
    name = key.folder.partition("/")[0]
    end = now + 60 * MINUTE
    first = queries.read_view(store.engine, Register(), name, "cam", end, 1)
    assert first is not None
    rest = queries.read_view(
        store.engine,
        *(Register(), name, "cam", end, 1, "shelves"),
        first.audits_before,
        first.episodes_before,
    )
    assert rest is not None
    assert {line.audits[0].photo for line in (first, rest)} == {"00015.00", "b"}
    assert len({line.episodes[0].id for line in (first, rest)}) == 2
    top = queries.read_store(store.engine, Register(), name, end, 1)
    assert top is not None
    more = queries.read_store(store.engine, Register(), name, end, 1, top.gaps_after)
    assert more is not None
    assert len({line.gaps[0].id for line in (top, more)}) == 2
    (line,) = (s for s in queries.list_stores(store.engine, Register()) if s.key == name)
    assert (line.views, line.open_gaps, line.silent) == (1, 2, 0)


def test_what_is_untold_is_told_once(store: Store) -> None:
    key = new_key()
    take(store, key, [photo(0, (3,)), photo(15, (3,)), photo(30), photo(45)])
    events = store.unpublished(key.id)
    assert [entry.type.rpartition(".")[2] for entry in events] == ["opened", "closed"]
    assert [entry.data["sequence"] for entry in events] == [1, 2]
    assert events[1].data["minutes"] == 30
    store.mark_published([entry.id for entry in events], 1)
    assert store.unpublished(key.id) == []


def test_a_muted_episode_is_told_no_more(store: Store) -> None:
    key = new_key()
    take(store, key, [photo(0, (3,)), photo(15, (3,))])
    (name,) = held(store, key)
    assert store.mute(name, 1)
    assert store.mute(name, 2)
    assert not store.mute("f" * 32, 1)
    take(store, key, [photo(30), photo(45)])
    assert [row.state for row in rows(store, outgoing_events, key)] == ["open"]
    assert store.unpublished(key.id) == []


@pytest.mark.parametrize("told", [True, False])
def test_an_episode_that_is_a_gap_after_all_is_told_to_its_end(store: Store, told: bool) -> None:
    key = new_key()
    take(store, key, [photo(0, (3,)), photo(15, (3,))])
    (name,) = held(store, key)
    if told:
        store.mark_published([entry.id for entry in store.unpublished(key.id)], 1)
    store.mute(name, 1)
    take(store, key, [photo(30), photo(45)])
    assert store.unpublished(key.id) == []
    events = store.unmute(name, 60 * MINUTE) or []
    kinds = [entry.type.rpartition(".")[2] for entry in events]
    assert (kinds, events[-1].data["minutes"]) == (["opened", "closed"][told:], 30)
    assert (rows(store, mutes, key), store.unmute(name, 61 * MINUTE)) == ([], events)
    assert store.unmute("f" * 32, 1) is None


@pytest.mark.parametrize(
    ("later", "opened"),
    [
        pytest.param([photo(0, (3,))], 0, id="a late photo"),
        pytest.param([photo(15, generation=1)], 30, id="another audit"),
        pytest.param([photo(15, (3,), shift=(1, 0), generation=1)], 15, id="another box"),
        # The earlier one gets another beginning, and goes on into the later one.
        pytest.param([photo(0, (3,)), photo(60, (3,), generation=1)], 0, id="two into one"),
    ],
)
def test_a_muted_gap_with_another_beginning_is_muted(
    store: Store, later: list[Audit], opened: int
) -> None:
    key = new_key()
    empty = {15, 30, 45, 90, 105}
    take(store, key, [photo(m, (3,) if m in empty else ()) for m in range(15, 120, 15)])
    for name in held(store, key):
        store.mute(name, 1)
    assert store.unpublished(key.id) == []  # noted before they were muted
    take(store, key, later)
    found = held(store, key)
    muted = [row.episode for row in rows(store, mutes, key)]
    assert (min(e.opened for e in found.values()), len(muted)) == (opened * MINUTE, 2)
    assert found.keys() <= set(muted)
    assert store.unpublished(key.id) == []


def test_two_muted_gaps_that_were_one_have_one_mute(store: Store) -> None:
    key = new_key()
    wide = Gap(box=(*SHELF[3][:2], *SHELF[4][2:]), row=0, facings=2.0)
    first, later, last = (photo(m, (3, 4)) for m in (15, 20, 30))
    take(store, key, [first, later, replace(last, gaps=(wide,))])
    for name in held(store, key):
        store.mute(name, 1)
    take(store, key, [replace(first, gaps=(wide,), generation=1)])
    (name,) = held(store, key)
    muted = [row.episode for row in rows(store, mutes, key)]
    assert (name in muted, len(muted)) == (True, 2)  # what was said of the other stays a label


def test_a_later_gap_in_the_place_of_a_muted_one_is_a_gap(store: Store) -> None:
    key = new_key()
    first = photo(15, (3,))
    take(store, key, [first, photo(30, (3,)), photo(45), photo(60), photo(185, (3,))])
    (name,) = held(store, key)
    store.mute(name, 1)
    # Another audit finds that the first was taken last: now there is a gap where there was none.
    take(store, key, [replace(photo(200, (3,), generation=1), photo=first.photo)])
    (found,) = held(store, key).values()
    assert (found.opened, [row.episode for row in rows(store, mutes, key)]) == (
        185 * MINUTE,
        [name],
    )
    assert [entry.data["episode"] for entry in store.unpublished(key.id)] == [found.id]


def test_a_silence_and_its_end_are_told_once_each(store: Store) -> None:
    key = new_key()
    take(store, key, [photo(10)])
    assert not store.note_silence(key, 9 * MINUTE, 60 * MINUTE)  # it has come since
    assert store.note_silence(key, 10 * MINUTE, 60 * MINUTE)
    assert not store.note_silence(key, 10 * MINUTE, 65 * MINUTE)
    take(store, key, [photo(90), photo(105)])
    events = store.unpublished(key.id)
    assert [entry.type.rpartition(".")[2] for entry in events] == ["silent", "back"]
    assert events[1].data["minutes"] == 80


def test_many_writers_of_one_view_lose_nothing(store: Store) -> None:
    from concurrent.futures import ThreadPoolExecutor

    key = new_key()
    day = [photo(15 * i, (3,) if 5 < i < 12 else ()) for i in range(20)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda audit: take(store, key, [audit]), day * 2))
    assert held(store, key) == fold(State(view=key.id), day, store.rules).episodes
    with writing(store.engine) as connection:
        last = func.max(outgoing_events.c.sequence)
        query = select(outgoing_events.c.episode, last).where(outgoing_events.c.view == key.id)
        assert connection.execute(query.group_by(outgoing_events.c.episode)).all()


def test_folded_lists_open_episodes_last() -> None:
    audits = [photo(0, (3, 7)), photo(15, (3, 7)), photo(30, (7,)), photo(45, (7,))]
    result = fold(State(view="v"), audits, Rules())
    assert isinstance(result, Folded)
    assert [e.closed for e in result.episodes.values()] == [30 * MINUTE, None]
