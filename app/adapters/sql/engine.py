"""Opening a database, and the one place where a driver's error becomes ours.

SQLite: WAL with synchronous=FULL, so that a commit survives a power cut. PostgreSQL: psycopg 3, every wait bounded.
"""

from __future__ import annotations

import select
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.errors import AssayError, Broken, Malformed, Unavailable

POOL_SIZE: Final = 16
POOL_TIMEOUT_S: Final = 5.0
CONNECT_TIMEOUT_S: Final = 5
STATEMENT_TIMEOUT_MS: Final = 15_000
LOCK_TIMEOUT_MS: Final = 4_000
IDLE_IN_TRANSACTION_TIMEOUT_MS: Final = 30_000
SQLITE_BUSY_TIMEOUT_MS: Final = 5_000
SQLITE_RETRY_S: Final = 0.0002
SQLITE_WAL_CHECKPOINT_PAGES: Final = 4_000
KEEPALIVES: Final = {
    "keepalives": 1,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
SCHEMA_BEHIND: Final = "the database has no ledger of this version: run `assay migrate`"


def open_engine(
    url: str,
    *,
    pool_size: int = POOL_SIZE,
    pool_timeout_s: float = POOL_TIMEOUT_S,
    statement_timeout_ms: int = STATEMENT_TIMEOUT_MS,
    lock_timeout_ms: int = LOCK_TIMEOUT_MS,
) -> sa.Engine:
    """Return an engine for `sqlite:///file` or `postgresql://…`; it connects on first use.

    `statement_timeout_ms=0` means none (for migrations). Raises Malformed for another kind of URL.
    """
    parsed = _parse_url(url)
    pool = {"pool_size": pool_size, "max_overflow": 0, "pool_timeout": pool_timeout_s, "pool_use_lifo": True}
    if parsed.get_backend_name() == "sqlite":
        engine = sa.create_engine(parsed, connect_args={"check_same_thread": False}, **pool)
        event.listen(engine, "connect", _prepare_sqlite)
        return engine
    # Plans are made anew each time: one kept from when the log was small would scan all of the large one, for ever.
    options = (
        f"-c statement_timeout={statement_timeout_ms} -c lock_timeout={lock_timeout_ms}"
        f" -c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_TIMEOUT_MS} -c jit=off"
        " -c plan_cache_mode=force_custom_plan"
    )
    connect = {"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "assay", "options": options, **KEEPALIVES}
    engine = sa.create_engine(parsed, connect_args=connect, isolation_level="AUTOCOMMIT", **pool)
    event.listen(engine, "checkout", _refuse_dead_connection)
    return engine


def _parse_url(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise Malformed("the database URL cannot be read: use sqlite:///FILE or postgresql://…") from error
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    is_file = parsed.database not in (None, "", ":memory:")
    if parsed.drivername == "postgresql+psycopg" or (parsed.drivername in ("sqlite", "sqlite+pysqlite") and is_file):
        return parsed
    raise Malformed(f"no ledger on {parsed.drivername}: use sqlite:///FILE or postgresql://…")


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the module must not open transactions of its own: we do, with BEGIN IMMEDIATE
    for pragma in (
        f"busy_timeout = {SQLITE_BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "recursive_triggers = ON",  # without it INSERT OR REPLACE would delete rows behind the triggers' back
        "trusted_schema = OFF",
        f"wal_autocheckpoint = {SQLITE_WAL_CHECKPOINT_PAGES}",
        "secure_delete = ON",  # always, or pages rebuilt by somebody else keep copies of keys that are destroyed later
    ):
        connection.execute(f"PRAGMA {pragma}")


def _refuse_dead_connection(connection: psycopg.Connection[Any], _record: object, _proxy: object) -> None:
    """Drop a pooled connection that the server has closed."""
    if is_cut(connection):
        raise InvalidatePoolError


def is_cut(connection: psycopg.Connection[Any]) -> bool:
    """Say whether the server has closed an idle connection: it has nothing to read but the news of its end."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Lend a connection whose every statement sees what is committed then. Errors come out as ours."""
    with translated_errors(), engine.connect() as connection:
        yield connection


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Lend a connection in a transaction: committed on a clean exit, else rolled back. Errors come out as ours.

    Connections autocommit, so that reading costs no round trip more; the transaction is begun here. SQLite takes its
    write lock at once, so that no transaction finds out halfway that it cannot have it.
    """
    with translated_errors(), engine.connect() as connection, connection.begin():
        driver: Any = connection.connection.driver_connection
        if isinstance(driver, sqlite3.Connection):
            _begin_writing(driver)
        else:
            driver.execute("BEGIN")
        yield connection


def _begin_writing(driver: sqlite3.Connection) -> None:
    """Begin a transaction with SQLite's write lock, or raise when it cannot be had in `SQLITE_BUSY_TIMEOUT_MS`.

    Others hold it for about a millisecond. SQLite itself would sleep longer and longer, up to 100 ms, and those who
    write all the time would keep the others out.
    """
    deadline_s = time.monotonic() + SQLITE_BUSY_TIMEOUT_MS / 1000
    driver.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                driver.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline_s:
                    raise
                time.sleep(SQLITE_RETRY_S)
            else:
                return
    finally:
        driver.execute(f"PRAGMA busy_timeout = {SQLITE_BUSY_TIMEOUT_MS}")


@contextmanager
def translated_errors() -> Iterator[None]:
    """Let no driver's exception out: Unavailable if the same request may succeed later, else Broken."""
    try:
        yield
    except (DBAPIError, PoolTimeoutError, psycopg.Error, sqlite3.Error) as error:
        raise _translate(error.orig if isinstance(error, DBAPIError) else error) from error


def _translate(error: BaseException | None) -> AssayError:
    if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn) or _lacks_table(error):
        return Unavailable(SCHEMA_BEHIND, code="schema_behind", retry_after_s=30)
    if isinstance(
        error,
        PoolTimeoutError
        | psycopg.OperationalError
        | psycopg.InterfaceError
        | psycopg.errors.ReadOnlySqlTransaction
        | sqlite3.OperationalError,
    ):
        return Unavailable("the database cannot do this now", code="store_unavailable")
    return Broken(f"the database refused: {type(error).__name__}", code="store_broken")


def _lacks_table(error: BaseException | None) -> bool:
    return isinstance(error, sqlite3.OperationalError) and str(error).startswith(("no such table", "no such column"))


def open_dedicated(engine: sa.Engine) -> Any:
    """Return a driver connection of its own, outside the pool, autocommitting; the caller closes it.

    With psycopg.Connection or sqlite3.Connection behind it, according to `engine`.
    """
    with translated_errors():
        pooled = engine.raw_connection()
        driver = pooled.driver_connection
        pooled.detach()
        return driver
