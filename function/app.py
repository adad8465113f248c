"""The HTTP face of the function: routes only.

`inputs` and `parameters` read what a request says, `answers` shapes what it gets, `problems` what
went wrong; the routes below /v2 are in `v2`.
"""

from __future__ import annotations

import gzip
import logging
import os
import sys
import threading
import time
from functools import lru_cache, partial
from typing import Any

from flask import Flask, Response, abort, g, jsonify, render_template, request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug.routing import Map

from events.codec import from_http
from events.settings import SettingError
from function import schemas, v2
from function.answers import answer_events, answer_pictures, answer_stored
from function.audit import audit_image, make_auditor
from function.bearer import require_token
from function.config import Config
from function.cross_site import allow_origin, check_site, is_loopback
from function.detections import Thresholds
from function.detector import Detector
from function.errors import BucketForbidden, ModelError
from function.inputs import (
    MAX_BODY_BYTES,
    MEMORY,
    Picture,
    Request,
    read_body,
    read_pictures,
    wanted_type,
)
from function.metrics import Metrics
from function.parameters import check_json, read_thresholds, read_uri
from function.problems import register_error_handlers
from function.result import Result
from function.s3 import make_s3_pictures
from function.spans import describe_request, export_spans, trace_requests
from function.uploads import Uploads, make_uploads, now

log = logging.getLogger(__name__)

# The page and what it loads come from here; pictures it shows are its own blobs.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# The page's texts are small in gzip, and a store's connection is slow.
COMPRESSED = ("text/html", "text/css", "text/javascript")
# Knative's queue-proxy adds it to whatever it passes on, after it has dropped what the caller's own
# `Connection` names: who comes through Knative cannot hide it. Prometheus asks the pod itself.
# https://pkg.go.dev/net/http/httputil#ReverseProxy
PROXIED = "X-Forwarded-For"
# Of all headers together, as nginx takes them. Werkzeug weighs each of the media types or codings
# that are welcome: 700 KiB of them, which gunicorn lets pass, take it seconds.
MAX_HEADER_BYTES = 32 * 1024
# Gunicorn's own code for an app that cannot load: the master stops instead of trying again.
APP_LOAD_ERROR = 4


def create_app(config: Config, detector: Detector | None = None) -> Flask:
    """Build the app; without a detector it loads the configured one and warms it first.

    Raises `SettingError`, and `ModelError` for a file that cannot serve.
    """
    app = _flask()
    metrics = Metrics()
    if detector is None:
        detector = Detector.load(config.model_path, config.threads, config.revision)
        detector.warm_up()
    model = detector.model
    metrics.model.labels(model.name, model.digest, model.precision, detector.cpu_isa).set(1)
    metrics.ready.set_function(lambda: detector.ready)
    app.extensions[MEMORY] = detector.memory
    auditor = make_auditor(config, detector, metrics)
    s3_pictures = make_s3_pictures(config)
    uploads = make_uploads(config)

    def audit(picture: Picture, thresholds: Thresholds) -> Result:
        return audit_image(
            picture.data, detector, thresholds, metrics, picture.uri, picture.reference
        )

    @app.get("/")
    def page() -> Response:
        return app.send_static_file("index.html")

    @app.post("/")
    def events() -> Response:
        if config.events_auth != "none":
            require_token(_authorization(), config.events_token, "EVENTS_TOKEN")
        body = read_body(request)
        check_json(body, "The event")
        incoming = from_http(dict(request.headers), body)
        if auditor is None:
            msg = "`EVENTS_BUCKETS` must list the bucket, got an empty list"
            raise BucketForbidden(msg)
        published = auditor.audit_events(incoming)
        return answer_events([] if config.topic_arn else published, request.mimetype)

    @app.post("/predict")
    def predict() -> Response:
        _authorize_data(config)
        thresholds = read_thresholds(request.args, config.thresholds, model.products)
        pictures = read_pictures(request, s3_pictures)
        return answer_pictures(
            pictures, partial(audit, thresholds=thresholds), wanted_type(request), detector.memory
        )

    @app.post("/uploads")
    def offer_upload() -> tuple[Response, int]:
        offer = _authorize_uploads(config, uploads).offer(read_body(request), now())
        return jsonify(offer), 201

    @app.get("/results")
    def stored_result() -> Response:
        allowed = _authorize_uploads(config, uploads)
        return answer_stored(allowed.result(read_uri(request.args)))

    @app.get("/health/live")
    def live() -> Response:
        detector.check_live()
        return jsonify(status="live")

    @app.get("/health")
    @app.get("/health/ready")
    def ready() -> Response:
        detector.check_ready()
        return jsonify(status="ready", model=detector.json())

    @app.get("/openapi.json")
    def openapi() -> Response:
        return jsonify(schemas.openapi())

    @app.get("/docs")
    def docs() -> str:
        return render_template("docs.html", api=schemas.openapi())

    @app.get("/metrics")
    def prometheus() -> Response:
        if PROXIED in request.headers:
            abort(404)  # as for a path that is not there: a domain publishes the whole host
        return Response(generate_latest(metrics.registry), content_type=CONTENT_TYPE_LATEST)

    _observe_requests(app, metrics, config)
    authorize = partial(_authorize_data, config)
    app.register_blueprint(v2.make_blueprint(config, detector, audit, authorize, schemas.version()))
    register_error_handlers(app)
    return app


def serve() -> Flask:
    """Build the app from the environment; end the process with one sentence where that fails.

    The model warms in the background, so that the probes are answered meanwhile.
    """
    try:
        config = Config.from_env()
        _start_tracing(config)
        detector = Detector.load(config.model_path, config.threads, config.revision)
        app = create_app(config, detector)
    except (SettingError, ModelError) as err:
        log.critical("function.failed_to_start", extra={"error": str(err)})
        sys.exit(APP_LOAD_ERROR)
    except Exception as err:  # whatever it is: trying again would meet it again
        log.critical("function.failed_to_start", extra={"error": repr(err)}, exc_info=err)
        sys.exit(APP_LOAD_ERROR)
    threading.Thread(target=_warm_up, args=(detector,), name="warm-up", daemon=True).start()
    return app


def _warm_up(detector: Detector) -> None:
    try:
        detector.warm_up()
        detector.prepare_for_crowds()
    except ModelError as err:
        log.critical("function.failed_to_start", extra={"error": str(err)})
        os._exit(APP_LOAD_ERROR)  # sys.exit would end this thread alone
    except Exception as err:
        log.critical("function.failed_to_start", extra={"error": repr(err)}, exc_info=err)
        os._exit(APP_LOAD_ERROR)


def _observe_requests(app: Flask, metrics: Metrics, config: Config) -> None:
    """Measure each request, refuse odd ones, and add the headers that every answer has."""

    @app.before_request
    def start_clock() -> None:
        g.started = time.perf_counter()

    @app.before_request
    def refuse_long_headers() -> None:
        if sum(len(value) for _, value in request.headers) > MAX_HEADER_BYTES:
            abort(431)

    @app.before_request
    def refuse_other_sites() -> None:
        check_site(request.method, request.headers, config.cors_origins, is_loopback(config.host))

    @app.after_request
    def finish(response: Response) -> Response:
        # Path and method are the caller's and could be anything: only what a rule took is a label.
        rule = request.url_rule
        route, method = (rule.rule, request.method) if rule else ("none", "none")
        seconds = time.perf_counter() - g.started
        metrics.requests.labels(route, method, response.status_code).observe(seconds)
        describe_request(f"{method} {route}", response.status_code)
        _compress(response)
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        allow_origin(response.headers, request.headers.get("Origin"), config.cors_origins)
        return response


def _compress(response: Response) -> None:
    """Compress the page's files where gzip is accepted; no answer that depends on the caller."""
    if response.status_code != 200 or response.mimetype not in COMPRESSED:
        return
    response.vary.add("Accept-Encoding")
    if request.method != "GET" or not request.accept_encodings.quality("gzip"):
        return
    response.direct_passthrough = False
    response.set_data(_gzipped(response.get_data()))
    response.content_encoding = "gzip"
    # The address names the file, and no range of these bytes is served. Twenty answers make a page.
    for name in ("Content-Disposition", "Accept-Ranges"):
        response.headers.pop(name, None)
    etag, _ = response.get_etag()
    if etag:
        response.set_etag(etag, weak=True)  # other bytes of the same content


@lru_cache(maxsize=64)
def _gzipped(body: bytes) -> bytes:
    return gzip.compress(body, mtime=0)


def _start_tracing(config: Config) -> None:
    if not config.otlp_endpoint:
        return
    try:
        export_spans(schemas.version())
    except ImportError as err:
        msg = "`OTEL_EXPORTER_OTLP_ENDPOINT` is set, so the extra 'otel' must be installed"
        raise SettingError(msg) from err


def _authorize_data(config: Config) -> None:
    if config.predict_token:
        require_token(_authorization(), config.predict_token, "PREDICT_TOKEN")


def _authorize_uploads(config: Config, uploads: Uploads | None) -> Uploads:
    """Let who has the token upload and read results. Raises `BucketForbidden`, `Unauthorized`."""
    if uploads is None:
        msg = "Uploads want `UPLOADS_BUCKET`, `UPLOADS_TOKEN` and `RESULTS_BUCKET` to be set"
        raise BucketForbidden(msg)
    require_token(_authorization(), config.uploads_token, "UPLOADS_TOKEN")
    return uploads


def _authorization() -> str:
    return request.headers.get("Authorization", "")


class _Rules(Map):
    """Paths as they are: a redirect from //x would go wherever the caller's Host says."""

    def __init__(self, **options: Any) -> None:
        super().__init__(merge_slashes=False, **options)


class _App(Flask):
    url_map_class = _Rules  # type: ignore[assignment]  # Flask gives host_matching by name


def _flask() -> Flask:
    app = _App(__name__)
    app.request_class = Request
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]  # results keep the order of their types
    app.wsgi_app = trace_requests(app.wsgi_app)  # type: ignore[assignment,method-assign]  # as Flask's documents have it
    return app
