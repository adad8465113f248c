"""The database: one file of SQLite, or PostgreSQL by a URL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from function.errors import TryAgain

MIGRATIONS = Path(__file__).parent / "migrations"
# As many as a pod admits at a time (containerConcurrency), and one for a probe.
CONNECTIONS = 9
CONNECT_SECONDS = 3
# The source gives up after 55 s; a view's lock is held for milliseconds.
STATEMENT_SECONDS = 20
# A node or a database that is lost says no farewell. By TCP alone we would wait for an answer for a
# quarter of an hour, and the database would keep a lost pod's locks for two hours.
VANISHED_SECONDS = 15
PROBE_SECONDS = 5  # from one question whether the other side is there to the next
# The digest is sent within its transaction: three tries of 13 s.
IDLE_SECONDS = 60


class StoreAway(TryAgain):
    """The database cannot be reached, or is not migrated yet."""

    status, slug, title = 503, "store-away", "Store away"


def open_database(url: str) -> Engine:
    """Make the engine; nothing connects yet. Raises `ValueError` for an odd URL."""
    try:
        parsed = make_url(url)
    except ArgumentError as err:
        msg = "`DATABASE_URL` must be sqlite:///file or postgresql://user@host/name"
        raise ValueError(msg) from err
    if parsed.get_backend_name() == "sqlite":
        engine = create_engine(parsed, connect_args={"timeout": STATEMENT_SECONDS})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    if parsed.get_backend_name() != "postgresql":
        msg = f"`DATABASE_URL` must name sqlite or postgresql, got {parsed.get_backend_name()!r}"
        raise ValueError(msg)
    # Of each side's own connection; the database's names of the first three begin with "tcp_".
    keepalives = {
        "keepalives_idle": VANISHED_SECONDS - 2 * PROBE_SECONDS,
        "keepalives_interval": PROBE_SECONDS,
        "keepalives_count": 2,
    }
    unanswered = {"tcp_user_timeout": VANISHED_SECONDS * 1000}
    settings = {
        "statement_timeout": STATEMENT_SECONDS * 1000,
        "lock_timeout": STATEMENT_SECONDS * 1000,
        "idle_in_transaction_session_timeout": IDLE_SECONDS * 1000,
        **{f"tcp_{name}": value for name, value in keepalives.items()},
        **unanswered,
    }
    return create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_timeout=STATEMENT_SECONDS,
        pool_pre_ping=True,  # after a failover the pool's connections are dead
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            **keepalives,
            **unanswered,
            "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
        },
    )


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Run a transaction. Raises `StoreAway` where the database does not do its part."""
    with _guarded(), engine.begin() as connection:
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Run a transaction that only reads one state of all tables, and so waits for no other."""
    reader = engine.execution_options(reads_only=True)
    if engine.dialect.name == "postgresql":  # as SQLite does by itself
        reader = reader.execution_options(isolation_level="REPEATABLE READ")
    with _guarded(), reader.begin() as connection:
        yield connection


@contextmanager
def _guarded() -> Iterator[None]:
    try:
        yield
    except (DBAPIError, TimeoutError) as err:
        msg = "The database did not do its part"
        raise StoreAway(msg) from err


def migrate(engine: Engine, revision: str = "head") -> None:
    """Bring the schema up to a revision; where it is there or further, nothing happens."""
    with engine.begin() as connection:
        if is_migrated(connection):
            return
        config = _alembic()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def is_migrated(connection: Connection) -> bool:
    """Tell whether the schema is one that this release knows, or a later one."""
    if not inspect(connection).has_table("alembic_version"):
        return False
    # Alembic's own way to ask logs two lines, and a probe asks every five seconds.
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    known = _revisions()
    # A later release has migrated further: its migrations only add (docs/stock.md).
    return bool(found) and (found[0] == known[0] or found[0] not in known)


@cache
def _revisions() -> tuple[str, ...]:
    """List the revisions that this release knows, the latest first."""
    scripts = ScriptDirectory.from_config(_alembic())
    return tuple(script.revision for script in scripts.walk_revisions())


def _alembic() -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def _prepare_sqlite(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    # The driver's own idea of when a transaction begins is none that a lock can rest on.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # what was acknowledged survives a power cut
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    """Take the one write lock at once; taken later, it could not be had without a dead end."""
    reads_only = connection.get_execution_options().get("reads_only")
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")
