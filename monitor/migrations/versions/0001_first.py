"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

NAME = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create everything."""
    op.create_table(
        "audits",
        sa.Column("view", sa.String(length=32), nullable=False),
        sa.Column("captured", sa.BigInteger(), nullable=False),
        sa.Column("photo", NAME, nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("uploaded", sa.BigInteger(), nullable=False),
        sa.Column("products", sa.LargeBinary(), nullable=False),
        sa.Column("gaps", sa.Text(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("empty", sa.Float(), nullable=False),
        sa.Column("fill_rate", sa.Float(), nullable=True),
        sa.Column("doubtful", sa.Boolean(), nullable=False),
        sa.Column("warnings", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("view", "captured", "photo"),
    )
    op.create_index("audits_by_photo", "audits", ["view", "photo"], unique=True)
    op.create_table(
        "checkpoints",
        sa.Column("view", sa.String(length=32), nullable=False),
        sa.Column("captured", sa.BigInteger(), nullable=False),
        sa.Column("photo", NAME, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("view", "captured", "photo"),
    )
    op.create_table(
        "digests",
        sa.Column("store", sa.Text(), nullable=False),
        sa.Column("hour", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("store", "hour"),
    )
    op.create_table(
        "episodes",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("view", sa.String(length=32), nullable=False),
        sa.Column("store", sa.Text(), nullable=False),
        sa.Column("opened", sa.BigInteger(), nullable=False),
        sa.Column("photo", sa.Text(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("box", sa.Text(), nullable=False),
        sa.Column("row", sa.Integer(), nullable=False),
        sa.Column("facings", sa.Float(), nullable=False),
        sa.Column("closed", sa.BigInteger(), nullable=True),
        sa.Column("ended", sa.Text(), nullable=False),
        sa.Column("settled", sa.BigInteger(), nullable=True),
        sa.Column("settled_photo", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("episodes_by_store", "episodes", ["store", "closed", "opened"], unique=False)
    op.create_index("episodes_by_view", "episodes", ["view", "opened"], unique=False)
    op.create_table(
        "mutes",
        sa.Column("episode", sa.String(length=32), nullable=False),
        sa.Column("view", sa.String(length=32), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("box", sa.Text(), nullable=False),
        sa.Column("muted", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("episode"),
    )
    op.create_table(
        "rejections",
        sa.Column("view", sa.String(length=32), nullable=False),
        sa.Column("photo", NAME, nullable=False),
        sa.Column("uploaded", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("view", "photo"),
    )
    op.create_table(
        "tellings",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("view", sa.String(length=32), nullable=False),
        sa.Column("episode", sa.String(length=32), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("closed", sa.BigInteger(), nullable=True),
        sa.Column("ended", sa.Text(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.Column("told", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("tellings_by_episode", "tellings", ["episode", "sequence"], unique=True)
    op.create_index("tellings_by_view", "tellings", ["view", "told"], unique=False)
    op.create_table(
        "views",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("bucket", sa.Text(), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("store", sa.Text(), nullable=False),
        sa.Column("seen", sa.BigInteger(), nullable=False),
        sa.Column("silent_since", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("steps", sa.Integer(), nullable=False),
        sa.Column("base_captured", sa.BigInteger(), nullable=True),
        sa.Column("base_photo", sa.Text(), nullable=False),
        sa.Column("late", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("views_by_store", "views", ["store", "folder"], unique=False)
