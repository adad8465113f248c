"""The schema, its migrations, and what a database that does not answer means."""

import ast
import itertools
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from conftest import ROOT
from psycopg.sql import SQL, Identifier
from sqlalchemy import select, text
from test_fold import MINUTE, photo

import monitor.database
from monitor.app import check_ready
from monitor.database import (
    MIGRATIONS,
    VANISHED_SECONDS,
    StoreAway,
    migrate,
    open_database,
)
from monitor.intake import IncomingAudit, ViewKey
from monitor.points import SPAN, read_points
from monitor.records import audit_record
from monitor.store import Store
from monitor.tables import audits, metadata, spans, views
from tests.faults.postgresql import Server

# What leaves the schema good for the release before. A new column is nullable or has a server's
# default: the old release writes rows without it.
ADDITIONS = {"create_table", "create_index", "add_column", "get_bind"}


COUNTER = itertools.count()


def urls(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/monitor.sqlite"
    server: Server = request.getfixturevalue("postgresql")
    name = f"empty_{next(COUNTER)}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    return f"{server.url.rpartition('/')[0]}/{name}"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    return urls(tmp_path, request)


def test_the_migrations_lead_to_the_tables_of_the_code(url: str) -> None:
    engine = open_database(url)
    migrate(engine)
    migrate(engine)  # nothing happens
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    check_ready(Store(engine))
    engine.dispose()


@pytest.mark.parametrize("path", sorted(MIGRATIONS.glob("versions/*.py")), ids=lambda p: p.stem)
def test_a_migration_only_adds_so_that_the_old_revision_goes_on(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if isinstance(node.func.value, ast.Name) and node.func.value.id == "op":
            assert node.func.attr in ADDITIONS, ast.unparse(node)
            if node.func.attr == "add_column":
                column = ast.unparse(node)
                assert "nullable=True" in column or "server_default" in column, column


def test_the_spans_of_audits_that_were_there_before_are_packed(url: str) -> None:
    engine = open_database(url)
    migrate(engine, "0001")
    key = ViewKey("shelves", "store-1/cam-1")
    times = [0, SPAN - 1, SPAN, 3 * SPAN]
    with engine.begin() as connection:
        facts = {"id": key.id, "bucket": "shelves", "folder": "store-1/cam-1", "store": "store-1"}
        connection.execute(views.insert(), facts)
        for number, captured in enumerate(times):
            incoming = IncomingAudit(
                audit=photo(captured / MINUTE, doubtful=number == 1, name=str(number)),
                uri="",
                uploaded=captured,
                count=number,
                empty=0.5,
                fill_rate=None if number == 2 else 0.875,
                warnings=(),
            )
            connection.execute(audits.insert(), audit_record(key.id, incoming))
    migrate(engine)
    with engine.connect() as connection:
        found = connection.execute(select(spans).order_by(spans.c.start)).all()
    points = read_points([(row.start, row.points) for row in found])
    assert [row.start for row in found] == [0, SPAN, 3 * SPAN]
    assert points.captured.tolist() == times
    assert points.count.tolist() == [0, 1, 2, 3]
    assert points.doubtful.tolist() == [False, True, False, False]
    assert np.array_equal(points.fill_rate, [0.875, 0.875, np.nan, 0.875], equal_nan=True)
    assert set(points.empty.tolist()) == {0.5}
    engine.dispose()


def test_an_older_release_starts_and_serves_on_a_newer_schema(url: str) -> None:
    engine = open_database(url)
    migrate(engine)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE audits ADD COLUMN later TEXT"))
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    migrate(engine)
    check_ready(Store(engine))
    engine.dispose()


def test_a_lost_process_keeps_no_lock_and_a_lost_database_no_process(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor.database, "IDLE_SECONDS", 1)
    lost, waiting = open_database(postgresql.url), open_database(postgresql.url)
    lock, holder = text("SELECT pg_advisory_xact_lock(17)"), lost.connect()
    holder.execute(lock)  # and says nothing more
    with waiting.begin() as other:
        started = time.monotonic()
        other.execute(lock)
        assert 0.5 < time.monotonic() - started < 10
        timeout = other.execute(text("SHOW tcp_user_timeout")).scalar_one()
        driver = other.connection.driver_connection
        assert driver is not None
        with socket.fromfd(driver.fileno(), socket.AF_INET, socket.SOCK_STREAM) as ours:
            limits = [
                ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) / 1000,
                ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
                + ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
                * ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
            ]
    assert timeout == f"{VANISHED_SECONDS * 1000}"
    assert limits == [VANISHED_SECONDS] * 2
    holder.invalidate()
    lost.dispose()
    waiting.dispose()


def test_an_empty_database_is_not_ready(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path}/monitor.sqlite")
    with pytest.raises(StoreAway, match="not migrated"):
        check_ready(Store(engine))
    engine.dispose()


@pytest.mark.parametrize("url", ["nonsense", "mysql://x/y", ""])
def test_an_odd_url_is_named(url: str) -> None:
    with pytest.raises(ValueError, match="`DATABASE_URL` must"):
        open_database(url)


def run_migrate(**env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "monitor.migrate"],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_migrate_is_a_command_with_exit_codes(tmp_path: Path) -> None:
    assert run_migrate(DATABASE_URL=f"sqlite:///{tmp_path}/new.sqlite").returncode == 0
    away = run_migrate(DATABASE_URL="postgresql://x:s3cret@127.0.0.1:9/x")
    assert away.returncode == 1
    assert "migrate.failed" in away.stderr
    assert "s3cret" not in away.stderr
    assert run_migrate(DATABASE_URL="nonsense").returncode == 2
