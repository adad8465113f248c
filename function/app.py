"""The HTTP face of the function: routes, and one place that shapes errors."""

from __future__ import annotations

import hmac
import logging
import os
import sys
import threading
import time
from typing import TYPE_CHECKING

from flask import Flask, Response, g, jsonify, request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug.exceptions import HTTPException

from events.codec import BATCHED, STRUCTURED, InvalidEvent, from_http, to_json
from events.s3_notification import image_events
from function.audit import Auditor, audit_image
from function.config import Config, ConfigError
from function.detections import Thresholds
from function.detector import Detector
from function.errors import (
    BucketForbidden,
    InvalidParameter,
    ModelError,
    NotReady,
    Problem,
    ShelfWatchError,
    TryAgain,
    Unauthorized,
    problem,
)
from function.image import MAX_IMAGE_BYTES
from function.metrics import Metrics

if TYPE_CHECKING:
    from cloudevents.core.v1.event import CloudEvent

log = logging.getLogger(__name__)

# The page and what it loads come from here; pictures it shows are its own blobs.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# An image and the multipart envelope around it.
MAX_BODY_BYTES = MAX_IMAGE_BYTES + 64 * 1024
# Gunicorn's own code for an app that cannot load: the master stops instead of trying again.
APP_LOAD_ERROR = 4


def create_app(config: Config, detector: Detector | None = None) -> Flask:
    """Build the app; without a detector it loads the configured one and warms it first.

    Raises `ConfigError`, and `ModelError` for a file that cannot serve.
    """
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]  # results keep the order of their types
    metrics = Metrics()
    if detector is None:
        detector = Detector.load(config.model_path, config.threads, config.revision)
        detector.warm_up()
    metrics.model.labels(
        detector.model.name, detector.model.digest, detector.model.precision, detector.cpu_isa
    ).set(1)
    auditor = _auditor(config, detector, metrics) if config.events_buckets else None

    @app.get("/")
    def page() -> Response:
        return app.send_static_file("index.html")

    @app.post("/")
    def events() -> Response:
        _authorize(config)
        incoming = from_http(dict(request.headers), request.get_data())
        if auditor is None:
            msg = "EVENTS_BUCKETS is empty: no bucket may be read"
            raise BucketForbidden(msg)
        images = [image for event in incoming for image in image_events(event)]
        outgoing = [auditor.audit_event(image) for image in images]
        return _reply([event for event in outgoing if event and not config.topic_arn])

    @app.post("/predict")
    def predict() -> Response:
        upload = request.files.get("file")
        if upload is None:
            msg = "The form has no part named 'file'"
            raise InvalidParameter(msg)
        thresholds = _thresholds(config.thresholds)
        return jsonify(audit_image(upload.read(), detector, thresholds, metrics))

    @app.get("/health/live")
    def live() -> Response:
        return jsonify(status="live")

    @app.get("/health")
    @app.get("/health/ready")
    def ready() -> Response:
        if not detector.ready:
            msg = "The model is not warm yet"
            raise NotReady(msg)
        return jsonify(status="ready", model=detector.json())

    @app.get("/metrics")
    def prometheus() -> Response:
        return Response(generate_latest(metrics.registry), content_type=CONTENT_TYPE_LATEST)

    @app.before_request
    def start_clock() -> None:
        g.started = time.perf_counter()

    @app.after_request
    def finish(response: Response) -> Response:
        # Path and method are the caller's and could be anything: only what a rule took is a label.
        rule = request.url_rule
        labels = (rule.rule, request.method) if rule else ("none", "none")
        seconds = time.perf_counter() - g.started
        metrics.requests.labels(*labels, response.status_code).observe(seconds)
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    app.register_error_handler(ShelfWatchError, _answer_error)
    app.register_error_handler(InvalidEvent, _answer_invalid_event)
    app.register_error_handler(HTTPException, _answer_http_error)
    return app


def serve() -> Flask:
    """Build the app from the environment; end the process with one sentence where that fails.

    The model warms in the background, so that the probes are answered meanwhile.
    """
    try:
        config = Config.from_env()
        detector = Detector.load(config.model_path, config.threads, config.revision)
        app = create_app(config, detector)
    except (ConfigError, ModelError) as err:
        log.critical("function.failed_to_start", extra={"error": str(err)})
        sys.exit(APP_LOAD_ERROR)
    threading.Thread(target=_warm_up, args=(detector,), name="warm-up", daemon=True).start()
    return app


def _warm_up(detector: Detector) -> None:
    try:
        detector.warm_up()
    except ModelError as err:
        log.critical("function.failed_to_start", extra={"error": str(err)})
        os._exit(APP_LOAD_ERROR)  # sys.exit would end this thread alone


def _auditor(config: Config, detector: Detector, metrics: Metrics) -> Auditor:
    # Imported here, as boto3 takes a third of a second and a function without events needs none.
    import boto3
    from botocore.config import Config as BotoConfig

    from events.outbox import Outbox

    session = boto3.Session()
    if not session.region_name:
        msg = "AWS_DEFAULT_REGION is not set"
        raise ConfigError(msg)
    # Three tries fit into the source's 55 s, with an inference between them.
    boto_config = BotoConfig(
        connect_timeout=3, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3}
    )
    s3 = session.client("s3", config=boto_config)
    return Auditor(
        detector,
        config.thresholds,
        metrics,
        s3,
        config.events_buckets,
        Outbox(s3, config.results_bucket) if config.results_bucket else None,
        session.client("sns", config=boto_config) if config.topic_arn else None,
        config.topic_arn,
    )


def _authorize(config: Config) -> None:
    """Let events in by the bearer token only, unless the setting says otherwise."""
    if config.events_auth == "none":
        return
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    expected = config.events_token.encode()
    given = token.strip().encode()
    if not expected or scheme.lower() != "bearer" or not hmac.compare_digest(given, expected):
        msg = "POST / wants the bearer token of EVENTS_TOKEN"
        raise Unauthorized(msg)


def _thresholds(default: Thresholds) -> Thresholds:
    """Read the query parameters; an odd, empty or repeated one is named."""
    known = {"confidence": float, "iou": float, "max_detections": int}
    values: dict[str, float | int] = {}
    for name, given in request.args.lists():
        if name not in known:
            msg = f"{name!r} is not one of {', '.join(known)}"
            raise InvalidParameter(msg)
        try:
            (text,) = given
            values[name] = known[name](text)
        except ValueError as err:
            msg = f"{name} is {', '.join(given)!r}, not a single number"
            raise InvalidParameter(msg) from err
    return Thresholds(
        confidence=values.get("confidence", default.confidence),
        iou=values.get("iou", default.iou),
        max_detections=int(values.get("max_detections", default.max_detections)),
    )


def _reply(events: list[CloudEvent]) -> Response:
    """Answer with the events, where no topic takes them, in the mode they came in."""
    if not events:
        return Response(status=204)
    if request.mimetype == BATCHED or len(events) > 1:  # one SQS message may tell of more
        body = b"[" + b",".join(map(to_json, events)) + b"]"
        return Response(body, content_type=BATCHED)
    return Response(to_json(events[0]), content_type=STRUCTURED)


def _answer_error(err: ShelfWatchError) -> Response:
    response = _answer_problem(err.problem())
    if isinstance(err, TryAgain):
        response.headers["Retry-After"] = str(err.retry_after)
    if isinstance(err, Unauthorized):
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _answer_invalid_event(err: InvalidEvent) -> Response:
    return _answer_problem(problem("invalid-event", "Invalid event", 400, str(err)))


def _answer_http_error(err: HTTPException) -> Response:
    """Shape what Flask and Werkzeug raise; a 500 has been logged with its traceback by then."""
    status = err.code or 500
    slug = err.name.lower().replace(" ", "-")
    response = _answer_problem(problem(slug, err.name, status, HTTP_DETAILS.get(status, err.name)))
    for name, value in err.get_headers():
        if name.lower() == "allow":
            response.headers[name] = value
    return response


# Our own words: Werkzeug's may repeat what the caller sent.
HTTP_DETAILS = {
    400: "The request could not be read",
    404: "There is nothing here",
    405: "This method is not allowed here",
    413: f"The body is larger than {MAX_BODY_BYTES} bytes",
    500: "Something went wrong on our side; it has been logged",
}


def _answer_problem(body: Problem) -> Response:
    response = jsonify(body)
    response.status_code = body["status"]
    response.content_type = "application/problem+json"
    return response
