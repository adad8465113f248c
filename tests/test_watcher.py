"""The monitor over HTTP and on the topic: what comes in, what is told, what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import Aws
from flask.testing import FlaskClient

import monitor.watcher
from events.codec import STRUCTURED, new_event, to_json
from events.outbox import Outbox, Stored
from events.types import DATA_SCHEMAS, IMAGE_REJECTED, SHELF_AUDITED
from function.result import WarningJson
from function.schemas import schema_of
from local.subscriber import receive_events
from monitor.app import create_app
from monitor.config import Config
from monitor.database import migrate, open_database
from monitor.intake import DOUBTFUL
from monitor.metrics import Metrics
from monitor.queries import read_store, read_view
from monitor.register import read_register
from monitor.store import OutgoingEvent, Store
from monitor.watcher import Told, Watcher

TOKEN = {"Authorization": "Bearer s3cret"}
MORNING = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
REGISTER = read_register(
    """
    [stores.store-17]
    name = "Harbour Street"
    time_zone = "Europe/Berlin"
    open = "08:00-20:00"
    [stores.store-17.views.cam-2]
    cadence_minutes = 15
    masks = [[0.9, 0, 1, 1]]
    [stores.store-17.views.cam-9]
    """
)

REJECTED: dict[str, object] = {
    "image": {"uri": "s3://shelves/x.jpg"},
    "reason": {"type": "urn:shelfwatch:problem:image-corrupt", "title": "t", "status": 422},
}


def audit_data(empty: list[int], masked: bool = False, **image: object) -> dict[str, Any]:
    """A shelf of ten facings, some of them empty."""
    boxes = [[100.0 * i, 100.0, 100.0 * i + 80, 300.0] for i in range(10)]
    gaps = [{"row": 0, "xyxy": boxes[i], "facings": 1.0} for i in empty]
    if masked:
        gaps.append({"row": 0, "xyxy": [930.0, 100.0, 990.0, 300.0], "facings": 1.0})
    return {
        "image": {"uri": "s3://shelves/x.jpg", "width": 1000, "height": 400, **image},
        "detections": [{"xyxy": boxes[i]} for i in range(10) if i not in empty],
        "gaps": gaps,
        "count": 10 - len(empty),
        "fill_rate": 1 - len(empty) / 10,
    }


def event(
    minute: float,
    data: dict[str, object] | None,
    *,
    kind: str = SHELF_AUDITED,
    key: str = "store-17/cam-2/0815.jpg",
    **extensions: object,
) -> bytes:
    attributes: dict[str, Any] = {
        "id": f"{round(minute * 60):032x}",
        "source": "urn:shelfwatch:s3:shelves",
        "type": kind,
        "dataschema": DATA_SCHEMAS.get(kind, "urn:x"),
        "subject": key,
        "time": MORNING + timedelta(minutes=minute),
        **extensions,
    }
    return to_json(new_event(attributes, data))


@pytest.fixture
def watcher(tmp_path: Path, aws: Aws) -> Iterator[Watcher]:
    engine = open_database(f"sqlite:///{tmp_path}/monitor.sqlite")
    migrate(engine)
    yield Watcher(
        store=Store(engine),
        register=REGISTER,
        metrics=Metrics(),
        s3=aws.s3,
        results_bucket=aws.resources.results_bucket,
        sns=aws.sns,
        topic_arn=aws.resources.topic_arn,
    )
    engine.dispose()


@pytest.fixture
def client(watcher: Watcher) -> FlaskClient:
    config = Config(register=REGISTER, events_token="s3cret")
    return create_app(config, watcher).test_client()


def post(client: FlaskClient, body: bytes, headers: dict[str, str] = TOKEN) -> tuple[int, str]:
    answer = client.post("/", data=body, content_type=STRUCTURED, headers=headers)
    return answer.status_code, (answer.get_json(silent=True) or {}).get("type", "")


def received(aws: Aws) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while more := list(receive_events(aws.sqs, aws.s3, aws.resources.subscriber_url, 0)):
        found += more
    return found


def test_a_gap_is_told_when_it_opens_and_when_it_is_filled(client: FlaskClient, aws: Aws) -> None:
    for minute, empty in ((0, [3]), (15, [3]), (30, []), (45, [])):
        assert post(client, event(minute, audit_data(empty))) == (204, "")
    assert post(client, event(45, audit_data([]))) == (204, "")  # a duplicate
    opened, closed = received(aws)
    assert (opened["type"], closed["type"]) == (
        "io.shelfwatch.gap.opened",
        "io.shelfwatch.gap.closed",
    )
    assert (opened["store"], opened["view"]) == ("store-17", "cam-2")
    assert opened["data"]["gap"]["row"] == 0
    assert closed["data"]["minutes"] == 30
    assert closed["data"]["episode"] == opened["data"]["episode"]


def test_photos_of_one_view_at_once_tell_a_gap_once(client: FlaskClient, aws: Aws) -> None:
    """A day's photos that come at once: who folds the next must not repeat what is on its way."""
    bodies = [event(15 * i, audit_data([3] if 2 <= i < 20 else [])) for i in range(32)]
    bodies[5::6] = [event(15 * i, REJECTED, kind=IMAGE_REJECTED) for i in range(5, 32, 6)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: post(client, body), bodies))
    assert answers == [(204, "")] * 32
    told = [told["id"] for told in received(aws)]
    assert sorted(told) == sorted(set(told)) != []


@pytest.mark.parametrize("done", [True, False])
def test_an_event_that_another_tells_is_waited_for(done: bool) -> None:
    told, event = Told(), OutgoingEvent(id="1", type="t", time=0, data={})
    assert told.begin([]) == ([], [])
    assert told.begin([event]) == ([event], [])
    with ThreadPoolExecutor() as pool:
        next_one = pool.submit(told.begin, [event])
        assert not next_one.done()
        told.end([event], ["1"] if done else [])
        assert next_one.result() == (([], ["1"]) if done else ([event], []))


def test_an_event_that_another_does_not_get_told_is_told_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(monitor.watcher, "LEFT_SECONDS", 0.01)
    told, event = Told(), OutgoingEvent(id="1", type="t", time=0, data={})
    assert told.begin([event]) == told.begin([event]) == ([event], [])


def test_what_a_mask_hides_and_what_a_doubtful_photo_shows_is_no_gap(
    client: FlaskClient, aws: Aws
) -> None:
    blurred = {"warnings": [{"code": "blurred", "detail": "…"}]}
    for minute in (0, 15):
        post(client, event(minute, audit_data([], masked=True)))
    for minute in (30, 45):
        post(client, event(minute, audit_data([3]) | blurred))
    for minute in (60, 75):
        wide = {"warnings": [{"code": "wide", "detail": "…"}]}
        post(client, event(minute, audit_data([5]) | wide))
    assert [e["data"]["opened_at"] for e in received(aws)] == ["2026-11-20T10:00:00+00:00"]


def test_the_time_of_capture_counts_and_not_that_of_the_upload(
    client: FlaskClient, watcher: Watcher, aws: Aws
) -> None:
    # A camera that sends its morning at noon, the last photo first.
    for minute, empty in ((45, []), (0, [3]), (30, []), (15, [3])):
        taken = (MORNING + timedelta(minutes=minute)).isoformat()
        body = event(200 + minute, audit_data(empty, captured_at=taken))
        assert post(client, body) == (204, "")
    last = received(aws)[-1]
    assert last["data"]["state"] == "closed"
    assert last["data"]["closed_at"] == "2026-11-20T09:30:00+00:00"


def test_large_data_are_followed_into_the_results_bucket_alone(
    client: FlaskClient, watcher: Watcher, aws: Aws
) -> None:
    outbox = Outbox(aws.s3, aws.resources.results_bucket)
    outbox.put("a", Stored(audit_data([3])))
    assert post(client, event(0, None, dataref=outbox.uri("a"))) == (204, "")
    page = read_view(watcher.store.engine, REGISTER, "store-17", "cam-2", ms(60), 1)
    assert page is not None
    assert [audit.count for audit in page.audits] == [9]
    forbidden = (403, "urn:shelfwatch:problem:bucket-forbidden")
    for uri in (
        f"s3://{aws.resources.bucket}/results/a.json",
        f"s3://{aws.resources.results_bucket}/published/a",
        "https://example.com/results/a.json",
        "s3://[",
    ):
        assert post(client, event(1, None, dataref=uri)) == forbidden
    assert post(client, event(1, None, dataref=outbox.uri("gone")))[0] == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        event(0, audit_data([]), kind="io.shelfwatch.gap.opened"),
        event(0, audit_data([]), dataschema="urn:shelfwatch:schema:shelf.audited:2"),
        event(0, audit_data([]), source="urn:elsewhere"),
        event(0, audit_data([], width=0)),
        event(0, audit_data([], captured_at="yesterday")),
        event(0, audit_data([], captured_at="2026-11-20T09:00:00")),
        event(0, audit_data([]) | {"detections": [{}]}),
        event(0, audit_data([]) | {"detections": [{"xyxy": [1, 2, 3]}]}),
        event(0, audit_data([]) | {"detections": [{"xyxy": [1, 2, 3, "x"]}]}),
        event(0, audit_data([]) | {"detections": [{"xyxy": [1, 2, 3, 4, 5, 6, 7, 8]}]}),
        event(0, audit_data([]) | {"gaps": {}}),
        event(0, audit_data([]) | {"gaps": [{"row": 0, "xyxy": [1, 2, 3, 4]}]}),
        event(0, audit_data([]) | {"gaps": [{}] * 3001}),
        event(0, audit_data([]), auditgeneration="x"),
    ],
)
def test_what_is_no_audit_is_refused_and_changes_nothing(
    client: FlaskClient, watcher: Watcher, body: bytes
) -> None:
    assert post(client, body) == (400, "urn:shelfwatch:problem:invalid-event")
    page = read_store(watcher.store.engine, REGISTER, "store-17", ms(60), 1)
    assert page is not None
    assert page.numbers.photos == 0


def test_events_want_the_token(client: FlaskClient) -> None:
    body = event(0, audit_data([]))
    assert post(client, body, {})[0] == 401
    assert post(client, body, {"Authorization": "Bearer wrong"})[0] == 401


def test_a_rejected_photo_is_a_sign_of_life(client: FlaskClient, watcher: Watcher) -> None:
    assert post(client, event(0, REJECTED, kind=IMAGE_REJECTED)) == (204, "")
    page = read_store(watcher.store.engine, REGISTER, "store-17", ms(60), 1)
    assert page is not None
    assert (page.numbers.rejected, page.views[0].seen) == (1, ms(0))


def test_a_database_that_is_away_is_a_503_and_the_queue_holds(
    client: FlaskClient, watcher: Watcher, tmp_path: Path
) -> None:
    watcher.store.engine.dispose()
    for path in tmp_path.glob("monitor.sqlite*"):
        path.unlink()
    for answer in (
        client.post("/", data=event(0, audit_data([])), content_type=STRUCTURED, headers=TOKEN),
        client.get("/health/ready"),
        client.get("/stores"),
    ):
        assert (answer.status_code, answer.get_json()["type"]) == (
            503,
            "urn:shelfwatch:problem:store-away",
        )
        assert answer.headers["Retry-After"]
    assert client.get("/health/live").status_code == 200
    watcher.metrics.database_up.set(1)
    assert "shelfwatch_monitor_database_up 0.0" in client.get("/metrics").get_data(as_text=True)


def test_what_was_not_told_is_told_by_the_next_delivery(
    client: FlaskClient, watcher: Watcher, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    post(client, event(0, audit_data([3])))
    aws.sns.delete_topic(TopicArn=aws.resources.topic_arn)
    assert post(client, event(15, audit_data([3]))) == (
        502,
        "urn:shelfwatch:problem:dependency-failed",
    )
    topic = aws.sns.create_topic(Name=aws.resources.topic_arn.rpartition(":")[2])["TopicArn"]
    assert topic == aws.resources.topic_arn
    assert post(client, event(15, audit_data([3]))) == (204, "")
    counted = client.get("/metrics").get_data(as_text=True)
    assert 'shelfwatch_monitor_told_total{type="io.shelfwatch.gap.opened"} 1.0' in counted


def ms(minute: float) -> int:
    return round((MORNING + timedelta(minutes=minute)).timestamp() * 1000)


def test_data_are_json_as_the_function_writes_them() -> None:
    assert json.loads(event(0, audit_data([])))["data"]["count"] == 10


def test_every_warning_of_an_audit_is_decided_upon() -> None:
    """The function's schema names the codes; the monitor says of each whether it is doubtful."""
    described: Any = schema_of(WarningJson)
    codes = described["properties"]["code"]["description"].partition(";")[0]
    assert set(re.split(", | or ", codes)) == set(DOUBTFUL)
