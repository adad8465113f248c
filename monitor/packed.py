"""What a fold takes and where it stands as short JSON, equal for equal values. Pure."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode

from monitor.fold import Audit, Box, Gap, State, Track


def state_to_json(state: State) -> str:
    """Write a state as text, equal for equal states."""
    elsewhere = _audit_json(state.elsewhere) if state.elsewhere else None
    tracks = [
        [t.opened, t.photo, gap_json(t.gap), t.box, t.shown, t.missed, t.missed_since, t.open]
        for t in state.tracks
    ]
    products = b64encode(state.products).decode()
    facts = [state.view, state.at, products, tracks, elsewhere]
    return json.dumps(facts, separators=(",", ":"))


def state_from_json(text: str) -> State:
    """Read a state that `state_to_json` wrote."""
    view, at, products, tracks, elsewhere = json.loads(text)
    return State(
        view=view,
        at=(at[0], at[1]) if at else None,
        products=b64decode(products),
        tracks=tuple(
            Track(
                opened=opened,
                photo=photo,
                gap=read_gap(gap),
                box=read_box(box),
                shown=shown,
                missed=missed,
                missed_since=missed_since,
                open=is_open,
            )
            for opened, photo, gap, box, shown, missed, missed_since, is_open in tracks
        ),
        elsewhere=_read_audit(elsewhere) if elsewhere else None,
    )


def gap_json(gap: Gap) -> list[object]:
    """Write a gap."""
    return [gap.box, gap.row, gap.facings]


def read_gap(facts: list[object]) -> Gap:
    """Read a gap that `gap_json` wrote."""
    box, row, facings = facts
    assert isinstance(row, int)
    assert isinstance(facings, int | float)
    return Gap(box=read_box(box), row=row, facings=facings)


def read_box(edges: object) -> Box:
    """Read a box out of JSON."""
    assert isinstance(edges, list)
    left, top, right, bottom = edges
    return left, top, right, bottom


def _audit_json(audit: Audit) -> list[object]:
    return [
        audit.photo,
        audit.generation,
        audit.captured,
        audit.doubtful,
        b64encode(audit.products).decode(),
        [gap_json(gap) for gap in audit.gaps],
    ]


def _read_audit(facts: list[object]) -> Audit:
    photo, generation, captured, doubtful, products, gaps = facts
    assert isinstance(photo, str)
    assert isinstance(generation, int)
    assert isinstance(captured, int)
    assert isinstance(products, str)
    assert isinstance(gaps, list)
    return Audit(
        photo=photo,
        generation=generation,
        captured=captured,
        doubtful=bool(doubtful),
        products=b64decode(products),
        gaps=tuple(read_gap(gap) for gap in gaps),
    )
