"""The result: its JSON, and the schemas that are composed from its types."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import numpy as np
import pytest
from conftest import GOOD_SAMPLE

from events.types import SHELF_AUDITED
from function import schemas
from function.audit import audit_image
from function.detections import Detections, Thresholds
from function.detector import Detector
from function.metrics import Metrics
from function.result import detections_json

ROOT = Path(__file__).parent.parent


def some(count: int) -> Detections:
    xyxy = np.array([[10.04, 20.06, 30, 40]] * count, np.float32).reshape(-1, 4)
    return Detections(
        xyxy=xyxy,
        confidence=np.full(count, 0.912345, np.float32),
        class_id=np.zeros(count, np.int64),
    )


@pytest.mark.parametrize("count", [0, 1, 3])
def test_detections_become_plain_json(count: int) -> None:
    detections = some(count)
    expected = {
        "label": "product",
        "class_id": 0,
        "confidence": 0.9123,
        "xyxy": [10.0, 20.1, 30.0, 40.0],
        "row": 2,
    }
    rows = np.full(count, 2)
    written = detections_json(detections, rows, {0: "product"})
    assert json.loads(json.dumps(written)) == [expected] * count
    assert len(detections) == count


def test_a_class_without_a_name_is_called_by_its_number() -> None:
    assert detections_json(some(1), np.zeros(1, np.int64), {})[0]["label"] == "0"


class Part(TypedDict):
    """A part.

    More of it.
    """

    share: Annotated[float | None, {"minimum": 0}]


class Whole(TypedDict):
    """A whole."""

    parts: list[Part]
    by_name: NotRequired[dict[str, int]]


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (str, {"type": "string"}),
        (Annotated[int, {"minimum": 1}], {"type": "integer", "minimum": 1}),
        (list[bool], {"type": "array", "items": {"type": "boolean"}}),
        (
            Whole,
            {
                "description": "A whole.",
                "type": "object",
                "properties": {
                    "parts": {
                        "type": "array",
                        "items": {
                            "description": "A part.",
                            "type": "object",
                            "properties": {"share": {"type": ["number", "null"], "minimum": 0}},
                            "required": ["share"],
                        },
                    },
                    "by_name": {"type": "object", "additionalProperties": {"type": "integer"}},
                },
                "required": ["parts"],
            },
        ),
    ],
)
def test_a_type_has_the_schema_that_its_fields_say(annotation: object, schema: object) -> None:
    assert schemas.schema_of(annotation) == schema


def test_a_type_without_a_schema_is_named() -> None:
    with pytest.raises(TypeError, match="bytes"):
        schemas.schema_of(dict[str, bytes])


@pytest.mark.parametrize("event_type", schemas.TYPES)
def test_the_schema_files_of_events_are_written_from_the_types(event_type: str) -> None:
    """`make schemas` writes them."""
    name = event_type.removeprefix("io.shelfwatch.")
    written = (ROOT / "events" / f"{name}.schema.json").read_text()
    assert json.loads(written) == schemas.event_schema(event_type)


def fields(schema: Any) -> list[str]:
    return list(schema["properties"])


def disagreeing(answered: Iterable[str], openapi: list[str], event: list[str]) -> set[str]:
    """Name the fields that one of answer, OpenAPI and event schema lacks."""
    places = [set(answered), set(openapi) - {"compliance"}, set(event) - {"compliance"}]
    return set.union(*places) - places[0].intersection(*places)


def test_a_field_is_in_the_answer_in_openapi_and_in_the_events_schema(detector: Detector) -> None:
    answered = audit_image(GOOD_SAMPLE.read_bytes(), detector, Thresholds(), Metrics())
    document: Any = schemas.openapi()
    openapi = fields(document["components"]["schemas"]["Result"])
    event = fields(schemas.event_schema(SHELF_AUDITED))
    assert disagreeing(answered, openapi, event) == set()
    assert [name for name in openapi if name in answered] == list(answered)  # and in its order
    # A field that one of the three forgets does not pass.
    for forgotten in answered:
        short = {name: value for name, value in answered.items() if name != forgotten}
        assert disagreeing(short, openapi, event) == {forgotten}
        rest = [name for name in openapi if name != forgotten]
        assert disagreeing(answered, rest, event) == {forgotten}
        assert disagreeing(answered, openapi, rest) == {forgotten}
