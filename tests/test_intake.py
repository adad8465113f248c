"""What an event must say before it changes a view: nothing that no database or board could show."""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from test_watcher import MORNING, audit_data, event, ms

from events.codec import InvalidEvent, from_json
from events.types import IMAGE_REJECTED
from monitor.intake import IncomingAudit, ViewKey, photo_of, read_audit, reason_of, view_key
from monitor.register import View

GAP = {"row": 0, "xyxy": [100.0, 100.0, 180.0, 300.0], "facings": 1.0}


def read(body: bytes) -> tuple[ViewKey, IncomingAudit]:
    parsed = from_json(body)
    data = json.loads(body)["data"]
    return view_key(parsed), read_audit(parsed, data, View(folder="store-17/cam-2"))


def changed(**attributes: object) -> bytes:
    """An event with attributes that its library would not write."""
    return json.dumps(json.loads(event(0, audit_data([]))) | attributes).encode()


def test_an_empty_shelf_is_an_audit() -> None:
    key, incoming = read(event(0, audit_data([]) | {"detections": [], "fill_rate": None}))
    assert key == ViewKey("shelves", "store-17/cam-2")
    assert (incoming.count, incoming.fill_rate, incoming.audit.gaps) == (0, None, ())


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (event(0, audit_data([]), auditgeneration="1001"), "`auditgeneration` must be"),
        (event(0, audit_data([]), auditgeneration="-1"), "`auditgeneration` must be"),
        (event(0, audit_data([]), source="urn:shelfwatch:s3:"), "not about an object of S3"),
        (changed(subject="\ud800/1.jpg"), "`subject` must be Unicode text"),
        (changed(photo="a\0"), "`photo` must be Unicode text without NUL"),
        (
            event(0, audit_data([]), time=datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))),
            "`time` must be a time from 1970 to 9999",
        ),
        (event(0, audit_data([], captured_at="0001-01-01T00:00:00+14:00")), "captured_at` must"),
        (event(0, audit_data([], uri="s3://shelves/\0.jpg")), "`image.uri` must be"),
        (event(0, audit_data([], width=10**20)), "`image.width` must be a number of pixels from 1"),
        (event(0, audit_data([], height=True)), "`image.height` must be a number of pixels from 1"),
        (event(0, audit_data([]) | {"fill_rate": math.inf}), "`fill_rate` must be a share"),
        (event(0, audit_data([]) | {"fill_rate": 1.1}), "`fill_rate` must be a share"),
        (event(0, audit_data([]) | {"warnings": [{"code": "\0"}]}), "`warnings` must be"),
        (event(0, audit_data([]) | {"gaps": [GAP | {"row": 1e300}]}), "`row` of a gap must be"),
        (event(0, audit_data([]) | {"gaps": [GAP | {"facings": -1}]}), "`facings` of a gap must"),
    ],
)
def test_what_no_database_or_board_can_hold_is_named(body: bytes, words: str) -> None:
    with pytest.raises(InvalidEvent, match=words):
        read(body)


@pytest.mark.parametrize("minutes", [-48 * 60, 0, 1, 10])
def test_a_photo_is_taken_before_its_upload_give_or_take_a_clock(minutes: int) -> None:
    taken = MORNING + timedelta(minutes=minutes)
    body = event(0, audit_data([], captured_at=taken.isoformat()))
    assert read(body)[1].audit.captured == ms(minutes)


def test_a_camera_of_the_future_is_refused() -> None:
    """All photos after it would come too late, and be dropped."""
    late: dict[str, Any] = audit_data([], captured_at="2036-11-20T09:00:00+00:00")
    with pytest.raises(InvalidEvent, match="must not be after the upload"):
        read(event(0, late))


def test_the_reason_of_a_rejected_photo_is_named_where_there_is_one() -> None:
    cases: list[tuple[dict[str, object], str]] = [
        ({}, ""),
        ({"reason": 1}, ""),
        ({"reason": {"type": "urn:x"}}, "urn:x"),
    ]
    for data, reason in cases:
        rejected = from_json(event(0, data, kind=IMAGE_REJECTED))
        assert (reason_of(rejected), photo_of(rejected)) == (reason, "0" * 32)
