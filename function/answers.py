"""Results as HTTP responses; errors have their own place, `problems`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from flask import Response, jsonify

from events.codec import BATCHED, STRUCTURED, Json, to_json
from function.batch import audit_batch
from function.errors import NotAcceptable
from function.image import read_header
from function.inputs import JSON, Picture
from function.pixel_budget import PixelBudget
from function.problems import PROBLEM_JSON
from function.render import draw_audit, encode
from function.result import Result
from function.uploads import RETRY_SECONDS

if TYPE_CHECKING:
    from cloudevents.core.v1.event import CloudEvent


def answer_pictures(
    pictures: list[Picture],
    audit: Callable[[Picture], Result],
    media_type: str,
    budget: PixelBudget,
) -> Response:
    """Answer one picture with its result, as JSON or drawn, and several with all their outcomes.

    Raises `NotAcceptable` where several should be drawn into one.
    """
    if len(pictures) > 1 and media_type != JSON:
        msg = f"The answer to {len(pictures)} images must be {JSON}, got Accept: {media_type}"
        raise NotAcceptable(msg)
    if len(pictures) > 1:
        return jsonify(audit_batch(pictures, audit))
    result = audit(pictures[0])
    if media_type == JSON:
        return jsonify(result)
    header = read_header(pictures[0].data)
    with budget.hold(header.pixels_to_decode()):
        drawn = encode(draw_audit(header.decode().pixels, result), media_type)
    return Response(drawn, content_type=media_type)


def answer_stored(data: Json | None) -> Response:
    """Answer with a stored result, with the problem of a rejected photo, or with 202 meanwhile."""
    if data is None:
        response = jsonify(status="on its way")
        response.status_code = 202
        response.headers["Retry-After"] = str(RETRY_SECONDS)
        return response
    reason = data.get("reason")
    if not isinstance(reason, dict):
        return jsonify(data)
    response = jsonify(reason)
    response.status_code = reason["status"]
    response.content_type = PROBLEM_JSON
    return response


def answer_events(events: list[CloudEvent], mimetype: str) -> Response:
    """Answer with the events, where no topic takes them, in the mode they came in."""
    if not events:
        return Response(status=204)
    if mimetype == BATCHED or len(events) > 1:  # one SQS message may tell of more
        body = b"[" + b",".join(map(to_json, events)) + b"]"
        return Response(body, content_type=BATCHED)
    return Response(to_json(events[0]), content_type=STRUCTURED)
