"""The published schemas of the events' data: every emitted event fits, and none says less."""

import json

import pytest
from conftest import GOOD_SAMPLE
from jsonschema import Draft202012Validator, ValidationError
from schemas import schema_of, validate, validate_emitted

import events.sns_publisher
import function.audit
import local.subscriber
from events.codec import Json, new_event, to_json
from events.s3_notification import S3Object
from events.types import DATA_SCHEMAS, IMAGE_REJECTED, SHELF_AUDITED
from function.audit import audit_image
from function.detections import Thresholds
from function.detector import Detector
from function.errors import ImageCorrupt
from function.metrics import Metrics

TYPES = [SHELF_AUDITED, IMAGE_REJECTED]


@pytest.mark.parametrize("event_type", TYPES)
def test_the_schema_is_one_and_wants_something(event_type: str) -> None:
    Draft202012Validator.check_schema(schema_of(event_type))
    assert schema_of(event_type)["$id"] == DATA_SCHEMAS[event_type]
    assert DATA_SCHEMAS[event_type].rpartition(":")[2].isdecimal()
    with pytest.raises(ValidationError):
        validate(event_type, {})


def test_an_audit_fits_its_schema(detector: Detector) -> None:
    data = json.loads(
        json.dumps(audit_image(GOOD_SAMPLE.read_bytes(), detector, Thresholds(), Metrics()))
    )
    validate(SHELF_AUDITED, data)
    with pytest.raises(ValidationError):
        validate(SHELF_AUDITED, {**data, "count": -1})
    with pytest.raises(ValidationError):
        validate(SHELF_AUDITED, {**data, "unsaid": 1})


def test_a_rejection_fits_its_schema() -> None:
    image = {"uri": "s3://b/k", "bytes": 3}
    data = {"image": image, "reason": ImageCorrupt("cut").problem()}
    validate(IMAGE_REJECTED, data)
    del image["bytes"]
    validate(IMAGE_REJECTED, data)


def test_the_tests_hold_every_emitted_event_to_its_schema() -> None:
    """The three borders where an event leaves or reaches a test, each with data that misses."""
    found = S3Object(bucket="shelves", key="store-17/cam-2/0815.jpg", version_id="1")
    time = {"time": "2026-11-22T08:15:00+00:00"}
    data: Json = {"image": {"uri": found.uri}, "reason": ImageCorrupt("cut").problem()}
    event = function.audit.outgoing_event(found, "0", data, time)
    validate_emitted(event.get_type(), event.get_dataschema(), data)
    odd = new_event({**event.get_attributes()}, {**data, "unsaid": 1})
    with pytest.raises(ValidationError):
        function.audit.outgoing_event(found, "0", {**data, "unsaid": 1}, time)
    with pytest.raises(ValidationError):
        events.sns_publisher.attributes_of(odd)
    with pytest.raises(ValidationError):
        local.subscriber.from_json(to_json(odd))  # type: ignore[attr-defined]  # as the fixture patches it
