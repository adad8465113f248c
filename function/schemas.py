"""JSON Schemas of what the function answers and publishes, composed from the types in `result`.

`python -m function.schemas` writes those of the events to events/*.schema.json.
"""

from __future__ import annotations

import json
from functools import cache
from inspect import getdoc
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from events.types import DATA_SCHEMAS, IMAGE_REJECTED, SHELF_AUDITED
from function.result import Rejection, Result

ROOT = Path(__file__).resolve().parent.parent
OPENAPI = Path(__file__).parent / "openapi.json"  # all but what is composed here
TYPES = {SHELF_AUDITED: Result, IMAGE_REJECTED: Rejection}
NAMES = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}

Json = dict[str, object]


def schema_of(annotation: object) -> Json:
    """Compose the JSON Schema of a type made of TypedDicts, lists, dicts, words and plain values.

    A TypedDict's first paragraph is its description; a dictionary in `Annotated` adds to the
    schema. Raises `TypeError` for any other type.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        added = [extra for extra in arguments[1:] if isinstance(extra, dict)]
        return {**schema_of(arguments[0]), **{k: v for extra in added for k, v in extra.items()}}
    if origin is NotRequired:
        return schema_of(arguments[0])
    if origin in (Union, UnionType):
        return _any_of([schema_of(argument) for argument in arguments])
    if origin is Literal:
        return {"type": "string", "enum": list(arguments)}
    if origin is list:
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin is dict and arguments[0] is str:
        return {"type": "object", "additionalProperties": schema_of(arguments[1])}
    if is_typeddict(annotation):
        return _of_typed_dict(annotation)
    if isinstance(annotation, type) and annotation in NAMES:
        return {"type": NAMES[annotation]}
    msg = f"{annotation!r} has no JSON Schema"
    raise TypeError(msg)


def event_schema(event_type: str) -> Json:
    """Compose the schema of an event's data; its `$id` is the event's `dataschema`."""
    schema = schema_of(TYPES[event_type])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": DATA_SCHEMAS[event_type],
        "title": f"Data of {event_type}",
        **schema,
        "description": f"{schema['description']} Consumers must ignore fields they do not know.",
    }


@cache
def openapi() -> Json:
    """Read the OpenAPI document, with the schema of the result in its place."""
    document: dict[str, Any] = json.loads(OPENAPI.read_bytes())
    document["components"]["schemas"]["Result"] = schema_of(Result)
    return document


def version() -> str:
    """Return the release's version, which is the API's."""
    info: Any = openapi()["info"]
    return str(info["version"])


def _of_typed_dict(annotation: object) -> Json:
    hints = get_type_hints(annotation, include_extras=True)
    return {
        "description": " ".join((getdoc(annotation) or "").split("\n\n")[0].split()),
        "type": "object",
        "properties": {name: schema_of(hint) for name, hint in hints.items()},
        "required": [name for name, hint in hints.items() if get_origin(hint) is not NotRequired],
    }


def _any_of(schemas: list[Json]) -> Json:
    """Join plain types into one list of types, as `number` or `null`."""
    types = [schema["type"] for schema in schemas]
    return {**{key: value for schema in schemas for key, value in schema.items()}, "type": types}


def main() -> None:
    """Write the schemas of the events."""
    for event_type in TYPES:
        name = event_type.removeprefix("io.shelfwatch.")
        path = ROOT / "events" / f"{name}.schema.json"
        path.write_text(json.dumps(event_schema(event_type), indent=2) + "\n")
        print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
