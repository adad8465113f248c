"""One event of the function, from its arrival to the events of what it changed.

read -> keep and fold -> publish, each step repeatable: after a crash anywhere the redelivery finds
done what was done, and publishes what was not published yet.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Condition
from typing import TYPE_CHECKING

from botocore.config import Config as BotoConfig
from botocore.exceptions import BotoCoreError, ClientError

from events.codec import InvalidEvent, Json, data_of, read_json, shown
from events.settings import NO_REGION, SettingError
from events.sns_publisher import make_client, publish
from events.trace import about_event, trace_of, traced
from events.types import RESULTS
from function.errors import BucketForbidden, DependencyFailed
from monitor.config import Config
from monitor.database import open_database
from monitor.intake import check_type, photo_of, read_audit, reason_of, uploaded_at, view_key
from monitor.messages import new_monitor_event
from monitor.metrics import Metrics
from monitor.register import Register
from monitor.store import OutgoingEvent, Store

if TYPE_CHECKING:
    from cloudevents.core.v1.event import CloudEvent
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sns import SNSClient

log = logging.getLogger(__name__)

# An audit of 3000 products has 400 kB.
MAX_RESULT_BYTES = 4 * 1024 * 1024
# Events that are remembered as told: more than are folded while others are published.
REMEMBERED = 10_000
# Three tries fit into the source's 55 s.
BOTO_CONFIG = BotoConfig(
    connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3}
)
# How long an event is left to another that is telling it; the source waits 55 s in all.
LEFT_SECONDS = 5.0


class Told:
    """Which events this process is telling or has told, so that it tells none twice.

    Photos of a view come at once, and whoever folds the next one finds the events of the one before
    unmarked while they are on their way. It waits to see what becomes of them, and tells what the
    other could not, or does not get done: a repetition is better than a loss.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._telling: set[str] = set()
        self._told: dict[str, None] = {}  # the oldest first

    def begin(self, events: Sequence[OutgoingEvent]) -> tuple[list[OutgoingEvent], list[str]]:
        """Wait for those that others tell; choose what is left to tell, and list what is told."""
        names = {entry.id for entry in events}
        with self._changed:
            self._changed.wait_for(lambda: names.isdisjoint(self._telling), LEFT_SECONDS)
            told = [entry.id for entry in events if entry.id in self._told]
            mine = [entry for entry in events if entry.id not in self._told]
            self._telling.update(entry.id for entry in mine)
            return mine, told

    def end(self, mine: Sequence[OutgoingEvent], told: Sequence[str]) -> None:
        """Let others tell what was begun and not told."""
        with self._changed:
            self._telling.difference_update(entry.id for entry in mine)
            self._told.update(dict.fromkeys(told))
            while len(self._told) > REMEMBERED:
                del self._told[next(iter(self._told))]
            self._changed.notify_all()


@dataclass(frozen=True, kw_only=True)
class Watcher:
    """Takes in events. Publishes nothing without a topic, follows no `dataref` without S3."""

    store: Store
    register: Register
    metrics: Metrics
    s3: S3Client | None = None
    results_bucket: str = ""
    sns: SNSClient | None = None
    topic_arn: str = ""
    told: Told = field(default_factory=Told, repr=False, compare=False)

    def take(self, event: CloudEvent) -> None:
        """Take in one event, and publish what it changed.

        Raises `InvalidEvent`, `BucketForbidden`, or `TryAgain` for all that another delivery may
        mend.
        """
        name = event.get_id()
        with about_event(name), traced(trace_of(event, name)):
            started = time.monotonic()
            key = view_key(event)
            uploaded = uploaded_at(event)
            if check_type(event):
                view = self.register.view(key.bucket, key.folder)
                incoming = read_audit(event, self._data_of(event), view)
                events = self.store.take_audit(key, incoming)
            else:
                reason = reason_of(event)
                events = self.store.take_rejection(key, photo_of(event), reason, uploaded)
            self.publish(events)
            self.metrics.events.labels(event.get_type()).inc()
            self.metrics.event_seconds.observe(time.monotonic() - started)
            self.metrics.lag.set(max(0.0, time.time() - uploaded / 1000))

    def unmute(self, episode: str, now: int) -> bool:
        """Take back that an episode is no gap, and publish what was not meanwhile.

        False where there is no such episode. What cannot be published waits for the next event of
        the view: the person who asked is no longer needed. Raises `StoreAway`.
        """
        events = self.store.unmute(episode, now)
        if events:
            with suppress(DependencyFailed):  # logged
                self.publish(events)
        return events is not None

    def publish(self, events: Sequence[OutgoingEvent]) -> None:
        """Publish events that nobody has published, and mark them so.

        Raises `DependencyFailed` or `StoreAway`.
        """
        mine, published = self.told.begin(events)
        try:
            for entry in mine:
                if self.sns and self.topic_arn:
                    event = new_monitor_event(entry.id, entry.type, entry.time, entry.data)
                    publish(event, self.sns, self.topic_arn)
                    self.metrics.published.labels(entry.type).inc()
                    log.info("event.published", extra={"id": entry.id, "type": entry.type})
                published.append(entry.id)
        except (ClientError, BotoCoreError) as err:
            log.warning("dependency.failed", extra={"error": str(err)})
            msg = "SNS did not do its part"
            raise DependencyFailed(msg) from err
        finally:
            self.told.end(mine, published)
            self.store.mark_published(published, round(time.time() * 1000))

    def _data_of(self, event: CloudEvent) -> Json:
        uri = event.get_extension("dataref")
        return self._claimed(str(uri)) if uri else data_of(event)

    def _claimed(self, uri: str) -> Json:
        """Read the data of an event that was too large for the topic."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        ours = uri.startswith("s3://") and bucket == self.results_bucket
        if not (self.s3 and ours and self.results_bucket and key.startswith(RESULTS)):
            msg = f"dataref must name an object below {RESULTS} of RESULTS_BUCKET, got {shown(uri)}"
            raise BucketForbidden(msg)
        try:
            answer = self.s3.get_object(Bucket=self.results_bucket, Key=key)
            body = answer["Body"].read(MAX_RESULT_BYTES + 1)
        except (ClientError, BotoCoreError) as err:
            if isinstance(err, self.s3.exceptions.NoSuchKey):
                msg = f"{uri} is gone"
                raise InvalidEvent(msg) from err
            log.warning("dependency.failed", extra={"uri": uri, "error": str(err)})
            msg = "S3 did not do its part"
            raise DependencyFailed(msg) from err
        if len(body) > MAX_RESULT_BYTES:
            msg = f"{uri} must have at most {MAX_RESULT_BYTES} bytes, got {answer['ContentLength']}"
            raise InvalidEvent(msg)
        data = read_json(body)
        if not isinstance(data, dict):
            msg = f"{uri} must hold a JSON object, got {shown(data)}"
            raise InvalidEvent(msg)
        return data


def make_watcher(config: Config) -> Watcher:
    """Make the watcher. Raises `SettingError`."""
    try:
        engine = open_database(config.database_url)
    except ValueError as err:
        raise SettingError(str(err)) from err
    metrics = Metrics()
    s3 = sns = None
    if (
        config.results_bucket
        or config.topic_arn
        or config.digest_topic_arn
        or config.watched_queues
    ):
        import boto3

        session = boto3.Session()
        if not session.region_name:
            raise SettingError(NO_REGION)
        s3 = session.client("s3", config=BOTO_CONFIG) if config.results_bucket else None
        sns = make_client(session, BOTO_CONFIG) if config.topic_arn else None
    return Watcher(
        store=Store(engine, config.rules, config.keep_days),
        register=config.register,
        metrics=metrics,
        s3=s3,
        results_bucket=config.results_bucket,
        sns=sns,
        topic_arn=config.topic_arn,
    )
