"""Alembic runs this: the migrations go over the connection that the ledger has opened, in its transaction."""

from alembic import context

from serving.ledger.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
