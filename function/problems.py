"""The one place that shapes errors: every answer that is no success is an RFC 9457 problem."""

from __future__ import annotations

import flask
from flask import Response, jsonify, request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import HTTPException

from events.codec import InvalidEvent
from function.errors import (
    Problem,
    ShelfWatchError,
    TryAgain,
    Unauthorized,
    http_problem,
    problem,
)
from function.worker import status_of

PROBLEM_JSON = "application/problem+json"
# Clients such as Python's send a whole body before they read the answer: closing earlier shows
# them a broken connection instead of it. Three bodies of the largest kind, then they are let down.
MAX_DRAINED_BYTES = 64 * 1024 * 1024
DRAIN_STEP = 64 * 1024


def register_error_handlers(app: flask.Flask) -> None:
    """Have every error of the app answered as a problem."""
    app.register_error_handler(ShelfWatchError, _answer_error)
    app.register_error_handler(InvalidEvent, _answer_invalid_event)
    app.register_error_handler(HTTPException, _answer_http_error)
    app.register_error_handler(ParseException, _answer_broken_body)


def answer_problem(body: Problem) -> Response:
    """Answer with a problem, after what is left of the request's body."""
    _drain()
    if request.path.startswith("/v2"):  # clients of the Open Inference Protocol read this member
        response = jsonify({**body, "error": body["detail"]})
    else:
        response = jsonify(body)
    response.status_code = body["status"]
    response.content_type = PROBLEM_JSON
    return response


def _drain() -> None:
    """Read on to the end of the body; the worker's deadline bounds the time."""
    stream = request.environ["wsgi.input"]
    left = MAX_DRAINED_BYTES
    try:
        while left > 0 and (step := len(stream.read(DRAIN_STEP))):
            left -= step
    except (OSError, ParseException):
        return  # gone, too slow, or no HTTP any more: the server closes the connection


def _answer_error(err: ShelfWatchError) -> Response:
    response = answer_problem(err.problem())
    if isinstance(err, TryAgain):
        response.headers["Retry-After"] = str(err.retry_after)
    if isinstance(err, Unauthorized):
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _answer_invalid_event(err: InvalidEvent) -> Response:
    return answer_problem(problem("invalid-event", "Invalid event", 400, str(err)))


def _answer_http_error(err: HTTPException) -> Response:
    """Shape what Flask and Werkzeug raise; a 500 has been logged with its traceback by then."""
    detail = ""
    if err.code == 413:
        detail = (
            f"The body is larger than {request.max_content_length} bytes, or has too many parts"
        )
    response = answer_problem(http_problem(err.code or 500, detail))
    for name, value in err.get_headers():
        if name.lower() == "allow":
            response.headers[name] = value
    return response


def _answer_broken_body(err: ParseException) -> Response:
    """Answer a body that is no HTTP, or too slow: gunicorn says so when it is read.

    A browser, which names its `Origin`, repeats unasked what was answered 408, once for each
    connection that it has kept: a person would wait for minutes, and send a slow picture each time.
    """
    told = http_problem(status_of(err))
    if told["status"] == 408 and "Origin" in request.headers:
        told["status"] = 400
    return answer_problem(told)
