"""Runs the migrations on the connection that `app.adapters.sql.migrate` hands over; imports no app code."""

# ruff: noqa: INP001 - Alembic loads this file by its path: it is in no package

from alembic import context

LOCK_TIMEOUT = "4s"
ADVISORY_LOCK = 0x6173736179  # "assay": one migration at a time per database


def run() -> None:
    """Migrate in one transaction: all or nothing, on both databases."""
    connection = context.config.attributes["connection"]
    context.configure(connection=connection, transactional_ddl=True, transaction_per_migration=False)
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")
        context.run_migrations()


run()
