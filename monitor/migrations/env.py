"""How Alembic runs the migrations: on the connection that `monitor.database` hands it."""

from alembic import context

from monitor.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
