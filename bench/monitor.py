"""What the monitor costs: `python -m bench.monitor [--database URL] [--views N] [--audits N]`

- Events that it takes in in a CPU second of its own process, from CloudEvent to commit, in the
  order of capture, and the wall time of one: with an empty database, and with a full one.
- The board of a store of 200 views, as HTML, JSON and CSV: p50 and p95.
- Bytes in the database for a million audits.

A full database has the audits of `--taken` views from the real path. The other views are copies of
those, made in SQL under names and ids of their own. Without `--database` a PostgreSQL of its own
is started. The database is filled, so give it an empty one.
"""

from __future__ import annotations

import argparse
import cProfile
import itertools
import json
import pstats
import random
import statistics
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from cloudevents.core.v1.event import CloudEvent
from sqlalchemy import Engine, text

from bench.results import quantile
from events.codec import Json, from_json, new_event, to_json
from events.types import DATA_SCHEMAS, SHELF_AUDITED
from function.serving import keep_for_good
from local.day import QUARTER
from model.options import at_least
from monitor.app import create_app
from monitor.config import Config
from monitor.database import migrate, open_database
from monitor.intake import ViewKey
from monitor.metrics import Metrics
from monitor.register import Register, store_of
from monitor.store import Store
from monitor.tables import metadata
from monitor.watcher import Watcher
from tests.faults.postgresql import running_postgresql

VIEWS_A_STORE = 200
ROWS, COLUMNS = 6, 22  # 132 facings, as the sample photos
REQUESTS = 50
MORE = 2000  # events into the full database
BUCKET = "shelves"
COPIED = ("views", "audits", "spans", "checkpoints", "rejections", "episodes", "tellings")


def shelf_events(view: int, audits: int, until: datetime, known: int = 0) -> Iterator[CloudEvent]:
    """Make the events of one view's last photos: facings sell, and rows are refilled.

    `known` photos of the view have come before.
    """
    rng = random.Random(view)
    folder = f"store-{view // VIEWS_A_STORE}/cam-{view % VIEWS_A_STORE}"
    empty: set[tuple[int, int]] = set()
    for index in range(audits):
        if rng.random() < 0.3:
            empty.add((rng.randrange(ROWS), rng.randrange(COLUMNS)))
        if rng.random() < 0.1:
            row = rng.randrange(ROWS)
            empty = {slot for slot in empty if slot[0] != row}
        time_of = until - QUARTER * (audits - index)
        yield _event(rng, folder, f"{view}-{known + index}", time_of, empty)


def _event(
    rng: random.Random, folder: str, name: str, taken: datetime, empty: set[tuple[int, int]]
) -> CloudEvent:
    def box(row: int, column: int) -> list[float]:
        x, y = 50 + 110 * column, 100 + 400 * row
        loose = [rng.gauss(0, 1.5) for _ in range(4)]
        return [round(edge + d, 1) for edge, d in zip((x, y, x + 100, y + 300), loose, strict=True)]

    slots = [(row, column) for row in range(ROWS) for column in range(COLUMNS)]
    stand = [slot for slot in slots if slot not in empty]
    data = {
        "image": {
            "uri": f"s3://shelves/{folder}/{name}.jpg",
            "width": 2500,
            "height": 2500,
            "captured_at": taken.isoformat(),
        },
        "detections": [
            {"label": "product", "class_id": 0, "confidence": 0.9, "xyxy": box(*slot)}
            for slot in stand
        ],
        "gaps": [{"row": r, "xyxy": box(r, c), "facings": 1.0} for r, c in sorted(empty)],
        "count": len(stand),
        "fill_rate": round(len(stand) / len(slots), 3),
    }
    return audited(f"{rng.getrandbits(128):032x}", f"{folder}/{name}.jpg", taken, data)


def audited(event_id: str, key: str, taken: datetime, data: Json) -> CloudEvent:
    """Make the event of an audit of one photo, as the topic sends it."""
    return new_event(
        {
            "id": event_id,
            "source": f"urn:shelfwatch:s3:{BUCKET}",
            "type": SHELF_AUDITED,
            "dataschema": DATA_SCHEMAS[SHELF_AUDITED],
            "subject": key,
            "time": taken,
        },
        data,
    )


def take_all(watcher: Watcher, lines: list[Iterator[CloudEvent]]) -> dict[str, float]:
    """Take in the events of views, in the order of capture; return what it cost."""
    cpu = 0.0
    seconds: list[float] = []
    for event in itertools.chain.from_iterable(zip(*lines, strict=True)):
        body = to_json(event)
        began, cpu_began = time.perf_counter(), time.process_time()
        watcher.take(from_json(body))
        cpu += time.process_time() - cpu_began
        seconds.append(time.perf_counter() - began)
    return {
        "events": len(seconds),
        "events_a_cpu_second": round(len(seconds) / cpu, 1),
        "p50_ms": round(statistics.median(seconds) * 1000, 2),
        "p95_ms": round(quantile(seconds, 0.95) * 1000, 2),
    }


def copy_views(engine: Engine, taken: int, views: int) -> None:
    """Give the views from `taken` on what one of those before them has, by SQL alone."""
    pairs = [{"old": _key(view % taken), "new": _key(view)} for view in range(taken, views)]
    rows = [
        {
            "old_view": pair["old"].id,
            "new_view": pair["new"].id,
            "old_folder": pair["old"].folder,
            "new_folder": pair["new"].folder,
            "new_store": store_of(pair["new"].folder),
        }
        for pair in pairs
    ]
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        columns = "old_view, new_view, old_folder, new_folder, new_store"
        connection.execute(
            text(f"CREATE TEMP TABLE copies ({columns.replace(',', ' text,')} text)")
        )
        named = ", ".join(f":{name}" for name in columns.split(", "))
        connection.execute(text(f"INSERT INTO copies ({columns}) VALUES ({named})"), rows)
        for table in metadata.sorted_tables:
            if table.name in COPIED:
                names = [column.name for column in table.columns]
                values = ", ".join(_copied(table.name, name) for name in names)
                mine = "id" if table.name == "views" else "view"
                quoted = ", ".join(f'"{name}"' for name in names)
                connection.execute(
                    text(
                        f"INSERT INTO {table.name} ({quoted}) SELECT {values} "
                        f"FROM {table.name} JOIN copies ON {table.name}.{mine} = old_view"
                    )
                )
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("VACUUM ANALYZE"))  # as autovacuum does in time


def _key(view: int) -> ViewKey:
    return ViewKey(BUCKET, f"store-{view // VIEWS_A_STORE}/cam-{view % VIEWS_A_STORE}")


def _copied(table: str, column: str) -> str:
    """Write how a column of a copied row comes about."""
    if column == "view" or (table, column) == ("views", "id"):
        return "new_view"
    if column in ("id", "episode"):
        return f"md5({table}.{column} || new_view)"
    if column in ("folder", "store"):
        return f"new_{column}"
    if column in ("uri", "data"):
        return f"replace({table}.{column}, old_folder || '/', new_folder || '/')"
    if column == "state":
        return f"replace({table}.state, old_view, new_view)"
    return f'{table}."{column}"'


def ask_board(watcher: Watcher) -> dict[str, dict[str, float]]:
    """Ask for the first store's page again and again."""
    app = create_app(Config(events_auth="none"), watcher).test_client()
    keep_for_good()  # as the server does
    found = {}
    for kind in ("html", "json", "csv"):
        seconds = []
        cpu_began = time.process_time()
        for _ in range(REQUESTS):
            began = time.perf_counter()
            answer = app.get(f"/stores/store-0?format={kind}")
            seconds.append(time.perf_counter() - began)
            assert answer.status_code == 200
        found[kind] = {
            "p50_ms": round(statistics.median(seconds) * 1000, 1),
            "p95_ms": round(quantile(seconds, 0.95) * 1000, 1),
            "cpu_ms": round((time.process_time() - cpu_began) / REQUESTS * 1000, 1),
        }
    return found


def bytes_of(engine: Engine) -> int:
    """Measure the database."""
    if engine.dialect.name == "sqlite":
        path = Path(str(engine.url.database))
        return sum(part.stat().st_size for part in path.parent.glob(f"{path.name}*"))
    with engine.connect() as connection:
        size = connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
    return int(size)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.monitor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--database", help="sqlite:///file or postgresql://…")
    parser.add_argument("--views", type=at_least(1), default=10_000, help="(%(default)s)")
    parser.add_argument(
        "--audits", type=at_least(1), default=100, help="of each view (%(default)s)"
    )
    parser.add_argument(
        "--taken", type=at_least(1), default=100, help="views by the real path (%(default)s)"
    )
    parser.add_argument("--profile", action="store_true", help="of the board, on stderr")
    options = parser.parse_args()
    if options.database:
        try:
            open_database(options.database)  # nothing connects yet
        except ValueError as err:
            sys.exit(str(err))
        print(json.dumps(measure(options.database, options), indent=2))
        return
    with running_postgresql() as server:
        print(json.dumps(measure(server.url, options), indent=2))


def measure(url: str, options: argparse.Namespace) -> dict[str, object]:
    """Fill a database, and measure what that and its board cost."""
    engine = open_database(url)
    migrate(engine)
    empty = bytes_of(engine)
    watcher = Watcher(store=Store(engine), register=Register(), metrics=Metrics())
    until = datetime.now(UTC)
    taken = min(options.taken, options.views)
    first = [shelf_events(view, options.audits, until - QUARTER) for view in range(taken)]
    report: dict[str, object] = {
        "database": engine.dialect.name,
        "views": options.views,
        "audits": options.views * options.audits,
        "empty": take_all(watcher, first),
    }
    if options.views > taken:
        copy_views(engine, taken, options.views)
    size = bytes_of(engine) - empty
    report["bytes_a_million_audits"] = round(size / (options.views * options.audits) * 1e6)
    # One photo more of views all over the database.
    step = max(1, options.views // MORE)
    more = [shelf_events(view, 1, until, options.audits) for view in range(0, options.views, step)]
    report["full"] = take_all(watcher, more)
    report["board"] = ask_board(watcher)
    if options.profile:
        profile_board(watcher)
    engine.dispose()
    return report


def profile_board(watcher: Watcher) -> None:
    """Print where a page of the board spends its time."""
    app = create_app(Config(events_auth="none"), watcher).test_client()
    for kind in ("html", "json"):
        profile = cProfile.Profile()
        profile.runcall(app.get, f"/stores/store-0?format={kind}")
        pstats.Stats(profile, stream=sys.stderr).sort_stats("cumulative").print_stats(30)


if __name__ == "__main__":
    main()
