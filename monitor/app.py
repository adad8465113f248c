"""The HTTP face of the monitor: routes only."""

from __future__ import annotations

import logging
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from flask import Flask, Response, abort, render_template, request, url_for
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from werkzeug.routing import PathConverter

from events.codec import InvalidEvent, from_http
from events.settings import SettingError
from function.bearer import require_token
from function.errors import CrossSite
from function.problems import PROBLEM_JSON, register_error_handlers
from monitor import answers, drawing, words
from monitor.config import Config
from monitor.database import StoreAway, is_migrated, migrate, reading
from monitor.points import DAY
from monitor.queries import (
    list_stores,
    read_labels,
    read_store,
    read_view,
    view_key_of_episode,
)
from monitor.register import store_of, view_name
from monitor.store import Store
from monitor.watcher import Watcher, make_watcher

log = logging.getLogger(__name__)

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
# Ten events of 256 KiB, SNS's largest, with room for their wrapping.
MAX_BODY_BYTES = 4 * 1024 * 1024
# Knative's queue-proxy adds it to whatever it passes on; Prometheus asks the pod itself.
PROXIED = "X-Forwarded-For"
APP_LOAD_ERROR = 4  # gunicorn's own code for an app that cannot load


class FolderConverter(PathConverter):
    """A folder in a path; a key may begin with a slash, and have several in a row."""

    regex = ".+"
    part_isolating = False


@dataclass(frozen=True)
class Board:
    """Who may see the board."""

    token: str

    def check(self) -> None:
        """Let in who has the token, as bearer or as the password of a browser.

        Raises `Unauthorized`.
        """
        if not self.token:
            return
        try:
            given = request.authorization
        except ValueError:  # Werkzeug reads a password that is no ASCII as base64
            given = None
        if given is not None and given.type == "basic":
            require_token(f"Bearer {given.password or ''}", self.token, "BOARD_TOKEN")
        else:
            require_token(request.headers.get("Authorization", ""), self.token, "BOARD_TOKEN")

    def check_own_page(self) -> None:
        """Refuse what another site's page sends with this browser's password.

        Raises `CrossSite`.
        """
        origin = request.headers.get("Origin")
        site = request.headers.get("Sec-Fetch-Site", "same-origin")
        foreign = origin is not None and _address(origin).netloc != request.host
        if foreign or site not in ("same-origin", "none"):
            msg = "Another site's page may not change anything here"
            raise CrossSite(msg)


def create_app(config: Config, watcher: Watcher) -> Flask:
    """Build the app."""
    app = Flask(__name__)
    app.url_map.converters["folder"] = FolderConverter
    app.url_map.merge_slashes = False
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.json.sort_keys = False  # type: ignore[attr-defined]  # as their types have them
    app.jinja_env.globals.update(
        clock=words.clock, duration=words.duration, spark=drawing.spark, quote=quote
    )
    board = Board(config.board_token)
    engine, register, metrics = watcher.store.engine, config.register, watcher.metrics

    @app.post("/")
    def events() -> Response:
        if config.events_auth != "none":
            authorization = request.headers.get("Authorization", "")
            require_token(authorization, config.events_token, "EVENTS_TOKEN")
        invalid: list[InvalidEvent] = []
        for event in from_http(dict(request.headers), request.get_data()):
            if isinstance(event, InvalidEvent):
                invalid.append(event)  # it keeps back no other of its batch
            else:
                watcher.take(event)
        if invalid:
            raise invalid[0]
        return Response(status=204)

    @app.before_request
    def refuse_nul() -> None:
        """PostgreSQL holds no NUL: nothing has such a name."""
        if "\0" in request.path or "\0" in request.args.get("bucket", ""):
            abort(404)

    @app.get("/")
    def index() -> Response:
        return Response(status=302, headers={"Location": url_for("stores")})

    @app.get("/stores")
    def stores() -> Response:
        board.check()
        lines = list_stores(engine, register)
        rows = [answers.store_json(line) for line in lines]
        match answers.wanted_format():
            case "csv":
                return answers.answer_csv("stores", rows, STORE_COLUMNS)
            case "json":
                return answers.answer_json({"stores": rows})
        return Response(render_template("stores.html", stores=lines, now=_now()))

    @app.get("/stores/<store>")
    def store(store: str) -> Response:
        board.check()
        days, now = _days(watcher.store.keep_days), _now()
        after = answers.read_place("gaps_after", 2)
        page = read_store(engine, register, store, now, days, after)
        if page is None:
            abort(404)
        match answers.wanted_format():
            case "csv":
                rows = [answers.view_json(line) for line in page.views]
                return answers.answer_csv(store, rows, VIEW_COLUMNS)
            case "json":
                return answers.answer_json(answers.store_page_json(page))
        views = Counter(line.name for line in page.views)
        facts = {"page": page, "views": views, "now": now, "days": days}
        return Response(render_template("store.html", cursor=answers.cursor, **facts))

    @app.get("/stores/<store>/views/<folder:view>")
    def view(store: str, view: str) -> Response:
        board.check()
        days, now = _days(watcher.store.keep_days), _now()
        page = read_view(
            engine,
            register,
            store,
            view,
            now,
            days,
            request.args.get("bucket"),
            answers.read_place("audits_before"),
            answers.read_place("episodes_before"),
        )
        if page is None:
            abort(404)
        match answers.wanted_format():
            case "csv":
                rows = [answers.episode_cells(line) for line in page.episodes]
                before = answers.cursor(page.episodes_before)
                more = urlencode({**request.args, "episodes_before": before})
                next_page = f"{quote(request.path)}?{more}" if before else ""
                return answers.answer_csv(f"{store}-{view}", rows, EPISODE_COLUMNS, next_page)
            case "json":
                return answers.answer_json(answers.view_page_json(page))
        known = register.store(store)
        start = max([now - days * DAY, *page.points.captured[:1].tolist()])
        drawn = drawing.history(page.points, page.stood, start, now)
        facts = {"page": page, "store": known, "history": drawn, "now": now, "days": days}
        return Response(
            render_template("view.html", drawing=drawing, cursor=answers.cursor, **facts)
        )

    @app.post("/episodes/<name>/mute")
    def mute(name: str) -> Response:
        return change(name, watcher.store.mute)

    @app.post("/episodes/<name>/unmute")
    def unmute(name: str) -> Response:
        return change(name, watcher.unmute)

    def change(name: str, said: Callable[[str, int], bool]) -> Response:
        """Do what a person said of a gap, and lead back to the page where it was said."""
        board.check()
        board.check_own_page()
        came_from = _address(request.referrer or "")
        if not said(name, _now()):
            abort(404)
        key = view_key_of_episode(engine, name)
        if key is None or answers.wanted_format() != "html":
            return Response(status=204)
        back = url_for("view", store=store_of(key.folder), view=view_name(key.folder))
        if came_from.netloc == request.host and came_from.path.startswith(url_for("stores")):
            back = came_from._replace(scheme="", netloc="").geturl()
        return Response(status=303, headers={"Location": back})

    @app.get("/labels")
    def labels() -> Response:
        board.check()
        return answers.answer_json({"labels": read_labels(engine)})

    def ask_database() -> None:
        """Raise `StoreAway` unless it answers, and tell the metrics."""
        try:
            check_ready(watcher.store)
        except StoreAway:
            metrics.database_up.set(0)
            raise
        metrics.database_up.set(1)

    @app.get("/health/live")
    def live() -> Response:
        return answers.answer_json({"status": "live"})

    @app.get("/health")
    @app.get("/health/ready")
    def ready() -> Response:
        ask_database()
        return answers.answer_json({"status": "ready"})

    @app.get("/metrics")
    def prometheus() -> Response:
        if PROXIED in request.headers:
            abort(404)  # as for a path that is not there: a domain publishes the whole host
        with suppress(StoreAway):
            ask_database()
        return Response(generate_latest(metrics.registry), content_type=CONTENT_TYPE_LATEST)

    @app.after_request
    def tell_people(response: Response) -> Response:
        """Answer a browser's reader with a page of the problem; a program gets it as JSON."""
        if response.mimetype == PROBLEM_JSON and answers.is_for_people():
            told = response.get_json()
            title, sentence = words.refusal(told)
            again = request.method == "GET" and (told["status"] == 401 or told["status"] >= 500)
            facts = {"title": title, "sentence": sentence, "again": again}
            response.set_data(render_template("problem.html", **facts))
            response.content_type = "text/html; charset=utf-8"
        return response

    @app.after_request
    def harden(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "same-origin"
        response.vary.add("Accept")
        if response.status_code == 401 and request.path != "/":
            response.headers["WWW-Authenticate"] = 'Basic realm="ShelfWatch", charset="UTF-8"'
        return response

    register_error_handlers(app)
    return app


STORE_COLUMNS = ("store", "name", "views", "open_gaps", "silent_views", "seen")
VIEW_COLUMNS = (
    *("view", "bucket", "folder", "seen", "silent_since", "count", "empty_facings", "fill_rate"),
    *("days", "availability", "refill_minutes", "open_gaps", "photos", "doubtful", "rejected"),
)
EPISODE_COLUMNS = (
    *("episode", "view", "row", "facings", "opened_at", "closed_at", "ended", "muted", "image"),
)


def check_ready(store: Store) -> None:
    """Raise `StoreAway` unless the database answers, and is migrated."""
    with reading(store.engine) as connection:
        connection.execute(text("SELECT 1"))
        if not is_migrated(connection):
            msg = "The database is not migrated yet"
            raise StoreAway(msg)


def serve() -> Flask:
    """Build the app from the environment; end the process with one sentence where that fails.

    It migrates SQLite, which has one process; `monitor.migrate` migrates PostgreSQL.
    """
    try:
        config = Config.from_env()
        watcher = make_watcher(config)
    except SettingError as err:
        log.critical("monitor.failed_to_start", extra={"error": str(err)})
        sys.exit(APP_LOAD_ERROR)
    engine = watcher.store.engine
    if engine.dialect.name == "sqlite":
        try:
            migrate(engine)
        except DBAPIError as err:
            got = f"{engine.url.database!r}: {err.orig}"
            error = f"`DATABASE_URL` must name a file that can be opened, got {got}"
            log.critical("monitor.failed_to_start", extra={"error": error})
            sys.exit(APP_LOAD_ERROR)
    return create_app(config, watcher)


def _address(given: str) -> SplitResult:
    """Take apart where a request says that it comes from. Raises `CrossSite`."""
    try:
        return urlsplit(given)
    except ValueError as err:
        msg = f"`Origin` and `Referer` must be addresses, got {given!r}"
        raise CrossSite(msg) from err


def _days(kept: int) -> int:
    """Read the days of the figures; of what is kept no longer there are none."""
    return min(answers.read_number("days", 1, 1, answers.MAX_DAYS), kept)


def _now() -> int:
    return round(time.time() * 1000)
