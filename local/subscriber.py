"""A subscriber of the topic, to learn from: `make subscriber` beside `make run`, or with a queue of
an account, `python -m local.subscriber --queue-url URL`

It prints each event once. Four things make it right: it handles an event, then remembers it, and
only then deletes the message, so that a crash repeats an event and loses none; it knows an event by
`source` and `id`, which duplicates share; it reads subscriptions with and without raw delivery; it
follows `dataref` where the data was too large for the topic. Where the object it names is gone,
as after a lifecycle rule, no retry brings it back: the event is handled without `data`, and its
`subject` says which photo to look at. A consumer with a database keeps `seen` there, in one
transaction with what it does.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import sys
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from events.codec import InvalidEvent, Json, from_json, read_json, to_json
from local.aws import emulator_clients

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

# A message may wait 14 days in the dead-letter queue, and once replayed 4 more on the queue.
REMEMBER_SECONDS = 18 * 86400
WAIT_SECONDS = 20  # of one long poll
EMULATOR_PORT = 4566  # as local.stack starts it
EXAMPLE_QUEUE = "shelves-example"  # as local.aws creates it for `make run`


class Seen:
    """The events that were handled, in a file that survives a restart; forgets old ones."""

    def __init__(self, path: Path | str, seconds: float = REMEMBER_SECONDS) -> None:
        self._seconds = seconds
        self._database = sqlite3.connect(path)
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS seen (source TEXT, id TEXT, at REAL,"
            " PRIMARY KEY (source, id)) WITHOUT ROWID"
        )
        self._database.execute("CREATE INDEX IF NOT EXISTS seen_at ON seen (at)")

    def __contains__(self, event: Json) -> bool:
        query = "SELECT 1 FROM seen WHERE source = ? AND id = ?"
        return self._database.execute(query, _name(event)).fetchone() is not None

    def __len__(self) -> int:
        (count,) = self._database.execute("SELECT count(*) FROM seen").fetchone()
        return int(count)

    def add(self, event: Json) -> None:
        """Remember an event, and forget those that can no longer come again."""
        now = time.time()  # not monotonic: it must mean the same after a restart
        with self._database:
            row = (*_name(event), now)
            self._database.execute("INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", row)
            self._database.execute("DELETE FROM seen WHERE at < ?", (now - self._seconds,))

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def _name(event: Json) -> tuple[str, str]:
    return str(event["source"]), str(event["id"])


def once(events: Iterable[Json], seen: Seen) -> Generator[Json, None, None]:
    """Leave out events that were handled before; one counts as handled when the next is asked for.

    With `receive_events` below, the order is right: handle, remember, delete the message.
    """
    for event in events:
        if event in seen:
            continue
        yield event
        seen.add(event)


def receive_events(sqs: SQSClient, s3: S3Client, queue_url: str, wait: int = 1) -> Iterator[Json]:
    """Receive what is there, at most ten events, after a wait of at most `wait` seconds.

    Yields each event as a JSON object and deletes its message when the next one is asked for. What
    is no event stays on the queue, whose own redrive policy takes it away.
    """
    answer = sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=wait)
    for message in answer.get("Messages", []):
        try:
            event: Json = json.loads(to_json(from_json(_unwrapped(message["Body"]))))
        except InvalidEvent as err:
            print(f"message {message['MessageId']} is no event: {err}", file=sys.stderr)
            continue
        if "dataref" in event:
            event |= _claimed_data(s3, str(event["dataref"]))
        yield event
        sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])


def _unwrapped(body: str) -> str:
    """Take an event out of SNS's own JSON, in which it comes without raw delivery."""
    message = read_json(body)
    if isinstance(message, dict) and message.get("Type") == "Notification":
        return str(message.get("Message"))
    return body


def _claimed_data(s3: S3Client, uri: str) -> Json:
    """Read the `data` of an event that was too large for the topic; no field where it is gone."""
    parts = urlsplit(uri)
    try:
        answer = s3.get_object(Bucket=parts.netloc, Key=parts.path.removeprefix("/"))
    except s3.exceptions.NoSuchKey:
        print(f"{uri} is gone: its event has no data", file=sys.stderr)
        return {}
    return {"data": json.loads(answer["Body"].read())}


def main(arguments: list[str] | None = None) -> int:
    """Print events, a line each, until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m local.subscriber", description=__doc__)
    parser.add_argument(
        "--queue-url",
        help="a queue of your account that is subscribed; without it, the example's of `make run`",
    )
    parser.add_argument(
        "--endpoint-url",
        default=f"http://127.0.0.1:{os.environ.get('AWS_PORT') or EMULATOR_PORT}",
        help="of `make run`'s AWS, at AWS_PORT (%(default)s)",
    )
    parser.add_argument("--seen", type=Path, default="seen.sqlite", help="(%(default)s)")
    parser.add_argument("--wait", type=int, default=WAIT_SECONDS, help="of a poll (%(default)s s)")
    options = parser.parse_args(arguments)
    try:
        if options.queue_url:
            queue_url, sqs, s3 = options.queue_url, boto3.client("sqs"), boto3.client("s3")
        else:
            s3, sqs, _ = emulator_clients(options.endpoint_url)
            queue_url = sqs.get_queue_url(QueueName=EXAMPLE_QUEUE)["QueueUrl"]
    except BotoCoreError as err:
        if options.queue_url:
            parser.exit(2, f"{err}\n")
        parser.exit(2, f"Nothing answers at {options.endpoint_url}: start `make run` first\n")
    except (ClientError, ValueError):  # another program's port, or no address
        words = f"{options.endpoint_url} has no queue {EXAMPLE_QUEUE}"
        parser.exit(2, f"{words}: is it the AWS of `make run`?\n")
    try:
        memory = Seen(options.seen)
    except sqlite3.Error as err:
        parser.exit(2, f"`--seen` must be a file of SQLite, got {options.seen} ({err})\n")
    with closing(memory) as seen, suppress(KeyboardInterrupt):
        while True:
            try:
                for event in once(receive_events(sqs, s3, queue_url, options.wait), seen):
                    print(json.dumps(event), flush=True)
            except (BotoCoreError, ClientError) as err:  # what was not deleted comes again
                parser.exit(2, f"{err}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
