"""Migrating a database, for `assay migrate` and the tests. No alembic.ini: the scripts are in the checkout or wheel."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

import app
from app.adapters.sql.engine import SCHEMA_BEHIND, open_engine, reading, writing
from app.errors import Broken, Unavailable


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database of `url` to `revision`, in one transaction; nothing to do is fine."""
    engine = open_engine(url, statement_timeout_ms=0, pool_size=1)
    try:
        with writing(engine) as connection:
            command.upgrade(_config(connection), revision)
    finally:
        engine.dispose()


def downgrade(url: str, revision: str) -> None:
    """Take the database back to `revision` ("base" for none); refuses to drop what holds entries."""
    engine = open_engine(url, statement_timeout_ms=0, pool_size=1)
    try:
        with writing(engine) as connection:
            command.downgrade(_config(connection), revision)
    finally:
        engine.dispose()


def current_revision(engine: sa.Engine) -> str | None:
    """Return the database's revision, None before the first migration."""
    with reading(engine) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def newest_revision() -> str:
    """Return the revision that this code needs."""
    head = ScriptDirectory(str(find_migrations())).get_current_head()
    if head is None:
        raise Broken("there are no migrations")
    return head


def require_current(engine: sa.Engine) -> None:
    """Raise Unavailable unless the database has the revision that this code needs."""
    current, newest = current_revision(engine), newest_revision()
    if current != newest:
        raise Unavailable(f"{SCHEMA_BEHIND} (it is at {current}, we need {newest})", code="schema_behind")


def find_migrations() -> Path:
    """Return the folder of migrations: in the wheel inside the package, in a checkout beside it."""
    package = Path(app.__file__).parent
    for folder in (package / "shipped" / "migrations", package.parent / "migrations"):
        if (folder / "env.py").is_file():
            return folder
    raise Broken("the migrations are missing from this installation")


def _config(connection: sa.Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(find_migrations()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
