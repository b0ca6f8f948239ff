"""Alembic's entry point: always called with an open connection, by `api/store/migrate.py`."""

from alembic import context

from api.store import process_table, target_tables  # noqa: F401 - so that Table knows them
from api.store.tables import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
