"""One image audited; and one image event, from S3 object to published result.

fetch -> detect -> store -> publish, each step repeatable: a crash anywhere is a redelivery, and a
redelivery repeats only what was not stored yet.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, cast

from botocore.exceptions import BotoCoreError, ClientError

from events.codec import Json, data_of, new_event
from events.outbox import RESULTS, Outbox
from events.s3_notification import (
    GENERATION,
    S3Object,
    audit_id,
    object_from_event,
    object_id,
    place_of,
    time_of_record,
)
from events.sns_publisher import publish
from events.trace import TraceContext, about_event, current_trace, trace_of
from events.types import DATA_SCHEMAS, IMAGE_REJECTED, SHELF_AUDITED
from function.config import Config
from function.detections import Detail, Thresholds
from function.detector import Detector, Timings
from function.doubts import find_doubts, measure
from function.errors import BucketForbidden, DependencyFailed, ImageError, InvalidReference
from function.image import MAX_IMAGE_BYTES, Header, Image, captured_at, read_header
from function.metrics import Metrics
from function.reference import Reference, compare
from function.result import AnnouncedJson, ImageJson, Rejection, Result, make_result
from function.s3 import REFERENCES, boto_config, fetch, fetch_reference, make_session
from function.shelf import audit_shelf
from function.spans import work_span
from function.tiles import closer_size, may_look_closer, plan_tiles

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
        # For both looks at once: who waits for more while it holds some may wait for good. A place
        # only once there is memory: large images must not keep ordinary ones out.
        pairs = max(thresholds.max_detections, len(reference) if reference is not None else 0) ** 2
        held = max(header.memory() + (closer.memory() if closer else 0), PAIR_BYTES * pairs)
        with detector.memory.pictures.hold(held), detector.place():
            with timings.stage("decode"):
                image = header.decode()
            look = measure(image.picture)
            detections = detector.detect(image, thresholds, timings)
            size = detector.model.input_size
            tiles = plan_tiles(image.width, image.height, size, thresholds.detail, detections)
            if tiles and closer:
                with timings.stage("decode"):
                    image = closer.decode()
            if tiles:
                detections = detector.look_closer(image, tiles, detections, thresholds, timings)
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
            look, detections, (seen["width"], seen["height"]), size, 1 + len(tiles)
        ),
        compliance=compliance,
        thresholds=thresholds,
        looks=1 + len(tiles),
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

    def audit_event(self, event: CloudEvent) -> CloudEvent | None:
        """Audit the object an event announces, and publish what was found.

        Returns the published event, None where the object is a result of ours. An image that can
        never be read ends as a rejected event. Raises `InvalidEvent`, `BucketForbidden`, or
        `TryAgain` for all that another delivery may mend.
        """
        found, name = object_from_event(event), audit_id(event)
        with about_event(name), work_span("event", trace_of(event, name)):
            if self._is_ours(found):
                log.info("image.ignored", extra={"uri": found.uri})
                return None
            if found.bucket not in self.buckets:
                msg = f"The bucket must be one of `EVENTS_BUCKETS`, got {found.bucket!r}"
                raise BucketForbidden(msg)
            try:
                return self._audit_once(event, found, name)
            except (ClientError, BotoCoreError) as err:
                log.warning("dependency.failed", extra={"uri": found.uri, "error": str(err)})
                msg = "S3 or SNS refused a call or did not answer"
                raise DependencyFailed(msg) from err

    def _is_ours(self, found: S3Object) -> bool:
        """Tell our own results and the references; auditing results would never end."""
        results = self.outbox and found.bucket == self.outbox.bucket
        references = found.bucket == self.references_bucket
        return bool(
            (results and found.key.startswith(RESULTS))
            or (references and found.key.startswith(REFERENCES))
        )

    def _audit_once(self, event: CloudEvent, found: S3Object, name: str) -> CloudEvent:
        # Not the event's own time: the SDK makes one up where there is none.
        time = time_of_record(data_of(event))
        data = self.outbox.get(name) if self.outbox else None
        known = data is not None
        if data is None:
            data = cast("Json", self._outcome(found, time))
            if self.outbox:
                data = self.outbox.put(name, data)
        generation = int(event.get_extension(GENERATION) or 0)
        audited = outgoing_event(found, name, time, data, current_trace(), generation)
        log.info(
            "image.done",
            extra={"uri": found.uri, "type": audited.get_type(), "known": known},
        )
        if not (known and self.outbox and self.outbox.is_published(name)):
            self._publish(audited, name)
        return audited

    def _outcome(self, found: S3Object, uploaded: datetime) -> Result | Rejection:
        """Audit the object, or say why that will never be possible."""
        try:
            announced = MAX_IMAGE_BYTES if found.size is None else min(found.size, MAX_IMAGE_BYTES)
            with self.detector.memory.bodies.hold(announced):
                data, reference = self._fetch(found), self._reference(found)
                return audit_image(
                    data,
                    self.detector,
                    self.thresholds,
                    self.metrics,
                    found.uri,
                    reference,
                    uploaded,
                )
        except ImageError as err:
            image: AnnouncedJson = {"uri": found.uri}
            if found.size is not None:
                image["bytes"] = found.size
            return {"image": image, "reason": err.problem()}

    def _fetch(self, found: S3Object) -> bytes:
        try:
            return fetch(self.s3, found)
        except ImageError as err:
            self.metrics.images.labels(err.slug).inc()
            raise

    def _reference(self, found: S3Object) -> Reference | None:
        """Find how the shelf of an image's folder should stand, if anybody has said so.

        A reference that cannot be read is told to who runs the service; the photo is audited all
        the same.
        """
        folder = found.key.rpartition("/")[0]
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

    def _publish(self, event: CloudEvent, name: str) -> None:
        if not (self.sns and self.topic_arn):
            return
        data_uri = self.outbox.uri(name) if self.outbox else ""
        message_id = publish(event, self.sns, self.topic_arn, data_uri)
        self.metrics.published.labels(event.get_type()).inc()
        log.info("event.published", extra={"message_id": message_id})
        if self.outbox:
            self._mark_published(name)

    def _mark_published(self, name: str) -> None:
        try:
            cast("Outbox", self.outbox).mark_published(name)
        except (ClientError, BotoCoreError) as err:
            # It only saves a second publish; the event is out.
            log.warning("event.not_marked", extra={"error": str(err)})


def outgoing_event(
    found: S3Object,
    name: str,
    time: datetime,
    data: Json,
    trace: TraceContext | None = None,
    generation: int = 0,
) -> CloudEvent:
    """Wrap an audit's data in its event; equal data and cause give an equal event.

    `reason` in the data tells a rejection from an audit; `time` is when the object was created.
    `photo` is the same in all audits of one version of one object.
    """
    store, camera = place_of(found.key)
    event_type = IMAGE_REJECTED if "reason" in data else SHELF_AUDITED
    attributes = {
        "id": name,
        "source": f"urn:shelfwatch:s3:{found.bucket}",
        "type": event_type,
        "dataschema": DATA_SCHEMAS[event_type],
        "subject": found.key,
        "store": store,
        "camera": camera,
        "photo": object_id(found),
    }
    present = {key: value for key, value in attributes.items() if value}
    if trace:
        present |= trace.attributes()
    return new_event({**present, "time": time, GENERATION: generation}, data)


def make_auditor(config: Config, detector: Detector, metrics: Metrics) -> Auditor | None:
    """Build what answers events; None where no bucket may be read. Raises `ConfigError`."""
    if not config.events_buckets:
        return None
    session, settings = make_session(), boto_config()
    s3 = session.client("s3", config=settings)
    return Auditor(
        detector=detector,
        thresholds=config.thresholds,
        metrics=metrics,
        s3=s3,
        buckets=config.events_buckets,
        outbox=Outbox(s3, config.results_bucket) if config.results_bucket else None,
        sns=session.client("sns", config=settings) if config.topic_arn else None,
        topic_arn=config.topic_arn,
        references_bucket=config.references_bucket,
    )
