"""Tell which registered views no longer send: `python -m monitor.silence`, every few minutes.

Nothing is published while we are behind ourselves: photos may be waiting on a queue.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError
from sqlalchemy import select

from events.log import configure_logging
from events.settings import SettingError
from function.errors import DependencyFailed, TryAgain
from monitor.config import Config
from monitor.database import reading
from monitor.intake import ViewKey
from monitor.process_checks import check_if_asked
from monitor.register import Register, Store, View, store_of
from monitor.tables import outgoing_events, views
from monitor.watcher import BOTO_CONFIG, Watcher, make_watcher

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

log = logging.getLogger(__name__)

# Photos that did not come, of opening time; one may be late, two may have been rejected unread.
MISSED = 3
# A queue in steady work holds a few messages at any time.
MAX_WAITING = 10
WAITING: Final = "ApproximateNumberOfMessages"
DAY = timedelta(days=1)


def main(arguments: list[str] | None = None) -> int:
    """Tell new silences; return the exit code."""
    check_if_asked("monitor.silence", __doc__, arguments)
    configure_logging()
    try:
        config = Config.from_env()
        watcher = make_watcher(config)
    except SettingError as err:
        log.critical("silence.misconfigured", extra={"error": str(err)})
        return 2
    import boto3

    try:
        queues = config.watched_queues
        if queues and is_behind(boto3.client("sqs", config=BOTO_CONFIG), queues):
            return 0
        publish_silences(watcher, round(time.time() * 1000))
    except TryAgain as err:
        log.error("silence.failed", extra={"error": str(err)})
        return 1
    return 0


def is_behind(sqs: SQSClient, queue_urls: Sequence[str]) -> bool:
    """Tell whether more than a few messages wait. Raises `DependencyFailed`."""
    for url in queue_urls:
        try:
            answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[WAITING])
            waiting = int(answer["Attributes"][WAITING])
        except (ClientError, BotoCoreError) as err:
            log.warning("dependency.failed", extra={"queue_url": url, "error": str(err)})
            msg = "SQS did not do its part"
            raise DependencyFailed(msg) from err
        if waiting > MAX_WAITING:
            log.info("silence.behind", extra={"queue_url": url, "messages": waiting})
            return True
    return False


def publish_silences(watcher: Watcher, now: int) -> None:
    """Note and publish the silences of registered views, and forget others. Raises `TryAgain`."""
    unpublished = (
        select(views.c.id)
        .join(outgoing_events, outgoing_events.c.view == views.c.id)
        .where(views.c.silent_since.is_not(None), outgoing_events.c.told.is_(None))
        .distinct()
    )
    names = ("id", "bucket", "folder", "seen", "silent_since")
    with reading(watcher.store.engine) as connection:
        rows = connection.execute(select(*(views.c[name] for name in names))).all()
        left = connection.execute(unpublished.order_by(views.c.id)).scalars().all()
    for name in left:  # noted by a run that could not publish it
        watcher.publish(watcher.store.unpublished(name))
    silenced = [row for row in rows if row.silent_since is not None]
    watcher.store.forget_silences(
        row.id for row in silenced if not watcher.register.view(row.bucket, row.folder).registered
    )
    waited_for = (row for row in rows if row.seen and row.silent_since is None)
    seen = {(row.bucket, row.folder): row.seen for row in waited_for}
    for key, since in silent(watcher.register, seen, now):
        if watcher.store.note_silence(key, since, now):
            log.warning("view.silent", extra={"bucket": key.bucket, "folder": key.folder})
            watcher.publish(watcher.store.unpublished(key.id))


def silent(
    register: Register, seen: dict[tuple[str, str], int], now: int
) -> Iterator[tuple[ViewKey, int]]:
    """List the registered views that have missed photos while their store was open.

    `seen` has the last sign of life of each by bucket and folder, in milliseconds since 1970.
    """
    for (bucket, folder), last in sorted(seen.items()):
        view = register.view(bucket, folder)
        store = register.store(store_of(folder))
        if view.registered and _is_silent(store, view, last, now):
            yield ViewKey(bucket, folder), last


def _is_silent(store: Store, view: View, last: int, now: int) -> bool:
    since, here = (datetime.fromtimestamp(time / 1000, UTC) for time in (last, now))
    cadence = timedelta(minutes=view.cadence)
    if not store.is_open(here) or here - since <= MISSED * cadence:
        return False
    missed = 0.0
    for start, end in store.hours(since - DAY, here + DAY):  # so that none is cut
        passed = max(min(end, here) - max(start, since), timedelta())
        # Of opening hours shorter than the cadence each day misses one, however short it is.
        missed += passed / min(cadence, end - start)
        if missed > MISSED:
            return True
    return False


if __name__ == "__main__":
    sys.exit(main())
