"""The episodes of a view: gaps that opened, stood and closed. Pure; nothing here does IO.

Episodes are a function of the view's audits in the order of capture. `fold` gives the same episodes
with the same ids, whatever the order in which audits come, and however often. Boxes are (left, top,
right, bottom) in 65535ths of the photo's width and height.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from function.boxes import Floats, box_area, box_iou, match_one_to_one, shared_area

FULL_SCALE = 65535  # the photo's width and height in the unit of boxes
BOX_BYTES = 8
# As many as an audit can hold, and a state: what was seen longest ago is forgotten first.
MAX_BOXES = 3000
# Pairs of products that overlap by a fifth say how far the camera was nudged, by their median.
NUDGE_IOU = 0.2
# Of the products that then cover half of their pair: fewer than three in ten are another picture.
IN_PLACE_IOU = 0.5
MOVED_SHARE = 0.3
# Photos with fewer products say nothing of where the camera looks.
MIN_PRODUCTS = 5
# A gap is the same one where half of the smaller box is shared: it grows as its neighbours sell.
SAME_GAP = 0.5
# Products that take a third of a gap's place stand in it.
FILLED = 1 / 3
# Of photos of a shelf that nobody touched, one in ten misses a gap that was there before, and seven
# in eight of these show no product in its place. Such a photo says a third of one that does.
FILLED_SAYS, UNSEEN_SAYS = 3, 1
# Where neither a product was last seen nor a gap is open, the model was not sure of one of the
# photos: so many times as many must show the gap (docs/stock.md has what both rules are worth).
UNSURE_TIMES = 2

Box = tuple[int, int, int, int]
Position = tuple[int, str]  # (captured, photo): the order of a view's audits


@dataclass(frozen=True)
class Rules:
    """How sure a change must be; `photos` in a row, the first and the last `seconds` apart."""

    photos: int = 2
    seconds: int = 60


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A gap of one audit."""

    box: Box
    row: int
    facings: float


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What the fold needs of one audit of one photo."""

    photo: str  # names the photo, the same in each of its audits
    generation: int  # of several audits of one photo the highest counts
    captured: int  # milliseconds since 1970
    doubtful: bool  # it changes nothing
    products: bytes  # n boxes of four little-endian uint16
    gaps: tuple[Gap, ...]

    @property
    def position(self) -> Position:
        """Where it stands among the audits of its view."""
        return self.captured, self.photo


@dataclass(frozen=True, kw_only=True)
class Episode:
    """A gap from its first photo on."""

    id: str  # 32 hex digits
    opened: int  # milliseconds since 1970
    photo: str  # the first that shows it
    gap: Gap  # as that photo shows it
    closed: int | None = None  # captured: the first photo that does not show it
    ended: str = ""  # "filled", or "moved" with the camera
    settled: Position | None = None  # the audit that decided so

    def stood_beside(self, other: Episode) -> bool:
        """Tell whether both stood at one time."""
        pairs = ((self, other), (other, self))
        return all(one.closed is None or two.opened < one.closed for one, two in pairs)


@dataclass(frozen=True, kw_only=True)
class Track:
    """A gap that is being watched; it is an episode once enough photos have shown it."""

    opened: int
    photo: str
    gap: Gap
    box: Box  # where the last photo shows it, in the frame of the last photo
    shown: int = 1  # photos in a row, less those that it needs more than others
    missed: int = 0  # what photos in a row say that do not show it
    missed_since: int = 0  # milliseconds since 1970
    open: bool = False


@dataclass(frozen=True, kw_only=True)
class State:
    """All that the next step needs of a view's past."""

    view: str
    at: Position | None = None  # the last audit
    # Of the last photo that says where the camera looks; and earlier ones, in whose place it and
    # those since show neither products nor an open gap.
    products: bytes = b""
    tracks: tuple[Track, ...] = ()
    elsewhere: Audit | None = None  # the first photo that shows another picture


@dataclass(frozen=True)
class Folded:
    """Where a fold ended, and the episodes that closed on its way."""

    state: State
    closed: tuple[Episode, ...]

    @property
    def episodes(self) -> dict[str, Episode]:
        """All episodes by their id, the open ones last."""
        all_of_them = [*self.closed, *open_episodes(self.state)]
        return {episode.id: episode for episode in all_of_them}


def chosen(audits: Iterable[Audit]) -> list[Audit]:
    """Choose the audit that counts of each photo, and order them by capture."""
    best: dict[str, Audit] = {}
    for audit in audits:
        known = best.get(audit.photo)
        if known is None or rank(audit) > rank(known):
            best[audit.photo] = audit
    return sorted(best.values(), key=lambda audit: audit.position)


def rank(audit: Audit) -> tuple[object, ...]:
    """Rank the audits of one photo: by generation, then by what they say, never by arrival."""
    gaps = tuple((gap.box, gap.row, gap.facings) for gap in audit.gaps)
    return audit.generation, audit.captured, audit.doubtful, audit.products, gaps


def fold(state: State, audits: Iterable[Audit], rules: Rules) -> Folded:
    """Step through audits, of each photo one, in the order of capture, all after `state`."""
    closed: list[Episode] = []
    for audit in audits:
        state, ended = step(state, audit, rules)
        closed += ended
    return Folded(state, tuple(closed))


def step(state: State, audit: Audit, rules: Rules) -> tuple[State, list[Episode]]:
    """Take in one audit; return the new state and the episodes that it closed."""
    at = replace(state, at=audit.position)
    if audit.doubtful:
        return at, []
    now = boxes(audit.products)
    before = boxes(state.products)
    judged = min(len(now), len(before)) >= MIN_PRODUCTS
    shift, share = nudge(before, now) if judged else (np.zeros(2, np.float32), 1.0)
    if share < MOVED_SHARE:
        first = state.elsewhere
        if first is None or audit.captured - first.captured < rules.seconds * 1000:
            return replace(at, elsewhere=first or audit), []
        ended = [
            _episode(state.view, track, first.captured, "moved", audit.position)
            for track in state.tracks
            if track.open
        ]
        afresh, _ = step(State(view=state.view), first, rules)
        begun, more = step(afresh, audit, rules)
        return begun, ended + more
    before += np.tile(shift, 2)
    tracks, ended = _watch(state, audit, shift, before, now, rules)
    kept = state.products
    if len(now) >= MIN_PRODUCTS:
        taken = np.concatenate([now, _edges(track.box for track in tracks if track.open)])
        # A photo may miss what was sold, or a person hide it: that it stood there is known still.
        hidden = before[~_taken(before, taken)].astype(np.float64)
        kept = (audit.products + pack(hidden / FULL_SCALE))[: MAX_BOXES * BOX_BYTES]
    return replace(at, products=kept, tracks=tracks, elsewhere=None), ended


def _watch(
    state: State, audit: Audit, shift: Floats, before: Floats, now: Floats, rules: Rules
) -> tuple[tuple[Track, ...], list[Episode]]:
    """Match the gaps of an audit with those that are being watched.

    Takes the products of before, in the frame of the audit, and those of now.
    """
    moved = [_moved(track, shift) for track in state.tracks]
    seen, covered = match([track.box for track in moved], [gap.box for gap in audit.gaps])
    filled = _taken(_edges(track.box for track in moved), now)
    # A gap that was refilled in its middle is two, and the second is no doubt either.
    stood = np.concatenate([before, _edges(track.box for track in moved if track.open)])
    known = _taken(_edges(gap.box for gap in audit.gaps), stood)
    tracks: list[Track] = []
    closed: list[Episode] = []
    for index, track in enumerate(moved):
        if index in seen or (track.open and index in covered):
            box = audit.gaps[seen[index]].box if index in seen else track.box
            tracks.append(_shown(track, box, audit, rules))
        elif track.open:
            missed = _missed(track, audit, bool(filled[index]))
            if missed.missed < FILLED_SAYS * rules.photos or _too_soon(
                missed.missed_since, audit, rules
            ):
                tracks.append(missed)
            else:
                closed.append(
                    _episode(state.view, missed, missed.missed_since, "filled", audit.position)
                )
    for index, gap in enumerate(audit.gaps):
        if index not in seen.values():
            more = 0 if known[index] or not len(before) else rules.photos * (UNSURE_TIMES - 1)
            track = Track(
                opened=audit.captured, photo=audit.photo, gap=gap, box=gap.box, shown=-more
            )
            tracks.append(_shown(track, gap.box, audit, rules))
    return tuple(tracks), closed


def _shown(track: Track, box: Box, audit: Audit, rules: Rules) -> Track:
    shown = track.shown + 1
    sure = shown >= rules.photos and not _too_soon(track.opened, audit, rules)
    return replace(track, box=box, shown=shown, missed=0, missed_since=0, open=track.open or sure)


def _missed(track: Track, audit: Audit, filled: bool) -> Track:
    # Photos before that said too little by themselves; this one shows what fills it.
    begins = not track.missed or (filled and track.missed < FILLED_SAYS)
    return replace(
        track,
        missed=track.missed + (FILLED_SAYS if filled else UNSEEN_SAYS),
        missed_since=audit.captured if begins else track.missed_since,
    )


def _taken(places: Floats, by: Floats) -> npt.NDArray[np.bool_]:
    """Tell which places (n, 4) are taken, by boxes (m, 4)."""
    shared = shared_area(places[:, None], by[None]).sum(axis=1)
    return np.asarray(shared >= FILLED * box_area(places))


def _edges(of: Iterable[Box]) -> Floats:
    """Give boxes as an array (n, 4)."""
    return np.array(list(of), np.float32).reshape(-1, 4)


def _too_soon(since: int, audit: Audit, rules: Rules) -> bool:
    return audit.captured - since < rules.seconds * 1000


def _moved(track: Track, shift: Floats) -> Track:
    if not shift.any():
        return track
    x, y = (round(step) for step in shift.tolist())
    left, top, right, bottom = track.box
    return replace(track, box=(left + x, top + y, right + x, bottom + y))


def match(before: list[Box], now: list[Box]) -> tuple[dict[int, int], set[int]]:
    """Match earlier gaps with present ones, and name earlier ones that those of now cover by half.

    Two gaps that have grown into one are both still there.
    """
    if not before or not now:
        return {}, set()
    old = np.array(before, np.float32)[:, None]
    new = np.array(now, np.float32)[None]
    shared, old_area = shared_area(old, new), box_area(old)
    same = shared >= SAME_GAP * np.minimum(old_area, box_area(new))
    score = np.where(same & (shared > 0), box_iou(old, new), 0).astype(np.float32)
    covered = np.flatnonzero((shared >= SAME_GAP * old_area).any(axis=1))
    return dict(match_one_to_one(score, np.nextafter(np.float32(0), np.float32(1)))), set(
        covered.tolist()
    )


def nudge(before: Floats, now: Floats) -> tuple[Floats, float]:
    """Measure how far the camera was nudged, (2,), and the share of products still in place.

    Takes the products' boxes of two photos, (n, 4) and (m, 4), none empty.
    """
    iou = box_iou(before[:, None], now[None])
    there = iou.argmax(axis=1)
    here = np.flatnonzero(iou.argmax(axis=0)[there] == np.arange(len(before)))
    here = here[iou[here, there[here]] >= NUDGE_IOU]
    if not len(here):
        return np.zeros(2, np.float32), 0.0
    old, new = before[here], now[there[here]]
    away = new - old
    shift = np.median((away[:, :2] + away[:, 2:]) / 2, axis=0).astype(np.float32)
    in_place = np.count_nonzero(box_iou(old + np.tile(shift, 2), new) >= IN_PLACE_IOU)
    return shift, in_place / min(len(before), len(now))


def open_episodes(state: State) -> list[Episode]:
    """List the episodes that are open where the fold stands, oldest first."""
    tracks = sorted(
        (track for track in state.tracks if track.open),
        key=lambda track: (track.opened, track.photo, track.gap.box),
    )
    return [_episode(state.view, track) for track in tracks]


def _episode(
    view: str,
    track: Track,
    closed: int | None = None,
    ended: str = "",
    settled: Position | None = None,
) -> Episode:
    """Name an episode by what opened it, so that no arrival can change its name."""
    gap = track.gap
    what = [view, track.photo, track.opened, gap.box, gap.row, gap.facings]
    name = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]
    return Episode(
        id=name,
        opened=track.opened,
        photo=track.photo,
        gap=gap,
        closed=closed,
        ended=ended,
        settled=settled,
    )


def boxes(products: bytes) -> Floats:
    """Read packed boxes, (n, 4)."""
    return np.frombuffer(products, "<u2").reshape(-1, 4).astype(np.float32)


def pack(shares: npt.NDArray[np.float64]) -> bytes:
    """Pack boxes (n, 4), shares of the photo's sides, into uint16."""
    return np.round(np.clip(shares, 0, 1) * FULL_SCALE).astype("<u2").tobytes()
