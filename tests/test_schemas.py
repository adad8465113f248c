"""The published schemas of the events' data: every emitted event fits, and none says less."""

import json

import pytest
from conftest import GOOD_SAMPLE, ROOT
from jsonschema import Draft202012Validator, ValidationError

from events.types import IMAGE_REJECTED, SHELF_AUDITED
from function.audit import audit_image
from function.detections import Thresholds
from function.detector import Detector
from function.errors import ImageCorrupt
from function.metrics import Metrics

TYPES = [SHELF_AUDITED, IMAGE_REJECTED]


def schema(event_type: str) -> dict[str, object]:
    name = event_type.removeprefix("io.shelfwatch.")
    loaded: dict[str, object] = json.loads((ROOT / "events" / f"{name}.schema.json").read_text())
    return loaded


def strict(part: object) -> object:
    """Refuse fields the schema does not know: consumers ignore them, we do not add them unsaid."""
    if isinstance(part, list):
        return [strict(item) for item in part]
    if not isinstance(part, dict):
        return part
    closed = {key: strict(value) for key, value in part.items()}
    return {"additionalProperties": False, **closed} if "properties" in part else closed


def validate(event_type: str, data: object) -> None:
    """Raise `ValidationError` for data that does not fit, also by a field too many."""
    Draft202012Validator(strict(schema(event_type))).validate(data)  # type: ignore[arg-type]


@pytest.mark.parametrize("event_type", TYPES)
def test_the_schema_is_one_and_wants_something(event_type: str) -> None:
    Draft202012Validator.check_schema(schema(event_type))
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
    data = {"image": {"uri": "s3://b/k", "bytes": 3}, "reason": ImageCorrupt("cut").problem()}
    validate(IMAGE_REJECTED, data)
    del data["image"]["bytes"]
    validate(IMAGE_REJECTED, data)
