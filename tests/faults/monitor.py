"""What is done to the monitor, on a real PostgreSQL: `python -m tests.faults.monitor [ROW …]`

Audits go to the topic, and what monitors tell comes back on it. After each row the database must
hold the episodes of the fold, the last event of each must say the same, and no event may have
two ids.
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cloudevents.core.v1.event import CloudEvent
from sqlalchemy import text

from bench.monitor import shelf_events
from events.codec import data_of
from events.sns_publisher import publish
from local.aws import (
    Resources,
    aws_env,
    create_monitor_queue,
    create_resources,
    emulator_clients,
)
from local.processes import Child, free_port
from local.stack import running_emulator, running_monitor, running_source
from local.subscriber import receive_events
from monitor.database import migrate, open_database, reading
from monitor.fold import Audit, Episode, Rules, State, chosen, fold
from monitor.intake import read_audit, view_key
from monitor.records import episode_of
from monitor.register import View
from monitor.tables import episodes
from tests.faults.postgresql import Server, bin_directory, running_postgresql

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient

SECONDS = 600


@dataclass
class Stage:
    """The monitors of one row, and what they work on."""

    s3: S3Client
    sqs: SQSClient
    sns: SNSClient
    resources: Resources
    queue_url: str
    server: Server
    env: dict[str, str]
    logs: Path
    running: ExitStack
    monitors: dict[int, Child] = field(default_factory=dict)  # by port
    sent: list[CloudEvent] = field(default_factory=list)

    def start(self, port: int = 0) -> int:
        """Start a monitor, again where it was killed."""
        port = port or free_port()
        logs = self.logs / str(port)
        logs.mkdir(exist_ok=True)
        _, self.monitors[port] = self.running.enter_context(running_monitor(port, self.env, logs))
        return port

    def feed(self, port: int) -> None:
        """Start a source that feeds a monitor."""
        env = {**self.env, "QUEUE_HOLDS": "events"}
        sink = f"http://127.0.0.1:{port}"
        source = running_source(sink, self.queue_url, env, self.logs / str(port))
        self.running.enter_context(source)

    def send(self, found: Iterable[CloudEvent], copies: int = 1) -> None:
        """Publish audits, each some times."""
        for event in found:
            self.sent.append(event)
            for _ in range(copies):
                publish(event, self.sns, self.resources.topic_arn)

    def waiting(self) -> int:
        """Count what is on the queue."""
        answer = self.sqs.get_queue_attributes(
            QueueUrl=self.queue_url,
            AttributeNames=[
                "ApproximateNumberOfMessages",
                "ApproximateNumberOfMessagesNotVisible",
            ],
        )
        return sum(map(int, answer["Attributes"].values()))

    def wait(self) -> None:
        """Wait until everything is worked off."""
        deadline = time.monotonic() + SECONDS
        while self.waiting():
            assert time.monotonic() < deadline, f"{self.waiting()} messages are left"
            time.sleep(0.2)


def audits(views: int, each: int) -> list[CloudEvent]:
    """Make audits of some views, mixed, in the order of capture."""
    until = datetime.now(UTC)
    lines = [list(shelf_events(view, each, until)) for view in range(views)]
    return [event for together in zip(*lines, strict=True) for event in together]


@contextmanager
def sending(stage: Stage, found: list[CloudEvent]) -> Iterator[threading.Thread]:
    """Publish audits beside what the block does."""
    sender = threading.Thread(target=stage.send, args=(found,))
    sender.start()
    try:
        yield sender
    finally:
        sender.join()


def killed(stage: Stage) -> str:
    """The monitor is killed again and again."""
    port = stage.start()
    stage.feed(port)
    kills = 0
    with sending(stage, audits(4, 50)) as sender:
        while sender.is_alive() or (stage.waiting() and kills < 5):
            time.sleep(1)
            stage.monitors[port].kill()
            kills += 1
            stage.start(port)
    return f"{kills} kills"


def database_restarted(stage: Stage) -> str:
    """The database is lost in the middle, twice, and comes back."""
    port = stage.start()
    stage.feed(port)
    with sending(stage, audits(4, 50)):
        for _ in range(2):
            time.sleep(1)
            stage.server.stop()
            time.sleep(3)
            stage.server.start()
    return "2 restarts"


def duplicates(stage: Stage) -> str:
    """Each event comes four times."""
    port = stage.start()
    stage.feed(port)
    stage.send(audits(4, 30), copies=4)
    return "x 4"


def two_pods(stage: Stage) -> str:
    """Two monitors work on one view."""
    for _ in range(2):
        stage.feed(stage.start())
    found = audits(1, 120)
    with sending(stage, found[::2]), sending(stage, found[1::2]):
        pass
    return "2 monitors"


def backlog(stage: Stage) -> str:
    """A thousand audits wait, in any order."""
    found = audits(10, 100)
    random.Random(7).shuffle(found)
    stage.send(found)
    port = stage.start()
    stage.feed(port)
    return f"{len(found)} waiting"


ROWS: dict[str, Callable[[Stage], str]] = {
    row.__name__: row for row in (killed, database_restarted, duplicates, two_pods, backlog)
}


def expected(sent: Iterable[CloudEvent]) -> dict[str, Episode]:
    """Fold what was sent."""
    by_view: dict[str, list[Audit]] = defaultdict(list)
    for event in sent:
        incoming = read_audit(event, data_of(event), View(folder=""))
        by_view[view_key(event).id].append(incoming.audit)
    found: dict[str, Episode] = {}
    for view, taken in by_view.items():
        found |= fold(State(view=view), chosen(taken), Rules()).episodes
    return found


def problems_of(stage: Stage) -> list[str]:
    """Name what is not as it must be."""
    wanted = expected(stage.sent)
    engine = open_database(stage.server.url)
    with reading(engine) as connection:
        held = {row.id: episode_of(row) for row in connection.execute(episodes.select())}
    engine.dispose()
    found = [] if held == wanted else [f"{len(held)} episodes held, {len(wanted)} folded"]
    published: dict[str, dict[int, tuple[str, object]]] = defaultdict(dict)
    while more := list(receive_events(stage.sqs, stage.s3, stage.resources.subscriber_url, 1)):
        for event in more:
            data = event["data"]
            if ".gap." not in str(event["type"]) or not isinstance(data, dict):
                continue
            said = (str(event["id"]), (data["state"], data.get("minutes"), data.get("ended")))
            known = published[str(data["episode"])].setdefault(int(str(data["sequence"])), said)
            found += [f"two contents of one event: {known}, {said}"] if known != said else []
    for name, episode in wanted.items():
        last = published[name][max(published[name])][1] if published[name] else None
        state = "open" if episode.closed is None else "closed"
        if not isinstance(last, tuple) or (last[0], last[2] or "") != (state, episode.ended):
            found.append(f"{name} is {state}, and {last} was published")
    for name in published.keys() - wanted.keys():
        last = published[name][max(published[name])][1]
        if not isinstance(last, tuple) or last[0] != "withdrawn":
            found.append(f"{name} is not, and {last} was published")
    return found


@contextmanager
def staged(server: Server, endpoint_url: str, logs: Path) -> Iterator[Stage]:
    """Set the stage for a row: an empty database, a queue and a topic of its own."""
    engine = open_database(server.url)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    migrate(engine)
    engine.dispose()
    s3, sqs, sns = emulator_clients(endpoint_url)
    resources = create_resources(s3, sqs, sns, f"row-{uuid.uuid4().hex[:8]}")
    queue_url = create_monitor_queue(sqs, sns, resources.topic_arn, resources.bucket)
    env = {
        **aws_env(endpoint_url),
        "DATABASE_URL": server.url,
        "EVENTS_AUTH": "none",
        "TOPIC_ARN": resources.topic_arn,
    }
    with ExitStack() as running:
        yield Stage(s3, sqs, sns, resources, queue_url, server, env, logs, running)


def main(names: list[str]) -> int:
    """Run rows, all unless some are named; print a line each."""
    if bin_directory() is None:
        print("skipped: PostgreSQL's programs (initdb, pg_ctl) are not installed")
        return 0
    failed = False
    print("| done to the monitor | how often | audits | episodes | wrong |\n|---|---|--:|--:|---|")
    with (
        tempfile.TemporaryDirectory() as folder,
        running_postgresql() as server,
        running_emulator(free_port(), Path(folder)) as (endpoint_url, _),
    ):
        for name in names or ROWS:
            logs = Path(folder) / name
            logs.mkdir()
            with staged(server, endpoint_url, logs) as stage:
                fired = ROWS[name](stage)
                stage.wait()
                wrong = problems_of(stage)
            failed |= bool(wrong)
            found = "; ".join(wrong[:3]) or "nothing"
            facts = [ROWS[name].__doc__, fired, len(stage.sent), len(expected(stage.sent)), found]
            print(f"| {' | '.join(map(str, facts))} |", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
