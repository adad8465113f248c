"""Each photo's numbers once more, those of six hours together: what the board adds up."""

import sqlalchemy as sa
from alembic import op

from monitor.points import pack_points, span_of

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the table, and fill it from the audits that are there."""
    op.create_table(
        "spans",
        sa.Column("view", sa.String(length=32), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("store", sa.Text(), nullable=False),
        sa.Column("points", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("view", "start"),
    )
    op.create_index("spans_by_store", "spans", ["store", "start"], unique=False)
    connection = op.get_bind()
    known = sa.text(
        "SELECT captured, count, empty, fill_rate, doubtful FROM audits "
        "WHERE view = :view ORDER BY captured, photo"
    ).columns(doubtful=sa.Boolean())
    add = sa.text(
        "INSERT INTO spans (view, start, store, points) VALUES (:view, :start, :store, :points)"
    )
    for view, store in connection.execute(sa.text("SELECT id, store FROM views")).all():
        spans: dict[int, list[tuple[int, int, float, float | None, bool]]] = {}
        for row in connection.execute(known, {"view": view}):
            spans.setdefault(span_of(row.captured), []).append(tuple(row))
        for start, rows in spans.items():
            packed = pack_points(start, rows)
            facts = {"view": view, "start": start, "store": store, "points": packed}
            connection.execute(add, facts)
