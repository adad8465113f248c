"""What the monitor costs: `python -m bench.monitor --database URL [--views N] [--audits N]`

- Events that it takes in in a CPU second of its own process, from CloudEvent to commit, in the
  order of capture, and the wall time of one.
- The board of a store of 200 views, as HTML, JSON and CSV: p50 and p95.
- Bytes in the database for a million audits.

The database is filled, so give it an empty one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cloudevents.core.v1.event import CloudEvent
from sqlalchemy import Engine, text

from events.codec import from_json, new_event, to_json
from events.types import DATA_SCHEMAS, SHELF_AUDITED
from monitor.app import create_app
from monitor.config import Config
from monitor.database import migrate, open_database
from monitor.metrics import Metrics
from monitor.register import Register
from monitor.store import Store
from monitor.watcher import Watcher

VIEWS_A_STORE = 200
ROWS, COLUMNS = 6, 22  # 132 facings, as the sample photos
QUARTER = timedelta(minutes=15)
REQUESTS = 50


def shelf_events(view: int, audits: int, until: datetime) -> Iterator[CloudEvent]:
    """Make the events of one view's last photos: facings sell, and rows are refilled."""
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
        yield _event(rng, folder, f"{view}-{index}", time_of, empty)


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
    return new_event(
        {
            "id": f"{rng.getrandbits(128):032x}",
            "source": "urn:shelfwatch:s3:shelves",
            "type": SHELF_AUDITED,
            "dataschema": DATA_SCHEMAS[SHELF_AUDITED],
            "subject": f"{folder}/{name}.jpg",
            "time": taken,
        },
        data,
    )


def take_all(watcher: Watcher, views: int, audits: int, until: datetime) -> dict[str, float]:
    """Take in the events of all views, in the order of capture; return what it cost."""
    lines = [shelf_events(view, audits, until) for view in range(views)]
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


def ask_board(watcher: Watcher) -> dict[str, dict[str, float]]:
    """Ask for the first store's page again and again."""
    app = create_app(Config(events_auth="none"), watcher).test_client()
    found = {}
    for kind in ("html", "json", "csv"):
        seconds = []
        for _ in range(REQUESTS):
            began = time.perf_counter()
            answer = app.get(f"/stores/store-0?format={kind}")
            seconds.append(time.perf_counter() - began)
            assert answer.status_code == 200
        found[kind] = {
            "p50_ms": round(statistics.median(seconds) * 1000, 1),
            "p95_ms": round(quantile(seconds, 0.95) * 1000, 1),
        }
    return found


def quantile(values: list[float], share: float) -> float:
    """Give the value that a share of the others does not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


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
    parser = argparse.ArgumentParser(prog="python -m bench.monitor", description=__doc__)
    parser.add_argument("--database", required=True, help="sqlite:///file or postgresql://…")
    parser.add_argument("--views", type=int, default=10_000, help="(%(default)s)")
    parser.add_argument("--audits", type=int, default=100, help="of each view (%(default)s)")
    options = parser.parse_args()
    engine = open_database(options.database)
    migrate(engine)
    empty = bytes_of(engine)
    watcher = Watcher(store=Store(engine), register=Register(), metrics=Metrics())
    taken = take_all(watcher, options.views, options.audits, datetime.now(UTC))
    report = {
        "database": engine.dialect.name,
        "views": options.views,
        **taken,
        "bytes_a_million_audits": round((bytes_of(engine) - empty) / taken["events"] * 1e6),
        "board": ask_board(watcher),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
