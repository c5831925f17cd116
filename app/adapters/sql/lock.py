"""One sequencer per log: an advisory lock of a session on PostgreSQL, a locked file beside the database on SQLite."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from hashlib import sha256
from pathlib import Path

import psycopg
import sqlalchemy as sa

from app.adapters.sql.engine import is_cut, open_dedicated, translated_errors
from app.errors import Unavailable
from app.ledger.ports import NotLeaderError

_TRY_LOCK = "SELECT pg_try_advisory_lock(%b)"
_UNLOCK = "SELECT pg_advisory_unlock(%b)"


@contextmanager
def hold_advisory_lock(engine: sa.Engine, tenant: str) -> Iterator[None]:
    """Hold the lock on a connection of its own, whose death gives it back.

    It is given back before the connection is closed: the server ends a session some time after we have left it.
    """
    key = int.from_bytes(sha256(b"assay sequencer\0" + tenant.encode()).digest()[:8], "big", signed=True)
    with closing(open_dedicated(engine)) as driver:
        with translated_errors():
            row = driver.execute(_TRY_LOCK, (key,), binary=True).fetchone()
        if not row[0]:
            raise NotLeaderError("another process is sequencing this log")
        try:
            yield
        finally:
            if not is_cut(driver):
                with suppress(psycopg.Error):
                    driver.execute(_UNLOCK, (key,))


@contextmanager
def hold_file_lock(database: Path, tenant: str) -> Iterator[None]:
    """Hold the lock of `<database>.sequencer-<hash of tenant>.lock`; the file stays, the lock dies with us."""
    name = f"{database.name}.sequencer-{sha256(tenant.encode()).hexdigest()[:16]}.lock"
    try:
        file = database.with_name(name).open("ab")
    except OSError as error:
        raise Unavailable("the sequencer's lock file cannot be opened", code="store_unavailable") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise NotLeaderError("another process is sequencing this log") from error
        yield
