"""Find photos in the bucket without a result and put them on the queue.

`python -m events.repair.sweep [--send]`; without `--send` it only lists them. S3 may drop a
notification, and announces nothing that was uploaded before its rule took effect. A photo found
here goes onto the queue as S3 would have put it, so that its event has the id it would have had: a
photo that is announced twice is audited once. Run it hourly.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from events.checks import has_region, run_checks
from events.log import configure_logging
from events.outbox import Outbox
from events.repair.command_checks import sweep_checks
from events.repair.commands import (
    DONE,
    FAILED,
    INTERRUPTED,
    POSTPONED,
    PROGRESS_SECONDS,
    Window,
    add_window,
    boto_config,
    count,
    run_to_exit,
    standard_queue,
    stop_on_signals,
    window_of,
)
from events.repair.photos import Photo, Watched, photos, watched_by
from events.s3_notification import (
    S3Object,
    ignored_as,
    notification_body,
    object_id,
)
from events.settings import (
    NO_REGION,
    SettingError,
    bucket,
    checked_bucket,
    names,
    whole_number,
)
from events.sqs import queue_arn, send_all
from events.types import MAX_GENERATION

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

log = logging.getLogger(__name__)

# Requests to S3 at a time: a HEAD is all waiting.
THREADS = 16
# S3's own notification takes seconds, sometimes a minute or more; what is at work has no result yet
OLDER_THAN = "15m"
# A photo that still waits on the queue has no result either, and would be put there again each hour
MAX_WAITING = 1000


@dataclass
class Summary:
    """What a sweep did."""

    listed: int = 0  # versions of objects, of any age and name
    looked_at: int = 0  # of the right age and name
    missing: int = 0
    sent: int = 0
    archived: int = 0  # would be missing, could they be read

    def __str__(self) -> str:
        left = f", {self.archived} archived and left" if self.archived else ""
        return (
            f"{self.listed} listed, {self.looked_at} looked at, {self.missing} to be audited, "
            f"{self.sent} sent{left}"
        )


@dataclass(frozen=True)
class Missing:
    """Tells which audit a photo lacks: by its generation, None where it lacks none."""

    outbox: Outbox
    generation: int = 0

    def __call__(self, s3_object: S3Object) -> int | None:
        done = self.outbox.has(object_id(s3_object, self.generation))
        return None if done else self.generation


@dataclass(frozen=True)
class AuditedBy:
    """Tells which audit a photo lacks whose newest result has such a model: the next generation."""

    outbox: Outbox
    model: Mapping[str, str]  # members of the result's `model`: digest, revision, or both
    generation: int = 0  # the first

    def __call__(self, s3_object: S3Object) -> int | None:
        generation, newest = self.generation, None
        while (stored := self.outbox.get(object_id(s3_object, generation))) is not None:
            generation, newest = generation + 1, stored.data
        model = newest.get("model") if newest else None
        named = isinstance(model, dict) and self.model.items() <= model.items()
        return generation if named else None


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One run over one bucket."""

    s3: S3Client
    sqs: SQSClient
    queue_url: str
    bucket: str
    our_buckets: frozenset[str]  # hold results or references
    wanted: Callable[[S3Object], int | None]
    watched: list[Watched]
    window: Window
    prefix: str = ""

    def run(
        self,
        stop: threading.Event,
        summary: Summary,
        limit: int = sys.maxsize,
        send: bool = False,
    ) -> None:
        """Go through the bucket once, list what lacks an audit on stdout, and send it if asked to.

        Counts in `summary` as it goes. Raises botocore's errors; what was sent by then is on its
        way, and another run finds the rest.
        """
        logged_at = time.monotonic()
        with ThreadPoolExecutor(THREADS, "sweep") as threads:
            for page in photos(self.s3, self.bucket, self.prefix):
                if stop.is_set() or summary.missing >= limit:
                    return
                looked_at = [photo for photo in page if self._is_watched(photo)]
                generations = threads.map(self.wanted, [photo.s3_object for photo in looked_at])
                summary.listed += len(page)
                summary.looked_at += len(looked_at)
                unaudited = [
                    (photo, generation)
                    for photo, generation in zip(looked_at, generations, strict=True)
                    if generation is not None
                ]
                self._leave([one for one in unaudited if one[0].archived], summary)
                readable = [one for one in unaudited if not one[0].archived]
                self._handle(readable[: limit - summary.missing], summary, send)
                if time.monotonic() - logged_at > PROGRESS_SECONDS:
                    logged_at = time.monotonic()
                    log.info("sweep.progress", extra=vars(summary))

    def _is_watched(self, photo: Photo) -> bool:
        return (
            ignored_as(photo.s3_object, self.our_buckets) is None
            and self.window.holds(photo.time)
            and any(watched.holds(photo.s3_object.key) for watched in self.watched)
        )

    def _leave(self, archived: list[tuple[Photo, int]], summary: Summary) -> None:
        """List what the function could not read: each would end as a dead letter, again and again.

        Once one is restored, a sweep finds it.
        """
        summary.archived += len(archived)
        for photo, generation in archived:
            print(f"{_line(photo, generation)}  archived: restore it first")

    def _handle(self, unaudited: list[tuple[Photo, int]], summary: Summary, send: bool) -> None:
        summary.missing += len(unaudited)
        for photo, generation in unaudited:
            print(_line(photo, generation))
        if send:
            region = self.s3.meta.region_name
            bodies = [
                notification_body(photo.s3_object, photo.time, region, generation)
                for photo, generation in unaudited
            ]
            summary.sent += len(send_all(self.sqs, self.queue_url, bodies))


def waiting_on(sqs: SQSClient, queue_url: str) -> int:
    """Count the messages that wait on a queue, about. Raises botocore's errors."""
    answer = sqs.get_queue_attributes(
        QueueUrl=queue_url, AttributeNames=["ApproximateNumberOfMessages"]
    )
    return int(answer["Attributes"]["ApproximateNumberOfMessages"])


def _line(photo: Photo, generation: int) -> str:
    # As JSON, so that a key with a line break stays on its line.
    uri = json.dumps(photo.s3_object.uri, ensure_ascii=False)
    return f"{photo.time.isoformat(timespec='seconds')}  {uri}  generation {generation}"


def main(arguments: list[str] | None = None, env: Mapping[str, str] = os.environ) -> int:
    """Run the command; return the exit code."""
    options = _parse(arguments, env)
    if options.check:
        return DONE if run_checks(sweep_checks(options), sys.stdout) else FAILED
    configure_logging()
    stop = stop_on_signals()
    s3 = boto3.client("s3", config=boto_config(THREADS))
    sqs = boto3.client("sqs", config=boto_config())
    summary = Summary()
    failed = False
    try:
        waiting = waiting_on(sqs, options.queue_url)
        if options.send and waiting > options.max_waiting:
            log.warning("sweep.postponed", extra={"waiting": waiting, "limit": options.max_waiting})
            return POSTPONED
        # Answers an error where the bucket is missing, which a HEAD does not tell from a miss.
        s3.list_objects_v2(Bucket=options.results_bucket, MaxKeys=1)
        for bucket in options.bucket:
            try:
                sweep_of(options, s3, sqs, bucket).run(stop, summary, options.max, options.send)
            except (ClientError, BotoCoreError) as err:  # the other buckets' photos wait, too
                log.critical("sweep.failed", extra={"bucket": bucket, "error": str(err)})
                failed = True
    except (ClientError, BotoCoreError) as err:
        log.critical("sweep.failed", extra={"error": str(err)})
        return FAILED
    finally:
        print(summary)
    if stop.is_set():
        return INTERRUPTED
    if failed:
        return FAILED
    if not options.send:
        print("A dry run: nothing was sent. --send does it.")
        return DONE
    return DONE if summary.sent == summary.missing else FAILED


def sweep_of(options: argparse.Namespace, s3: S3Client, sqs: SQSClient, bucket: str) -> Sweep:
    """Make the sweep of one bucket. Raises botocore's errors."""
    outbox = Outbox(s3, options.results_bucket)
    return Sweep(
        s3=s3,
        sqs=sqs,
        queue_url=options.queue_url,
        bucket=bucket,
        our_buckets=frozenset({options.results_bucket, options.references_bucket} - {""}),
        wanted=AuditedBy(outbox, _model_of(options), options.generation)
        if options.again
        else Missing(outbox, options.generation),
        watched=[Watched(suffix=suffix) for suffix in options.suffix or []]
        or watched_by(s3, bucket, queue_arn(sqs, options.queue_url)),
        window=options.window,
        prefix=options.prefix,
    )


def _parse(arguments: list[str] | None, env: Mapping[str, str]) -> argparse.Namespace:
    """Read the options; `fault` says what is wrong with them where they are only looked at."""
    parser = argparse.ArgumentParser(
        prog="python -m events.repair.sweep",
        description="Find photos in the bucket without a result and put them on the queue.",
    )
    add = parser.add_argument
    add("--send", action="store_true", help="do it; without, only list")
    add("--check", action="store_true", help="look at options, clock, buckets and queue, and end")
    add("--bucket", action="append", help="whose photos, may be repeated ($EVENTS_BUCKETS)")
    add("--results-bucket", default=env.get("RESULTS_BUCKET", ""), help="($RESULTS_BUCKET)")
    add(
        "--queue-url",
        type=standard_queue,
        default=env.get("QUEUE_URL", ""),
        help="where to ($QUEUE_URL)",
    )
    add("--prefix", default="", help="only photos whose keys start so")
    add("--suffix", action="append", help="may be repeated (what the bucket's rule watches)")
    add_window(parser, "photos uploaded", OLDER_THAN)
    add("--max", type=count, default=sys.maxsize, help="as many at most (all)")
    add(
        "--max-waiting",
        type=count,
        default=MAX_WAITING,
        help="send nothing while more wait on the queue (%(default)s)",
    )
    add("--again", action="store_true", help="audit anew what --model or --revision audited last")
    add("--model", default="", help="digest of a model, as results name it: sha256:…")
    add("--revision", default="", help="of the function, as results name it: shelf-detector-00007")
    options = parser.parse_args(arguments)
    options.window = window_of(parser, options)
    options.bucket = options.bucket or names(env, "EVENTS_BUCKETS")
    options.fault = _fault_of(options, env)
    if options.fault and not options.check:
        parser.error(options.fault)
    return options


def _model_of(options: argparse.Namespace) -> dict[str, str]:
    """Say which audits `--again` is about; two revisions may have one model."""
    named = {"digest": options.model, "revision": options.revision}
    return {name: value for name, value in named.items() if value}


def _fault_of(options: argparse.Namespace, env: Mapping[str, str]) -> str:
    """Say what is wrong with the options; empty where nothing is. Reads the other settings."""
    for name, variable in (
        ("bucket", "EVENTS_BUCKETS"),
        ("results_bucket", "RESULTS_BUCKET"),
        ("queue_url", "QUEUE_URL"),
    ):
        if not getattr(options, name):
            option = f"--{name.replace('_', '-')}"
            return f"`{option}` or {variable} must be set, got neither"
    if options.again != bool(_model_of(options)):
        return "`--again` must come with --model or --revision, got one of them alone"
    if options.model and not re.fullmatch("sha256:[0-9a-f]{64}", options.model):
        return f"`--model` must be sha256: and 64 hex digits, got {options.model!r}"
    try:
        for name in options.bucket:
            checked_bucket(name, "`--bucket` or EVENTS_BUCKETS")
        checked_bucket(options.results_bucket, "`--results-bucket` or RESULTS_BUCKET")
        options.references_bucket = bucket(env, "REFERENCES_BUCKET")
        options.generation = whole_number(env, "AUDIT_GENERATION", 0, 0, MAX_GENERATION)
    except SettingError as err:
        return str(err)
    return "" if has_region() else NO_REGION


if __name__ == "__main__":
    run_to_exit(main)
