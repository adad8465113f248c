"""Results as HTTP responses; errors have their own place, `problems`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from flask import Response, jsonify

from events.codec import BATCHED, STRUCTURED, Json, to_json
from function.batch import audit_batch
from function.errors import NotAcceptable
from function.image import read_header
from function.inputs import JSON, Picture
from function.memory_budget import Memory
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
    memory: Memory,
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
    return _drawn(pictures[0], result, media_type, memory)


def _drawn(picture: Picture, result: Result, media_type: str, memory: Memory) -> Response:
    """Draw a result; the answer's bytes are held until it is sent, or its reader is gone."""
    header = read_header(picture.data)
    with ExitStack() as held:
        held.enter_context(memory.drawn.hold(1))
        taken = held.enter_context(memory.pictures.hold(header.memory()))
        answer = encode(draw_audit(header.decode().picture, result), media_type)
        taken.shrink(len(answer))
        response = Response(answer, content_type=media_type)
        response.call_on_close(held.pop_all().close)
    return response


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
