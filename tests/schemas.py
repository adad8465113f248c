"""The published schemas, applied to what the service emits."""

import json
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from events.types import DATA_SCHEMAS
from local.processes import ROOT


def schema_of(event_type: str) -> dict[str, object]:
    name = event_type.removeprefix("io.shelfwatch.")
    loaded: dict[str, object] = json.loads((ROOT / "events" / f"{name}.schema.json").read_text())
    return loaded


def strict(part: Any) -> Any:
    """Refuse fields that the schema does not know: consumers ignore them, but we document each."""
    if isinstance(part, list):
        return [strict(item) for item in part]
    if not isinstance(part, dict):
        return part
    closed = {key: strict(value) for key, value in part.items()}
    return {"additionalProperties": False, **closed} if "properties" in part else closed


@cache
def _validator(event_type: str) -> Draft202012Validator:
    return Draft202012Validator(strict(schema_of(event_type)))


def validate(event_type: str, data: object) -> None:
    """Raise `ValidationError` for data that does not fit, also by a field too many."""
    _validator(event_type).validate(data)


def validate_emitted(event_type: str, dataschema: object, data: object) -> None:
    """Hold an event of ours to the schema that it names; an event without data names it, too."""
    assert dataschema == DATA_SCHEMAS[event_type]
    if data is not None:
        validate(event_type, data)
