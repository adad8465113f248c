"""Rows of the tables to values of the fold, and back. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from monitor.fold import Audit, Episode, Gap
from monitor.gap_events import GapEvent
from monitor.intake import IncomingAudit
from monitor.packed import gap_json, read_box, read_gap
from monitor.register import store_of

if TYPE_CHECKING:
    from sqlalchemy import Row

    Record = Row[Any]  # columns are known to the tables, not to mypy


def audit_of(row: Record) -> Audit:
    """Read an audit."""
    return Audit(
        photo=row.photo,
        generation=row.generation,
        captured=row.captured,
        doubtful=row.doubtful,
        products=row.products,
        gaps=tuple(map(read_gap, json.loads(row.gaps))),
    )


def audit_record(view: str, incoming: IncomingAudit) -> dict[str, object]:
    """Write an audit."""
    audit = incoming.audit
    return {
        "view": view,
        "captured": audit.captured,
        "photo": audit.photo,
        "generation": audit.generation,
        "uri": incoming.uri,
        "uploaded": incoming.uploaded,
        "products": audit.products,
        "gaps": json.dumps([gap_json(gap) for gap in audit.gaps]),
        "count": incoming.count,
        "empty": incoming.empty,
        "fill_rate": incoming.fill_rate,
        "doubtful": audit.doubtful,
        "warnings": ",".join(incoming.warnings),
    }


def episode_of(row: Record) -> Episode:
    """Read an episode."""
    return Episode(
        id=row.id,
        opened=row.opened,
        photo=row.photo,
        gap=Gap(box=read_box(json.loads(row.box)), row=row.row, facings=row.facings),
        closed=row.closed,
        ended=row.ended,
        settled=None if row.settled is None else (row.settled, row.settled_photo),
    )


def episode_record(view: str, folder: str, episode: Episode, uri: str) -> dict[str, object]:
    """Write an episode."""
    settled, settled_photo = episode.settled or (None, "")
    return {
        "id": episode.id,
        "view": view,
        "store": store_of(folder),
        "opened": episode.opened,
        "photo": episode.photo,
        "uri": uri,
        "box": json.dumps(episode.gap.box),
        "row": episode.gap.row,
        "facings": episode.gap.facings,
        "closed": episode.closed,
        "ended": episode.ended,
        "settled": settled,
        "settled_photo": settled_photo,
    }


def gap_event_of(row: Record) -> GapEvent:
    """Read an event of an episode."""
    return GapEvent(
        id=row.id,
        episode=row.episode,
        sequence=row.sequence,
        type=row.type,
        state=row.state,
        closed=row.closed,
        ended=row.ended,
    )
