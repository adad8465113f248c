"""The thresholds that a caller chooses, in a query or among the parameters of an inference."""

from __future__ import annotations

from collections.abc import Mapping

from werkzeug.datastructures import MultiDict

from function.detections import Thresholds
from function.errors import InvalidParameter
from function.fields import check_names, read_number, read_whole

NAMES = ("confidence", "iou", "max_detections", "classes")


def read_thresholds(
    args: MultiDict[str, str], default: Thresholds, names: Mapping[int, str]
) -> Thresholds:
    """Read the query parameters; an odd, empty, repeated or unknown one is named.

    `names` are the model's classes. Raises `InvalidParameter`.
    """
    given = {name: _single(name, values) for name, values in args.lists()}
    return choose_thresholds(given, default, names)


def choose_thresholds(
    given: Mapping[str, object], default: Thresholds, names: Mapping[int, str]
) -> Thresholds:
    """Read thresholds by name, as text or as JSON values. Raises `InvalidParameter`."""
    check_names("The parameter", given, NAMES)
    return Thresholds(
        confidence=read_number("confidence", given.get("confidence", default.confidence)),
        iou=read_number("iou", given.get("iou", default.iou)),
        max_detections=read_whole(
            "max_detections", given.get("max_detections", default.max_detections)
        ),
        classes=_classes(given["classes"], names) if "classes" in given else default.classes,
    )


def _single(name: str, values: list[str]) -> str:
    if len(values) != 1:
        msg = f"{name} is {', '.join(values)!r}, not a single value"
        raise InvalidParameter(msg)
    return values[0]


def _classes(value: object, names: Mapping[int, str]) -> tuple[int, ...]:
    """Read class numbers or labels, separated by commas."""
    ids = {str(number): number for number in names} | {label: i for i, label in names.items()}
    words = value.split(",") if isinstance(value, str) else []
    unknown = [word for word in words if word.strip() not in ids]
    if unknown or not words:
        msg = f"classes is {value!r}; the model knows {', '.join(names.values())}"
        raise InvalidParameter(msg)
    return tuple(sorted({ids[word.strip()] for word in words}))
