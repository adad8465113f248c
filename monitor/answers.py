"""The board's pages as JSON, CSV or HTML of the same content."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields

from flask import Response, jsonify, request

from function.errors import InvalidParameter
from function.spreadsheet import csv_text
from monitor.messages import iso, shares
from monitor.queries import (
    AuditLine,
    EpisodeLine,
    Numbers,
    Place,
    StoreLine,
    StorePage,
    ViewLine,
    ViewPage,
)

FORMATS = {"html": "text/html", "json": "application/json", "csv": "text/csv"}
MAX_DAYS = 366
NUMBER = re.compile("[0-9]{1,15}")


def wanted_format() -> str:
    """Choose html, json or csv by `format`, else by Accept. Raises `InvalidParameter`."""
    given = request.args.get("format")
    if given is None:
        best = request.accept_mimetypes.best_match(list(FORMATS.values()), "application/json")
        return next(name for name, kind in FORMATS.items() if kind == best)
    if given not in FORMATS:
        msg = f"`format` must be one of {', '.join(FORMATS)}, got {given!r}"
        raise InvalidParameter(msg)
    return given


def is_for_people() -> bool:
    """Tell whether a refusal is for a browser's reader, whatever odd `format` was refused."""
    kinds = [FORMATS["json"], FORMATS["html"]]
    return (
        request.args.get("format", "html") != "json"
        and request.accept_mimetypes.best_match(kinds) == FORMATS["html"]
    )


def read_number(name: str, default: int, low: int, high: int) -> int:
    """Read a whole number of the query. Raises `InvalidParameter`."""
    given = request.args.get(name)
    if given is None:
        return default
    if not (given.isascii() and given.isdigit() and len(given) < 20 and low <= int(given) <= high):
        msg = f"`{name}` must be a whole number from {low} to {high}, got {given!r}"
        raise InvalidParameter(msg)
    return int(given)


def read_place(name: str, numbers: int = 1) -> Place | None:
    """Read a cursor: whole numbers and a name, with dots between. Raises `InvalidParameter`."""
    given = request.args.get(name)
    if given is None:
        return None
    *times, last = given.split(".", numbers)
    if len(times) != numbers or not all(NUMBER.fullmatch(time) for time in times) or "\0" in last:
        msg = f"`{name}` must be as a page before gave it, got {given!r}"
        raise InvalidParameter(msg)
    return *map(int, times), last


def cursor(place: Place | None) -> str | None:
    """Write what `read_place` reads."""
    return None if place is None else ".".join(map(str, place))


def answer_json(body: object) -> Response:
    """Answer with JSON."""
    return jsonify(body)


def answer_csv(
    name: str, rows: Sequence[Mapping[str, object]], columns: Sequence[str], next_page: str = ""
) -> Response:
    """Answer with a table, its head first; a cell is never a formula.

    A browser saves it as `name`: by the address alone "cam.2" and "cam.3" are both "cam.csv".
    A table has no place for a cursor: `next_page` is a header (RFC 8288). What a browser saves
    begins with the mark without which spreadsheets take UTF-8 for another coding; to a program it
    would be a part of the first column's name.
    """
    lines = [[row[name] for name in columns] for row in rows]
    asked_for = request.accept_mimetypes.best_match([FORMATS["csv"], FORMATS["html"]])
    mark = "\ufeff" if asked_for == FORMATS["html"] else ""
    answer = Response(mark + csv_text([columns, *lines]), content_type="text/csv; charset=utf-8")
    file = f"{name.replace('/', '-')}.csv"
    answer.headers.set("Content-Disposition", "attachment", filename=file)
    if next_page:
        answer.headers["Link"] = f'<{next_page}>; rel="next"'
    return answer


def store_json(line: StoreLine) -> dict[str, object]:
    """Describe a store in the list of all."""
    return {
        "store": line.key,
        "name": line.name,
        "views": line.views,
        "open_gaps": line.open_gaps,
        "silent_views": line.silent,
        "seen": _time(line.seen),
    }


def view_json(line: ViewLine) -> dict[str, object]:
    """Describe a view in the list of its store."""
    return {
        "view": line.name,
        "bucket": line.bucket,
        "folder": line.folder,
        "registered": line.registered,
        "cadence_minutes": line.cadence,
        "seen": _time(line.seen),
        "silent_since": _time(line.silent_since),
        "count": line.count,
        "empty_facings": line.empty,
        "fill_rate": line.fill_rate,
        **_numbers(line.numbers),
    }


def episode_json(line: EpisodeLine) -> dict[str, object]:
    """Describe a gap."""
    return {
        "episode": line.id,
        "view": line.view,
        "row": line.row,
        "facings": line.facings,
        "opened_at": iso(line.opened),
        "closed_at": _time(line.closed),
        "ended": line.ended or None,
        "muted": line.muted,
        "image": line.uri,
        "xyxy": shares(line.box),
    }


def episode_cells(line: EpisodeLine) -> dict[str, object]:
    """Describe a gap for a table, where people count rows from 1."""
    return {**episode_json(line), "row": line.row + 1}


def audit_json(line: AuditLine) -> dict[str, object]:
    """Describe a photo."""
    return {
        "image": line.uri,
        "captured_at": iso(line.captured),
        "uploaded_at": iso(line.uploaded),
        "generation": line.generation,
        "count": line.count,
        "empty_facings": line.empty,
        "fill_rate": line.fill_rate,
        "doubtful": line.doubtful,
        "warnings": line.warnings.split(",") if line.warnings else [],
    }


def store_page_json(page: StorePage) -> dict[str, object]:
    """Describe a store's page; the cursor is that of the next page of gaps."""
    return {
        "store": page.store.key,
        "name": page.store.name,
        **_numbers(page.numbers),
        "views": [view_json(line) for line in page.views],
        "gaps": [episode_json(line) for line in page.gaps],
        "gaps_after": cursor(page.gaps_after),
    }


def view_page_json(page: ViewPage) -> dict[str, object]:
    """Describe a view's page; the cursors are those of the next page."""
    return {
        **view_json(page.line),
        "episodes": [episode_json(line) for line in page.episodes],
        "episodes_before": cursor(page.episodes_before),
        "audits": [audit_json(line) for line in page.audits],
        "audits_before": cursor(page.audits_before),
    }


def _numbers(numbers: Numbers) -> dict[str, object]:
    return {field.name: getattr(numbers, field.name) for field in fields(numbers)}


def _time(time: int | None) -> str | None:
    return None if time is None else iso(time)
