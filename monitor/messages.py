"""The events of the monitor: their data, and the CloudEvent round it. Pure."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import NotRequired, TypedDict

from cloudevents.core.v1.event import CloudEvent

from events.codec import Json, new_event
from events.types import DATA_SCHEMAS
from monitor.fold import WHOLE, Box, Episode
from monitor.intake import Place
from monitor.register import store_of, view_name
from monitor.telling import WITHDRAWN, Telling

MINUTE = 60_000  # milliseconds


class ViewData(TypedDict):
    """Whose shelf it is."""

    bucket: str
    folder: str
    store: str
    name: str


class ShownGap(TypedDict):
    """The gap as the first photo shows it."""

    row: int
    facings: float
    xyxy: list[float]  # shares of the photo's width and height


class GapData(TypedDict):
    """Data of gap.opened, gap.closed and gap.corrected: all that is known of the gap by then."""

    episode: str
    sequence: int
    state: str
    view: ViewData
    image: str  # uri of the first photo that shows it
    gap: ShownGap
    opened_at: str
    closed_at: NotRequired[str]
    ended: NotRequired[str]
    minutes: NotRequired[float]


class SilenceData(TypedDict):
    """Data of view.silent and view.back."""

    view: ViewData
    since: str
    back_at: NotRequired[str]
    minutes: NotRequired[float]


def gap_data(place: Place, episode: Episode, uri: str, telling: Telling) -> GapData:
    """Compose what is told of an episode."""
    data: GapData = {
        "episode": episode.id,
        "sequence": telling.sequence,
        "state": telling.state,
        "view": view_data(place),
        "image": uri,
        "gap": {
            "row": episode.gap.row,
            "facings": episode.gap.facings,
            "xyxy": shares(episode.gap.box),
        },
        "opened_at": iso(episode.opened),
    }
    if telling.closed is not None and telling.state != WITHDRAWN:
        data["closed_at"] = iso(telling.closed)
        data["ended"] = telling.ended
        data["minutes"] = minutes(episode.opened, telling.closed)
    return data


def silence_data(place: Place, since: int, back: int | None) -> SilenceData:
    """Compose what is told of a view that no longer sends, or sends again."""
    data: SilenceData = {"view": view_data(place), "since": iso(since)}
    if back is not None:
        data["back_at"] = iso(back)
        data["minutes"] = minutes(since, back)
    return data


def silence_id(name: str, of: int) -> str:
    """Name a silence by view and beginning, or a telling of it by its number."""
    return hashlib.sha256(f"{name}\x00silence\x00{of}".encode()).hexdigest()[:32]


def view_data(place: Place) -> ViewData:
    """Describe a view."""
    return {
        "bucket": place.bucket,
        "folder": place.folder,
        "store": store_of(place.folder),
        "name": view_name(place.folder),
    }


def telling_event(name: str, event_type: str, time: int, data: Json) -> CloudEvent:
    """Wrap what is told in its event; equal tellings give equal events."""
    view = data["view"]
    assert isinstance(view, dict)
    return new_event(
        {
            "id": name,
            "source": f"urn:shelfwatch:monitor:{view['bucket']}",
            "type": event_type,
            "dataschema": DATA_SCHEMAS[event_type],
            "subject": view["folder"] or "-",
            "store": view["store"],
            "view": view["name"],
            "time": datetime.fromtimestamp(time / 1000, UTC),
        },
        data,
    )


def iso(time: int) -> str:
    """Write milliseconds since 1970 as a time in UTC."""
    return datetime.fromtimestamp(time / 1000, UTC).isoformat(timespec="seconds")


def minutes(start: int, end: int) -> float:
    """Count the minutes between two times in milliseconds."""
    return round((end - start) / MINUTE, 1)


def shares(box: Box) -> list[float]:
    """Write a box as shares of the photo's sides, four digits."""
    return [round(edge / WHOLE, 4) for edge in box]
