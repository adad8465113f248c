"""The whole way with its real processes: a photo in a bucket, a gap that opened on the topic, seen
by one monitor on SQLite and another on PostgreSQL, which say the same under the same ids."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import urllib3
from conftest import Aws, free_port
from test_path import function_env, source_env

from local.aws import create_monitor_queue
from local.day import DAY, photos
from local.stack import running_function, running_monitor, running_source
from local.subscriber import receive_events
from tests.faults.postgresql import Server

pytestmark = pytest.mark.slow

SECONDS = 60


def gap_events(aws: Aws, wanted: int) -> list[dict[str, Any]]:
    """Receive until so many events of gaps have come, and none comes any more."""
    found: list[dict[str, Any]] = []
    deadline = time.monotonic() + SECONDS
    while len(found) < wanted:
        assert time.monotonic() < deadline, [event["type"] for event in found]
        for event in receive_events(aws.sqs, aws.s3, aws.resources.subscriber_url, 1):
            found += [event] if ".gap." in str(event["type"]) else []
    return found


def test_two_databases_tell_the_same_of_a_day_under_the_same_ids(
    aws: Aws, postgresql: Server, tmp_path: Path
) -> None:
    urls = {"sqlite": f"sqlite:///{tmp_path}/monitor.sqlite", "postgresql": postgresql.url}
    with ExitStack() as running:
        boards = {}
        for name, url in urls.items():
            (tmp_path / name).mkdir()
            prefix = f"{aws.resources.bucket}-{name}"
            queue_url = create_monitor_queue(aws.sqs, aws.sns, aws.resources.topic_arn, prefix)
            env = function_env(aws, DATABASE_URL=url)
            monitor = running_monitor(free_port(), env, tmp_path / name)
            boards[name], _ = running.enter_context(monitor)
            env = source_env(aws, QUEUE_HOLDS="events")
            source = running_source(boards[name], queue_url, env, tmp_path / name)
            running.enter_context(source)
        sink, _ = running.enter_context(running_function(free_port(), function_env(aws), tmp_path))
        env = source_env(aws)
        running.enter_context(running_source(sink, aws.resources.queue_url, env, tmp_path))
        day = list(photos(datetime.now(UTC)))
        assert len(day) == len(DAY)
        # The first gap, out of order, and without the photos that add nothing.
        for index in (8, 3, 7, 4):
            key, body = day[index]
            aws.s3.put_object(Bucket=aws.resources.bucket, Key=key, Body=body)
        found = gap_events(aws, 4)
        pages = [
            urllib3.request("GET", f"{board}/stores/store-17").json() for board in boards.values()
        ]
    (data,) = {event["data"]["episode"]: event["data"] for event in found}.values()
    assert (data["state"], data["view"]["name"]) == ("closed", "aisle-9")
    assert data["minutes"] == pytest.approx(60, abs=0.1)
    ids = Counter(event["id"] for event in found)
    assert set(ids.values()) == {2}, ids  # each database says each thing once
    assert pages[0] == pages[1]
    assert (pages[0]["open_gaps"], pages[0]["refill_minutes"]) == (0, 60.0)
