"""Send each store its open gaps in plain words, at its own hours: `python -m monitor.digest`

Run it hourly. It goes to a topic of its own, so that an e-mail subscription is readable; without
one it is printed.
"""

from __future__ import annotations

import logging
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from events.log import configure_logging
from events.settings import SettingError
from function.errors import TryAgain
from monitor.config import Config
from monitor.database import writing
from monitor.process_checks import check_if_asked
from monitor.queries import read_store
from monitor.register import Register, Store
from monitor.store import put
from monitor.tables import digests
from monitor.watcher import BOTO_CONFIG, make_watcher
from monitor.words import digest

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient
    from sqlalchemy import Engine

log = logging.getLogger(__name__)

HOUR = timedelta(hours=1)
EPOCH = datetime(1970, 1, 1)  # by a store's own clock
MAX_SUBJECT = 99  # https://docs.aws.amazon.com/sns/latest/api/API_Publish.html: ASCII, under 100


def main(arguments: list[str] | None = None) -> int:
    """Send the digests of this hour; return the exit code."""
    check_if_asked("monitor.digest", __doc__, arguments)
    configure_logging()
    try:
        config = Config.from_env()
        engine = make_watcher(config).store.engine
    except SettingError as err:
        log.critical("digest.misconfigured", extra={"error": str(err)})
        return 2
    now = round(time.time() * 1000)
    sns = None
    if config.digest_topic_arn:
        import boto3

        sns = boto3.client("sns", config=BOTO_CONFIG)  # a transaction waits for it
    failed = False
    for store in due_stores(config.register, now):
        try:
            send(engine, config.register, store, now, sns, config.digest_topic_arn)
        except (TryAgain, ClientError, BotoCoreError) as err:  # the other stores get theirs
            log.error("digest.failed", extra={"store": store.key, "error": str(err)})
            failed = True
    return int(failed)


def due_stores(register: Register, now: int) -> list[Store]:
    """List the stores that want a digest at this hour of theirs, or at one their clock skips."""
    here = datetime.fromtimestamp(now / 1000, UTC)
    return [
        store for store in register.stores.values() if _hours(store, here) & {*store.digest_hours}
    ]


def _hours(store: Store, now: datetime) -> set[int]:
    """List the hours that a store's clock has begun since an hour ago, and the one it is in."""
    first, last = local_hour(store, now - HOUR), local_hour(store, now)
    return {hour % 24 for hour in (*range(first + 1, last), last)}


def local_hour(store: Store, now: datetime) -> int:
    """Count the hours since 1970 by a store's own clock; one that comes twice is one."""
    return (now.astimezone(store.zone).replace(tzinfo=None) - EPOCH) // HOUR


def send(
    engine: Engine, register: Register, store: Store, now: int, sns: SNSClient | None, topic: str
) -> bool:
    """Send one store's digest unless this hour's is out; tell whether it was sent.

    It is noted in the transaction in which it is sent: a crash between the two costs a duplicate.
    Raises `StoreAway` and botocore's errors.
    """
    page = read_store(engine, register, store.key, now, 1)
    assert page is not None  # it is registered
    subject, words = digest(page, now)
    hour = local_hour(store, datetime.fromtimestamp(now / 1000, UTC))
    with writing(engine) as connection:
        row = {"store": store.key, "hour": hour}
        if not put(connection, digests, ["store", "hour"], [row], keep=True):
            return False
        if sns is None:
            print(words, flush=True)
        else:
            plain = subject.encode("ascii", "replace").decode()[:MAX_SUBJECT]
            sns.publish(TopicArn=topic, Subject=plain, Message=words)
    log.info("digest.sent", extra={"store": store.key})
    return True


if __name__ == "__main__":
    sys.exit(main())
