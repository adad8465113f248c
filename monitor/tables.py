"""The tables, for SQLite and PostgreSQL. Times are milliseconds since 1970, in UTC.

A change here wants a migration beside it (`migrations/versions`): the tests compare the two.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()
# Photos are ordered by their names' bytes, as Python does, whatever the database's own order.
Name = Text().with_variant(Text(collation="C"), "postgresql")

# One row a view: its lock, its counters, and where its fold stands.
views = Table(
    "views",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("bucket", Text, nullable=False),
    Column("folder", Text, nullable=False),
    Column("store", Text, nullable=False),
    Column("seen", BigInteger, nullable=False, default=0),  # the last upload, rejected ones too
    Column("silent_since", BigInteger),  # said to be silent; null while it is not
    Column("state", Text, nullable=False, default=""),  # of the fold after all audits
    Column("steps", Integer, nullable=False, default=0),  # audits since the last checkpoint
    Column("base_captured", BigInteger),  # audits up to here are folded away
    Column("base_photo", Text, nullable=False, default=""),
    Column("late", Integer, nullable=False, default=0),  # came after their time was folded away
    Index("views_by_store", "store", "folder"),
)

audits = Table(
    "audits",
    metadata,
    Column("view", String(32), primary_key=True),
    Column("captured", BigInteger, primary_key=True),
    Column("photo", Name, primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("uri", Text, nullable=False),
    Column("uploaded", BigInteger, nullable=False),
    Column("products", LargeBinary, nullable=False),
    Column("gaps", Text, nullable=False),
    Column("count", Integer, nullable=False),
    Column("empty", Float, nullable=False),  # facings
    Column("fill_rate", Float),
    Column("doubtful", Boolean, nullable=False),
    Column("warnings", Text, nullable=False),
    Index("audits_by_photo", "view", "photo", unique=True),
)

# The fold's state after one audit, so that a late one is not folded from the beginning.
checkpoints = Table(
    "checkpoints",
    metadata,
    Column("view", String(32), primary_key=True),
    Column("captured", BigInteger, primary_key=True),
    Column("photo", Name, primary_key=True),
    Column("state", Text, nullable=False),
)

# What the board adds up and draws: the photos of six hours, packed (`points.py`).
spans = Table(
    "spans",
    metadata,
    Column("view", String(32), primary_key=True),
    Column("start", BigInteger, primary_key=True),
    Column("store", Text, nullable=False),
    Column("points", LargeBinary, nullable=False),
    Index("spans_by_store", "store", "start"),
)

# Photos that can never be audited: signs of life.
rejections = Table(
    "rejections",
    metadata,
    Column("view", String(32), primary_key=True),
    Column("photo", Name, primary_key=True),
    Column("uploaded", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
)

episodes = Table(
    "episodes",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("view", String(32), nullable=False),
    Column("store", Text, nullable=False),
    Column("opened", BigInteger, nullable=False),
    Column("photo", Text, nullable=False),
    Column("uri", Text, nullable=False),
    Column("box", Text, nullable=False),  # JSON, 65535ths of the photo's sides
    Column("row", Integer, nullable=False),
    Column("facings", Float, nullable=False),
    Column("closed", BigInteger),
    Column("ended", Text, nullable=False),
    Column("settled", BigInteger),
    Column("settled_photo", Text, nullable=False),
    Index("episodes_by_view", "view", "opened"),
    Index("episodes_by_store", "store", "closed", "opened"),
)

# Events to be published, and those that are: a transactional outbox.
outgoing_events = Table(
    "tellings",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("view", String(32), nullable=False),
    Column("episode", String(32), nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("type", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("closed", BigInteger),
    Column("ended", Text, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("data", Text, nullable=False),
    Column("told", BigInteger),  # null until it is published
    Index("tellings_by_episode", "episode", "sequence", unique=True),
    Index("tellings_by_view", "view", "told"),
)

# "Not a gap", said by a person on the board.
mutes = Table(
    "mutes",
    metadata,
    Column("episode", String(32), primary_key=True),
    Column("view", String(32), nullable=False),
    Column("uri", Text, nullable=False),
    Column("box", Text, nullable=False),
    Column("muted", BigInteger, nullable=False),
)

# The digests that were sent, so that a second run of the hour sends none.
digests = Table(
    "digests",
    metadata,
    Column("store", Text, primary_key=True),
    Column("hour", BigInteger, primary_key=True),
)
