"""The events of the monitor: their data, and the CloudEvent round it. Pure."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import NotRequired, TypedDict

from cloudevents.core.v1.event import CloudEvent

from events.codec import Json, new_event
from events.types import DATA_SCHEMAS
from monitor.fold import FULL_SCALE, Box, Episode
from monitor.gap_events import WITHDRAWN, GapEvent
from monitor.intake import ViewKey
from monitor.register import store_of, view_name

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


def gap_data(key: ViewKey, episode: Episode, uri: str, gap_event: GapEvent) -> GapData:
    """Write the data of an event of an episode."""
    data: GapData = {
        "episode": episode.id,
        "sequence": gap_event.sequence,
        "state": gap_event.state,
        "view": view_data(key),
        "image": uri,
        "gap": {
            "row": episode.gap.row,
            "facings": episode.gap.facings,
            "xyxy": shares(episode.gap.box),
        },
        "opened_at": iso(episode.opened),
    }
    if gap_event.closed is not None and gap_event.state != WITHDRAWN:
        data["closed_at"] = iso(gap_event.closed)
        data["ended"] = gap_event.ended
        data["minutes"] = minutes(episode.opened, gap_event.closed)
    return data


def silence_data(key: ViewKey, since: int, back: int | None) -> SilenceData:
    """Write the data of the event of a view that no longer sends, or sends again."""
    data: SilenceData = {"view": view_data(key), "since": iso(since)}
    if back is not None:
        data["back_at"] = iso(back)
        data["minutes"] = minutes(since, back)
    return data


def silence_id(name: str, of: int) -> str:
    """Name a silence by view and beginning, or an event of it by its number."""
    return hashlib.sha256(f"{name}\x00silence\x00{of}".encode()).hexdigest()[:32]


def view_data(key: ViewKey) -> ViewData:
    """Describe a view."""
    return {
        "bucket": key.bucket,
        "folder": key.folder,
        "store": store_of(key.folder),
        "name": view_name(key.folder),
    }


def new_monitor_event(name: str, event_type: str, time: int, data: Json) -> CloudEvent:
    """Put data into an event of the monitor; equal data gives an equal event."""
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
    return [round(edge / FULL_SCALE, 4) for edge in box]
