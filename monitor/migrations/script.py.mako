"""${message}"""

from alembic import op
import sqlalchemy as sa

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """Add only: the old revision goes on serving while the new one starts."""
    ${upgrades if upgrades else "pass"}
