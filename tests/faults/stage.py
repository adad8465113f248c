"""The path as real processes that can be killed, on an emulator behind a fault proxy."""

from __future__ import annotations

import json
import os
import signal
import socketserver
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import urllib3
from cloudevents.core.v1.event import CloudEvent

from events.codec import InvalidEvent
from events.s3_notification import S3Object, items_from_body, object_id
from local.aws import Resources, aws_env, create_resources
from local.processes import HOST, Child, free_port, running
from local.stack import answers, running_emulator, running_function, running_source

LAUNCH = Path(__file__).parent / "launch"
TOKEN = "s3cret"
# Short, so that a killed process's messages come back soon; a deployment has 120 and 55.
VISIBILITY_TIMEOUT = 8  # seconds
SINK_TIMEOUT = 6  # seconds


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What all stages share: the emulator, its clients, and the proxy before it."""

    endpoint_url: str
    proxy_url: str
    s3: Any
    sqs: Any
    sns: Any
    logs: Path

    def rules(self, *rules: dict[str, object]) -> None:
        """Replace the proxy's faults and forget what has fired."""
        self._ask("DELETE", "fired")
        self._ask("POST", "rules", list(rules))

    def fired(self) -> int:
        """Count the faults that the proxy has put between the two sides."""
        return len(self._ask("GET", "fired?limit=100000"))

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        answer = urllib3.request(method, f"{self.proxy_url}/_microburst/{path}", json=body)
        assert answer.status < 300, answer.data
        return answer.json() if answer.data else None


@contextmanager
def running_ground(logs: Path) -> Iterator[Ground]:
    """Run emulator and proxy for the length of the block."""
    with running_emulator(free_port(), logs) as (endpoint_url, _):
        port = free_port()
        command = ["microburst", "--upstream", endpoint_url, "--host", HOST, "--port", str(port)]
        with running("The fault proxy", command, os.environ, logs / "proxy.log") as proxy:
            proxy_url = f"http://{HOST}:{port}"
            proxy.wait_until(lambda: answers(f"{proxy_url}/_microburst/health"), 20)
            session = boto3.Session("test", "test", region_name="us-east-1")
            yield Ground(
                endpoint_url=endpoint_url,
                proxy_url=proxy_url,
                s3=session.client("s3", endpoint_url=endpoint_url),
                sqs=session.client("sqs", endpoint_url=endpoint_url),
                sns=session.client("sns", endpoint_url=endpoint_url),
                logs=logs,
            )
            proxy.kill()  # it would wait for the connections that its faults left behind


class Part:
    """A process of the path: started, killed, stopped and started again."""

    def __init__(self, start: Callable[[], Any]) -> None:
        self._start = start
        self._block = ExitStack()
        self.child: Child | None = None

    @property
    def process_id(self) -> int:
        """Of the process and of the group that its own children are in."""
        assert self.child is not None
        return self.child.process.pid

    def start(self) -> None:
        started = self._block.enter_context(self._start())
        self.child = started[1] if isinstance(started, tuple) else started

    def kill(self) -> None:
        """End it without warning, with all its children."""
        assert self.child is not None
        self.child.kill()
        self.stop()

    def stop(self) -> None:
        self._block.close()
        self.child = None

    def end(self) -> float:
        """Send SIGTERM and tell how long the end took, in seconds."""
        assert self.child is not None
        started = time.monotonic()
        self.child.process.terminate()
        self.child.process.wait(120)
        assert self.child.process.returncode == 0, self.child.process.returncode
        self.stop()
        return time.monotonic() - started

    def freeze(self, seconds: float) -> None:
        """Stop it in its tracks for a while."""
        os.killpg(self.process_id, signal.SIGSTOP)
        time.sleep(seconds)
        os.killpg(self.process_id, signal.SIGCONT)


@dataclass
class Stage:
    """One row's own bucket, queues and topic, and its function and source."""

    ground: Ground
    resources: Resources
    function: Part
    source: Part
    port: int
    logs: Path
    # What was uploaded, by the id that its event must have.
    uploads: dict[str, str] = field(default_factory=dict)

    def upload(self, key: str, body: bytes) -> S3Object:
        """Put a photo into the bucket and remember that it must end somewhere."""
        answer = self.ground.s3.put_object(Bucket=self.resources.bucket, Key=key, Body=body)
        found = S3Object(bucket=self.resources.bucket, key=key, version_id=answer["VersionId"])
        self.uploads[object_id(found)] = key
        return found

    def depth(self) -> int:
        """Count the queue's messages, leased ones too."""
        return sum(self.state(self.resources.queue_url))

    def state(self, queue_url: str) -> tuple[int, int]:
        """Messages that are visible, and that are leased."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.ground.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)
        visible, leased = (int(answer["Attributes"][name]) for name in names)
        return visible, leased

    def wait_for_progress(self, seconds: float = 60) -> bool:
        """Wait until messages have been taken from the queue and others are left."""
        waiting, _ = self.state(self.resources.queue_url)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            visible, _ = self.state(self.resources.queue_url)
            if visible != waiting:
                return visible > 0
            time.sleep(0.01)
        return False

    def wait_until_empty(self, seconds: float = 120) -> None:
        """Wait until every message has come to its end."""
        deadline = time.monotonic() + seconds
        while self.depth():
            if time.monotonic() > deadline:
                msg = f"{self.depth()} messages are still on the queue after {seconds:.0f} s"
                raise Stuck(msg)
            time.sleep(0.1)

    def duplicate_notifications(self, copies: int) -> None:
        """Send each notification that waits on the queue again, as S3 may."""
        for message in self._drain(self.resources.queue_url):
            for _ in range(copies):
                self.send(message["Body"])

    def batch_notifications(self, size: int, bad: dict[str, object]) -> int:
        """Put the records of waiting messages together, a bad one amid them; count the messages."""
        waiting = self._drain(self.resources.queue_url)
        records = [record for one in waiting for record in json.loads(one["Body"])["Records"]]
        batches = [records[start : start + size] for start in range(0, len(records), size)]
        for batch in batches:
            self.send(json.dumps({"Records": [*batch[: size // 2], bad, *batch[size // 2 :]]}))
        return len(batches)

    def drop_notifications(self, every: int) -> int:
        """Lose some notifications, as S3 does while a bucket's rule is changed."""
        dropped = 0
        for number, message in enumerate(self._drain(self.resources.queue_url)):
            if number % every:
                self.send(message["Body"])
            else:
                dropped += 1
        return dropped

    def send(self, body: str) -> None:
        """Put a message on the queue."""
        self.ground.sqs.send_message(QueueUrl=self.resources.queue_url, MessageBody=body)

    def hang_up_on_everyone(self, seconds: float) -> int:
        """Stand in for the function: take each connection and close it; count them.

        The time begins with the first, as a process may take seconds to start.
        """
        with HangUp((HOST, self.port), Silence) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            for _ in range(300):
                if server.connections:
                    break
                time.sleep(0.1)
            time.sleep(seconds)
            server.shutdown()
            thread.join()
            return server.connections

    def outcome(self) -> Outcome:
        """Collect what subscribers and the dead-letter queue got; empties both."""
        events = [json.loads(m["Body"]) for m in self._drain(self.resources.subscriber_url)]
        letters = self._drain(self.resources.dlq_url)
        return Outcome(
            uploads=dict(self.uploads), events=events, letters=letters, versions=self.versions()
        )

    def versions(self) -> Counter[str]:
        """Count the times that each result was written."""
        pages = self.ground.s3.get_paginator("list_object_versions").paginate(
            Bucket=self.resources.results_bucket, Prefix="results/"
        )
        return Counter(version["Key"] for page in pages for version in page.get("Versions", []))

    def _drain(self, queue_url: str) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        while True:
            answer = self.ground.sqs.receive_message(
                QueueUrl=queue_url,
                MaxNumberOfMessages=10,
                MessageAttributeNames=["All"],
                VisibilityTimeout=600,
            )
            batch = answer.get("Messages", [])
            if not batch:
                return messages
            messages += batch
            self.ground.sqs.delete_message_batch(
                QueueUrl=queue_url,
                Entries=[
                    {"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(batch)
                ],
            )


class Stuck(AssertionError):
    """Messages did not come to an end in time."""


class HangUp(socketserver.TCPServer):
    """Counts connections."""

    allow_reuse_address = True
    connections = 0

    def handle_error(self, *_: object) -> None:
        """Say nothing: the source may hang up first."""


class Silence(socketserver.BaseRequestHandler):
    """Reads what comes and says nothing."""

    def handle(self) -> None:
        assert isinstance(self.server, HangUp)
        self.server.connections += 1
        self.request.settimeout(0.2)
        with suppress(TimeoutError):
            self.request.recv(65536)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of every upload."""

    uploads: dict[str, str]
    events: list[dict[str, Any]]
    letters: list[dict[str, Any]]
    versions: Counter[str]

    @property
    def published(self) -> Counter[str]:
        """How often each id was published."""
        return Counter(event["id"] for event in self.events)

    @property
    def in_dlq(self) -> set[str]:
        """Ids of the uploads whose notification is in the dead-letter queue."""
        ids = set()
        for letter in self.letters:
            with suppress(InvalidEvent):  # poison
                items = items_from_body(letter["Body"])
                ids |= {item.get_id() for item in items if isinstance(item, CloudEvent)}
        return ids

    @property
    def reasons(self) -> Counter[str]:
        """Why messages are in the dead-letter queue."""
        return Counter(
            letter.get("MessageAttributes", {}).get("reason", {}).get("StringValue", "unknown")
            for letter in self.letters
        )

    @property
    def lost(self) -> list[str]:
        """Keys of the uploads that are nowhere."""
        found = self.published.keys() | self.in_dlq
        return [key for name, key in self.uploads.items() if name not in found]

    @property
    def rejected(self) -> int:
        """Images that were published as unreadable."""
        return len({event["id"] for event in self.events if "rejected" in event["type"]})

    @property
    def duplicates(self) -> int:
        """Events beyond the first of their id."""
        return len(self.events) - len(self.published)

    def differing(self) -> list[str]:
        """Ids that were published in two versions, stored twice, or belong to no upload."""
        versions: dict[str, set[str]] = {}
        for event in self.events:
            versions.setdefault(event["id"], set()).add(json.dumps(event, sort_keys=True))
        odd = [name for name, texts in versions.items() if len(texts) > 1]
        odd += [key for key, writes in self.versions.items() if writes > 1]
        return odd + sorted(self.published.keys() - self.uploads.keys())


@contextmanager
def setting(ground: Ground, name: str, faults: str = "hasty", **source: str) -> Iterator[Stage]:
    """Set one stage: resources of its own, and both processes not yet started."""
    ground.rules()
    resources = create_resources(ground.s3, ground.sqs, ground.sns, f"row-{uuid.uuid4().hex[:10]}")
    ground.sqs.purge_queue(QueueUrl=resources.queue_url)  # S3 has announced its rule
    logs = ground.logs / f"{name}-{resources.bucket}"
    logs.mkdir()
    port = free_port()
    env = {
        **aws_env(ground.proxy_url),
        "EVENTS_TOKEN": TOKEN,
        "PYTHONPATH": str(LAUNCH),
        "FAULTS": faults,
    }
    function_env = {
        **env,
        "EVENTS_BUCKETS": resources.bucket,
        "RESULTS_BUCKET": resources.results_bucket,
        "TOPIC_ARN": resources.topic_arn,
    }
    source_env = {
        **env,
        "VISIBILITY_TIMEOUT": str(VISIBILITY_TIMEOUT),
        "SINK_TIMEOUT": str(SINK_TIMEOUT),
        **source,
    }
    # The SDK sends to the queue's own address: that, too, must lead through the proxy.
    queue_url = ground.proxy_url + urlsplit(resources.queue_url).path
    function = Part(lambda: running_function(port, function_env, logs))
    sink = f"http://{HOST}:{port}"
    part = Part(lambda: running_source(sink, queue_url, source_env, logs))
    try:
        yield Stage(ground, resources, function, part, port, logs)
    finally:
        part.stop()
        function.stop()
        ground.rules()
