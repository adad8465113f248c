"""One image audited; and one image event, from S3 object to published result.

fetch -> detect -> store -> publish, each step repeatable: after a crash anywhere the event comes
again, and that delivery repeats only what was not stored yet.

A notification may say less than S3 knows, or spell the key otherwise. The audit has the id of the
object that was read, so that a second notification and the sweep find it done.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, cast

from botocore.exceptions import BotoCoreError, ClientError

from events.codec import InvalidEvent, Json, data_of, new_event
from events.outbox import Outbox, Stored, make_s3_client
from events.s3_notification import (
    IgnoredRecord,
    Item,
    S3Object,
    generation_of,
    ignored_as,
    image_items,
    is_first_delivery,
    object_from_event,
    object_id,
    store_and_camera,
    time_of_record,
)
from events.sns_publisher import make_client, publish
from events.trace import about_event, current_trace, trace_of
from events.types import DATA_SCHEMAS, GENERATION, IMAGE_REJECTED, REFERENCES, SHELF_AUDITED
from function.batch import BATCH_SECONDS
from function.config import Config
from function.detections import Detail, Thresholds
from function.detector import Detector, Timings
from function.doubts import find_doubts, measure
from function.errors import (
    BucketForbidden,
    DependencyFailed,
    ImageError,
    ImageGone,
    InvalidReference,
    ShelfWatchError,
    TryAgain,
)
from function.image import MAX_IMAGE_BYTES, Header, Image, captured_at, read_header
from function.metrics import Metrics
from function.reference import Reference, compare
from function.result import AnnouncedJson, ImageJson, Rejection, Result, make_result
from function.s3 import (
    OpenObject,
    boto_config,
    failure_of,
    fetch_reference,
    make_session,
    open_object,
)
from function.shelf import audit_shelf
from function.spans import work_span
from function.tiles import closer_size, may_look_closer

if TYPE_CHECKING:
    from cloudevents.core.v1.event import CloudEvent
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sns import SNSClient

log = logging.getLogger(__name__)

# What rows and comparison take at their worst for a pair of boxes, all with all.
PAIR_BYTES = 48


def audit_image(
    data: bytes,
    detector: Detector,
    thresholds: Thresholds,
    metrics: Metrics,
    uri: str = "",
    reference: Reference | None = None,
    uploaded: datetime | None = None,
) -> Result:
    """Audit one image's bytes, and compare its shelf with a reference where there is one.

    `uploaded` is when it came into the bucket; it has a zone.
    Raises `ImageError`, `NotReady` or `Overloaded`.
    """
    timings = Timings()
    try:
        with timings.stage("decode"):
            header, closer = read_headers(data, detector.model.input_size, thresholds.detail)
        # Held until the image is let go, not just while it is decoded: it may wait for its turn.
        # For both looks at once: who waits for more while it holds some may wait for good.
        pairs = max(thresholds.max_detections, len(reference) if reference is not None else 0) ** 2
        held = max(header.memory() + (closer.memory() if closer else 0), PAIR_BYTES * pairs)
        with detector.admission.turn(detector.memory.pictures.hold(held)):
            with timings.stage("decode"):
                image = header.decode()
            look = measure(image.picture)
            # What is looked at, and how the looks are joined, hangs on no caller's thresholds.
            broad = thresholds.broad()
            detections = detector.detect(image, broad, timings)
            size = detector.model.input_size
            second = detector.plan(image, thresholds.detail, detections)
            if second.tiles and closer:
                with timings.stage("decode"):
                    image = closer.decode()
            detections = detector.look_again(image, second, detections, broad, timings)
            detections = detections.asked(thresholds)
            seen = _image_json(image, uri, uploaded)
            del image  # before the rows, which take memory of their own
            with timings.stage("audit"):
                audit = audit_shelf(detections, seen["width"], seen["height"])
                names, compliance = detector.model.products, None
                if reference is not None:
                    compliance = compare(
                        detections, names, reference, seen["width"], seen["height"]
                    )
    except ImageError as err:
        metrics.images.labels(err.slug).inc()
        raise
    metrics.images.labels("audited").inc()
    metrics.products.observe(len(detections))
    metrics.truncated.inc(detections.truncated)
    metrics.observe_stages(timings)
    return make_result(
        image=seen,
        model=detector.json(),
        names=names,
        detections=detections,
        audit=audit,
        warnings=find_doubts(
            look, detections, (seen["width"], seen["height"]), size, 1 + second.looks
        ),
        compliance=compliance,
        thresholds=thresholds,
        looks=1 + second.looks,
        timings_ms=timings,
    )


def _image_json(image: Image, uri: str, uploaded: datetime | None) -> ImageJson:
    described: ImageJson = {
        "uri": uri,
        "width": image.width,
        "height": image.height,
        "bytes": image.bytes,
        "orientation": image.orientation,
    }
    if uploaded:
        described["captured_at"] = captured_at(image.taken, uploaded).isoformat()
    return described


def read_headers(
    data: bytes, size: tuple[int, int], detail: Detail
) -> tuple[Header, Header | None]:
    """Check an image, and say how to decode it for a first look and anew for a second one.

    The second is None where there will be none, or where one decoding serves both. Raises
    `ImageError`.
    """
    header = read_header(data, size)
    if not may_look_closer(header.width, header.height, size, detail):
        return header, None
    closer = header.scaled_for(closer_size(header.width, header.height, size))
    if closer.scale == header.scale:
        return header, None
    return (closer, None) if closer.decodes_whole else (header, closer)


@dataclass(frozen=True, kw_only=True)
class Audited:
    """What is stored of one audit, or would be if there were an outbox."""

    name: str  # its id
    s3_object: S3Object  # as it was found
    stored: Stored
    known: bool  # from an earlier delivery


@dataclass(frozen=True, kw_only=True)
class Auditor:
    """Answers image events. Without an outbox or a topic, that step is left out."""

    detector: Detector
    thresholds: Thresholds
    metrics: Metrics
    s3: S3Client
    buckets: frozenset[str]
    outbox: Outbox | None = None
    sns: SNSClient | None = None
    topic_arn: str = ""
    references_bucket: str = ""

    def audit_events(self, incoming: Iterable[CloudEvent | InvalidEvent]) -> list[CloudEvent]:
        """Audit what each event of a request announces, and return what was published.

        A failure of one event holds back no other. It is raised at the end, and the next delivery
        finds the others done. Raises what `audit_event` raises, `TryAgain` before all else.
        """
        published: list[CloudEvent] = []
        failures: list[InvalidEvent | ShelfWatchError] = []
        deadline = time.monotonic() + BATCH_SECONDS
        for item in (item for event in incoming for item in image_items(event)):
            try:
                audited = self._audit_item(item)
            except (InvalidEvent, ShelfWatchError) as err:
                failures.append(err)
                # No other would fare better, or the request would outlive its time-out.
                if isinstance(err, TryAgain) and (
                    not isinstance(err, DependencyFailed) or time.monotonic() > deadline
                ):
                    break
                continue
            published += [audited] if audited else []
        if failures:
            raise next((err for err in failures if isinstance(err, TryAgain)), failures[0])
        return published

    def _audit_item(self, item: Item) -> CloudEvent | None:
        if isinstance(item, InvalidEvent):
            raise item
        if isinstance(item, IgnoredRecord):
            self._ignore(item)
            return None
        return self.audit_event(item)

    def audit_event(self, event: CloudEvent) -> CloudEvent | None:
        """Audit the object an event announces, and publish the result.

        Returns the published event, None where the object is no photo. An image that can never be
        read ends as a rejected event. Raises `InvalidEvent`, `BucketForbidden`, `ImageArchived`,
        or `TryAgain` for all that another delivery may mend.
        """
        announced, generation = object_from_event(event), generation_of(event)
        name = object_id(announced, generation)
        with about_event(name), work_span("event", trace_of(event, name)):
            if kind := ignored_as(announced, self._our_buckets):
                self._ignore(IgnoredRecord(kind, announced.uri))
                return None
            if announced.bucket not in self.buckets:
                msg = f"The bucket must be one of `EVENTS_BUCKETS`, got {announced.bucket!r}"
                raise BucketForbidden(msg)
            try:
                return self._audit_once(event, announced, generation)
            except (ClientError, BotoCoreError) as err:
                log.warning("dependency.failed", extra={"uri": announced.uri, "error": str(err)})
                raise failure_of(err) from err

    @property
    def _our_buckets(self) -> set[str]:
        return {self.references_bucket, self.outbox.bucket if self.outbox else ""} - {""}

    def _ignore(self, record: IgnoredRecord) -> None:
        log.info("record.ignored", extra={"kind": record.kind.value, "uri": record.uri})
        self.metrics.images.labels("ignored").inc()

    def _audit_once(
        self, event: CloudEvent, announced: S3Object, generation: int
    ) -> CloudEvent | None:
        # Not the event's own time: the SDK makes one up where there is none.
        attributes = {"time": time_of_record(data_of(event)).isoformat()}
        if trace := current_trace():
            attributes |= trace.attributes()
        audited = self._find(announced, generation, attributes, is_first_delivery(event))
        if audited is None:
            log.info("image.known", extra={"uri": announced.uri})
            return None
        with about_event(audited.name):
            outgoing = outgoing_event(
                audited.s3_object,
                audited.name,
                audited.stored.data,
                audited.stored.attributes or attributes,
                generation,
            )
            log.info(
                "image.done",
                extra={
                    "uri": audited.s3_object.uri,
                    "type": outgoing.get_type(),
                    "known": audited.known,
                },
            )
            if not (audited.known and self.outbox and self.outbox.is_published(audited.name)):
                gone = audited.name == gone_id(announced, generation)
                others = set() if gone else {object_id(announced, generation)}
                self._publish(outgoing, {audited.name} | others)
        return outgoing

    def _find(
        self, announced: S3Object, generation: int, attributes: dict[str, str], first: bool
    ) -> Audited | None:
        """Find or make the audit of the object under whichever key it has; it may be gone.

        None where the notification was answered under another id, and the object went after that.
        A `first` delivery hardly ever has a stored result, so none is looked for; `_store` finds
        one that is there.
        """
        for spelling in announced.spellings():
            if not ignored_as(spelling, self._our_buckets) and (
                audited := self._find_one(spelling, generation, attributes, first)
            ):
                return audited
        if self.outbox and self.outbox.is_published(object_id(announced, generation)):
            return None
        name = gone_id(announced, generation)
        if known := self._known(name, announced):
            return known
        err = ImageGone(f"{announced.uri} is gone")
        self.metrics.images.labels(err.slug).inc()
        return self._store(name, announced, _rejection(announced, err), attributes)

    def _find_one(
        self, announced: S3Object, generation: int, attributes: dict[str, str], first: bool
    ) -> Audited | None:
        """Find or make the audit of the object under this key; None where it is not there."""
        announced_name = object_id(announced, generation)
        if not first and (known := self._known(announced_name, announced)):
            return known
        try:
            opened = open_object(self.s3, announced)
        except ImageGone:
            return self._known(announced_name, announced) if first else None
        s3_object = opened.s3_object
        name = object_id(s3_object, generation)
        # The notification did not say all, and another one may have said more.
        if name != announced_name and (known := self._known(name, s3_object)):
            opened.body.close()
            return known
        uploaded = datetime.fromisoformat(attributes["time"])
        return self._store(name, s3_object, self._outcome(opened, uploaded), attributes)

    def _known(self, name: str, s3_object: S3Object) -> Audited | None:
        """Find the audit of that id from an earlier delivery."""
        stored = self.outbox.get(name) if self.outbox else None
        if stored is None:
            return None
        return Audited(name=name, s3_object=s3_object, stored=stored, known=True)

    def _store(
        self,
        name: str,
        s3_object: S3Object,
        outcome: Result | Rejection,
        attributes: dict[str, str],
    ) -> Audited:
        made = Stored(cast("Json", outcome), attributes)
        stored = self.outbox.put(name, made) if self.outbox else made
        return Audited(name=name, s3_object=s3_object, stored=stored, known=stored is not made)

    def _outcome(self, opened: OpenObject, uploaded: datetime) -> Result | Rejection:
        """Audit the object, or say why that will never be possible."""
        s3_object = opened.s3_object
        try:
            size = s3_object.size or MAX_IMAGE_BYTES  # nobody may have said it
            with self.detector.memory.bodies.hold(min(size, MAX_IMAGE_BYTES)):
                data, reference = self._read(opened), self._reference(s3_object)
                return audit_image(
                    data,
                    self.detector,
                    self.thresholds,
                    self.metrics,
                    s3_object.uri,
                    reference,
                    uploaded,
                )
        except ImageError as err:
            return _rejection(s3_object, err)

    def _read(self, opened: OpenObject) -> bytes:
        try:
            return opened.read()
        except ImageError as err:
            self.metrics.images.labels(err.slug).inc()
            raise

    def _reference(self, s3_object: S3Object) -> Reference | None:
        """Find how the shelf of an image's folder should stand, if anybody has said so.

        A reference that cannot be read is logged for who runs the service; the photo is audited
        all the same.
        """
        folder = s3_object.key.rpartition("/")[0]
        if not (self.references_bucket and folder):
            return None
        uri = f"s3://{self.references_bucket}/{REFERENCES}{folder}.json"
        try:
            reference = fetch_reference(self.s3, self.references_bucket, folder)
        except InvalidReference as err:
            log.error("reference.invalid", extra={"uri": uri, "error": str(err)})
            self.metrics.references.labels("invalid").inc()
            return None
        self.metrics.references.labels("absent" if reference is None else "used").inc()
        return reference

    def _publish(self, event: CloudEvent, names: set[str]) -> None:
        """Publish, and note it under the audit's id and that of the notification."""
        if not (self.sns and self.topic_arn):
            return
        data_uri = self.outbox.uri(event.get_id()) if self.outbox else ""
        message_id = publish(event, self.sns, self.topic_arn, data_uri)
        self.metrics.published.labels(event.get_type()).inc()
        log.info("event.published", extra={"message_id": message_id})
        if self.outbox:
            for name in sorted(names):
                self._mark_published(name)

    def _mark_published(self, name: str) -> None:
        try:
            cast("Outbox", self.outbox).mark_published(name)
        except (ClientError, BotoCoreError) as err:
            # It only saves a second publish; the event is out.
            log.warning("event.not_marked", extra={"error": str(err)})


def gone_id(announced: S3Object, generation: int) -> str:
    """Name the audit of an object that is not there.

    The same bytes under the same key have the same id in a bucket without versions. Whoever
    announces them early, or puts them anew after they were deleted, must not find their audit
    answered: so the absence has an id of its own there.
    """
    absent = announced if announced.version_id else replace(announced, etag=f"-{announced.etag}")
    return object_id(absent, generation)


def outgoing_event(
    s3_object: S3Object,
    name: str,
    data: Json,
    attributes: Mapping[str, str],
    generation: int = 0,
) -> CloudEvent:
    """Wrap an audit's data in its event; equal data and attributes give an equal event.

    `reason` in the data tells a rejection from an audit. `attributes` holds `time`, when the object
    was created, and what the trace adds. `photo` is the same in all audits of one version of one
    object.
    """
    store, camera = store_and_camera(s3_object.key)
    event_type = IMAGE_REJECTED if "reason" in data else SHELF_AUDITED
    named = {
        "id": name,
        "source": f"urn:shelfwatch:s3:{s3_object.bucket}",
        "type": event_type,
        "dataschema": DATA_SCHEMAS[event_type],
        "subject": s3_object.key,
        "store": store,
        "camera": camera,
        "photo": object_id(s3_object),
    }
    present = {key: value for key, value in {**named, **attributes}.items() if value}
    time = datetime.fromisoformat(attributes["time"])
    return new_event({**present, "time": time, GENERATION: generation}, data)


def _rejection(s3_object: S3Object, err: ImageError) -> Rejection:
    image: AnnouncedJson = {"uri": s3_object.uri}
    if s3_object.size is not None:
        image["bytes"] = s3_object.size
    return {"image": image, "reason": err.problem()}


def make_auditor(config: Config, detector: Detector, metrics: Metrics) -> Auditor | None:
    """Build the auditor of events; None where no bucket may be read. Raises `SettingError`."""
    if not config.events_buckets:
        return None
    session, settings = make_session(), boto_config()
    s3 = make_s3_client(session, settings)
    return Auditor(
        detector=detector,
        thresholds=config.thresholds,
        metrics=metrics,
        s3=s3,
        buckets=config.events_buckets,
        outbox=Outbox(s3, config.results_bucket) if config.results_bucket else None,
        sns=make_client(session, settings) if config.topic_arn else None,
        topic_arn=config.topic_arn,
        references_bucket=config.references_bucket,
    )
