"""Put dead letters back on the queue: `python -m events.repair.replay [--send]`

Without `--send` it only lists them. Each is sent to the queue first and deleted from the
dead-letter queue after, so that an end in between gives a duplicate with the same id and never a
loss; what is not sent goes back. To look at a message SQS makes one receive it: during a run nobody
else sees the dead letters, and one cut short hides them for a quarter of an hour.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from events.checks import has_region, run_checks
from events.log import configure_logging
from events.repair.command_checks import replay_checks
from events.repair.commands import (
    DONE,
    FAILED,
    INTERRUPTED,
    MISUSED,
    PROGRESS_SECONDS,
    add_window,
    boto_config,
    count,
    run_to_exit,
    standard_queue,
    stop_on_signals,
    window_of,
)
from events.repair.selection import REPLAYED, DeadLetter, Selection
from events.settings import NO_REGION, SettingError, checked_bucket
from events.sqs import MAX_ENTRIES, change_visibility, delete_all, parse_redrive, send_all, url_of
from events.types import Reason

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

log = logging.getLogger(__name__)

LEASE_SECONDS = 900
# A run ends before its first lease does, so that no message comes twice.
RUN_SECONDS = LEASE_SECONDS - 120
# SQS lets 120 000 messages be in flight, and their handles take some 50 MB.
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
MAX_HELD = 100_000
WAIT_SECONDS = 2  # a long poll asks all of SQS's servers: an empty answer means an empty queue


@dataclass
class Summary:
    """What a run did, by reason."""

    found: Counter[str] = field(default_factory=Counter)
    selected: Counter[str] = field(default_factory=Counter)
    sent: Counter[str] = field(default_factory=Counter)
    deleted: int = 0
    came_back: int = 0  # of those that were sent, while the run went on
    cut_short: str = ""  # why there may be more than was found

    def table(self) -> str:
        """Write the counts, a line a reason."""
        lines = [f"{'reason':<12}{'found':>8}{'selected':>10}{'sent':>8}"]
        lines += [
            f"{reason:<12}{self.found[reason]:>8}{self.selected[reason]:>10}{self.sent[reason]:>8}"
            for reason in Reason
        ]
        if self.came_back:
            lines.append(f"{self.came_back} came back: what gave them up is not mended.")
        return "\n".join([*lines, *([self.cut_short] if self.cut_short else [])])


class Replay:
    """One run over a dead-letter queue."""

    def __init__(self, sqs: SQSClient, dlq_url: str, queue_url: str, selection: Selection) -> None:
        self._sqs = sqs
        self._dlq_url = dlq_url
        self._queue_url = queue_url
        self._selection = selection
        self._held: set[str] = set()  # receipt handles of what stays
        self._sent: set[str] = set()  # message ids on the queue
        self.summary = Summary()

    def run(self, stop: threading.Event, limit: int = sys.maxsize, send: bool = False) -> Summary:
        """Go through the queue once, list it on stdout, and send what is selected where asked to.

        Raises botocore's errors, after what was received has been given back.
        """
        end = time.monotonic() + RUN_SECONDS
        logged_at = time.monotonic()
        try:
            while self._may_go_on(stop, limit, end) and (letters := self._receive()):
                self._handle(letters, limit, send)
                if time.monotonic() - logged_at > PROGRESS_SECONDS:
                    logged_at = time.monotonic()
                    log.info("replay.progress", extra=self._progress())
        finally:
            change_visibility(self._sqs, self._dlq_url, sorted(self._held), 0)
        return self.summary

    def _may_go_on(self, stop: threading.Event, limit: int, end: float) -> bool:
        reasons = {
            "Interrupted": stop.is_set(),
            f"Ended at {limit} selected": self.summary.selected.total() >= limit,
            f"Ended after {RUN_SECONDS} s": time.monotonic() > end,
            f"Ended at {MAX_HELD} that stay": len(self._held) >= MAX_HELD,
        }
        self.summary.cut_short = next((f"{why}." for why, holds in reasons.items() if holds), "")
        return not self.summary.cut_short

    def _receive(self) -> list[DeadLetter]:
        answer = self._sqs.receive_message(
            QueueUrl=self._dlq_url,
            MaxNumberOfMessages=MAX_ENTRIES,
            WaitTimeSeconds=WAIT_SECONDS,
            VisibilityTimeout=LEASE_SECONDS,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["SentTimestamp"],
        )
        return [DeadLetter.from_message(message) for message in answer.get("Messages", [])]

    def _handle(self, letters: list[DeadLetter], limit: int, send: bool) -> None:
        # Held before all else: an error on the way must not hide them for a quarter of an hour.
        self._held |= {letter.receipt_handle for letter in letters}
        room = limit - self.summary.selected.total()
        # What the source gives up at once is here again before the queue is empty: sent again, the
        # two would go round until the run's time is over.
        back = [letter for letter in letters if letter.message_id in self._sent]
        self.summary.came_back += len(back)
        fresh = [letter for letter in letters if letter not in back]
        selected = [letter for letter in fresh if self._selection.holds(letter)][:room]
        for letter in fresh:
            self.summary.found[letter.reason] += 1
            print(_line("send" if letter in selected else "keep", letter))
        for letter in back:
            print(_line("back", letter))
        self.summary.selected.update(letter.reason for letter in selected)
        if send:
            self._move(selected)

    def _move(self, letters: list[DeadLetter]) -> None:
        """Send, and only then delete: an end in between leaves both, and both have one id."""
        sent = send_all(self._sqs, self._queue_url, [letter.body for letter in letters])
        moved = [letters[index] for index in sorted(sent)]
        self._sent |= set(sent.values())
        self.summary.sent.update(letter.reason for letter in moved)
        handles = [letter.receipt_handle for letter in moved]
        stay = delete_all(self._sqs, self._dlq_url, handles)
        self.summary.deleted += len(handles) - len(stay)
        # What could not be deleted is not given back either: its lease ends soon enough.
        self._held.difference_update(handles)

    def _progress(self) -> dict[str, int]:
        summary = self.summary
        return {"found": summary.found.total(), "sent": summary.sent.total()}


def dead_letter_queue_of(sqs: SQSClient, queue_url: str) -> str:
    """Look up the dead-letter queue in the queue's redrive policy; empty where there is none."""
    answer = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["RedrivePolicy"])
    arn, _ = parse_redrive(answer.get("Attributes", {}).get("RedrivePolicy", ""))
    return url_of(sqs, arn) if arn else ""


def _line(verb: str, letter: DeadLetter) -> str:
    # As JSON, so that a key with a line break stays on its line.
    photos = [json.dumps(photo.uri, ensure_ascii=False) for photo in letter.photos]
    what = " ".join(photos) or json.dumps(letter.body[:80])
    time = letter.time.isoformat(timespec="seconds")
    return f"{verb}  {letter.reason:<11}  {time}  {what}  {letter.detail}".rstrip()


def main(arguments: list[str] | None = None, env: Mapping[str, str] = os.environ) -> int:
    """Run the command; return the exit code."""
    options = _parse(arguments, env)
    if options.check:
        return DONE if run_checks(replay_checks(options), sys.stdout) else FAILED
    configure_logging()
    stop = stop_on_signals()
    sqs = boto3.client("sqs", config=boto_config())
    try:
        dlq_url = options.dlq_url or dead_letter_queue_of(sqs, options.queue_url)
        if not dlq_url or dlq_url == options.queue_url:
            error = f"`--dlq-url` must be another queue than --queue-url, got {dlq_url!r}"
            log.critical("replay.misconfigured", extra={"error": error})
            return MISUSED
        selection = Selection(
            reasons=frozenset(map(Reason, options.reason or REPLAYED)),
            bucket=options.bucket,
            prefix=options.prefix,
            window=options.window,
        )
        replay = Replay(sqs, dlq_url, options.queue_url, selection)
        try:
            replay.run(stop, options.max, options.send)
        finally:
            print(f"\n{replay.summary.table()}")
    except (ClientError, BotoCoreError) as err:
        log.critical("replay.failed", extra={"error": str(err)})
        return FAILED
    return _exit_code(replay.summary, stop, options.send)


def _exit_code(summary: Summary, stop: threading.Event, send: bool) -> int:
    if stop.is_set():
        return INTERRUPTED
    if not send:
        print("A dry run: nothing was sent. --send does it.")
        return DONE
    return DONE if summary.deleted == summary.selected.total() else FAILED


def _parse(arguments: list[str] | None, env: Mapping[str, str]) -> argparse.Namespace:
    """Read the options; `fault` says what is wrong with them where they are only looked at."""
    parser = argparse.ArgumentParser(
        prog="python -m events.repair.replay", description="Put dead letters back on the queue."
    )
    add = parser.add_argument
    add("--send", action="store_true", help="do it; without, only list")
    add("--check", action="store_true", help="look at options, clock and both queues, and end")
    add(
        "--queue-url",
        type=standard_queue,
        default=env.get("QUEUE_URL", ""),
        help="where to ($QUEUE_URL)",
    )
    add("--dlq-url", default="", help="where from (that of the queue's redrive policy)")
    add(
        "--reason",
        action="append",
        choices=[reason.value for reason in Reason],
        help=f"only this one, may be repeated ({', '.join(REPLAYED)})",
    )
    add("--bucket", default="", help="only photos of this bucket")
    add("--prefix", default="", help="only photos whose keys start so")
    add_window(parser, "what was given up", "0s")
    add("--max", type=count, default=sys.maxsize, help="as many at most (all)")
    options = parser.parse_args(arguments)
    options.window = window_of(parser, options)
    options.fault = _fault_of(options)
    if options.fault and not options.check:
        parser.error(options.fault)
    return options


def _fault_of(options: argparse.Namespace) -> str:
    """Say what is wrong with the options; empty where nothing is."""
    if not options.queue_url:
        return "`--queue-url` or QUEUE_URL must be set, got neither"
    try:
        if options.bucket:
            checked_bucket(options.bucket, "`--bucket`")
    except SettingError as err:
        return str(err)
    return "" if has_region() else NO_REGION


if __name__ == "__main__":
    run_to_exit(main)
