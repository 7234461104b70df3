"""Runs migrations on the connection that `migrate_store` hands over."""

from alembic import context

from ganomaly.store.schema import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
