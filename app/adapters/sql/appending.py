"""Appending on PostgreSQL: the steps in whoever's transaction, and a connection kept for groups of entries alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.pq import TransactionStatus

from app.adapters.sql.arrays import pack_blobs, pack_texts, pack_uuids
from app.adapters.sql.backend import require_entries
from app.adapters.sql.engine import is_cut, open_dedicated, translated_errors
from app.adapters.sql.wake import APPENDED, format_appended
from app.errors import Unavailable
from app.ledger.ports import AppendResult, EntryRow

_CLAIM = """
INSERT INTO idempotency (tenant, idem, fingerprint, entry_id)
SELECT %b, r.idem, r.fingerprint, r.entry_id
FROM unnest(%b::bytea[], %b::bytea[], %b::uuid[]) AS r (idem, fingerprint, entry_id)
ON CONFLICT DO NOTHING"""

_FIND_EARLIER = """
SELECT i.idem, e.seq, e.id, i.fingerprint
FROM idempotency i JOIN entry e ON e.tenant = i.tenant AND e.id = i.entry_id
WHERE i.tenant = %b AND i.idem = ANY (%b::bytea[])"""

# Whoever appends shares the tenant's row until the commit; whoever closes the log waits for them and holds it alone.
# FOR SHARE looks at `state` anew after having waited, so a log that was closed meanwhile takes nothing.
_SHUT_OUT_APPENDERS = "SELECT FROM tenant WHERE id = %b FOR UPDATE"

# The numbers are drawn together, after the trigger: row by row they would mix with those of whoever else inserts, and
# each run of leaves is as long as the numbers are in a row.
_APPEND = """
WITH opened AS (SELECT id FROM tenant WHERE id = %b AND state = 'open' FOR SHARE),
added AS (
    INSERT INTO entry (tenant, seq, id, body, action, subject) OVERRIDING SYSTEM VALUE
    SELECT opened.id, r.seq, r.id, r.body, r.action, r.subject
    FROM opened, unnest(
        (SELECT array_agg(nextval('entry_seq_seq')) FROM generate_series(1, %b)),
        %b::uuid[], %b::bytea[], %b::text[], %b::text[]) AS r (seq, id, body, action, subject)
    RETURNING seq, id)"""
_DRAWN = "SELECT min(seq), max(seq), count(*) FROM added"  # a row for each costs both sides more
_READ_DRAWN = """
SELECT seq FROM entry WHERE tenant = %b AND seq >= %b AND seq <= %b AND id = ANY (%b::uuid[]) ORDER BY seq"""
_REFER = """,
referred AS (
    INSERT INTO entry_ref (tenant, value, seq)
    SELECT %b, f.value, added.seq FROM added JOIN unnest(%b::uuid[], %b::text[]) AS f (id, value) ON f.id = added.id)"""

COMMITTED = "COMMIT"
"""How the server answers a commit that took place."""


class PostgresEntries:
    """The steps of an append in the transaction of one connection."""

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        """`driver` is in a transaction."""
        self._driver = driver
        self.appended: list[tuple[int, int]] = []

    def claim(self, tenant: str, keyed: dict[bytes, EntryRow]) -> dict[bytes, AppendResult]:
        """Wait for running transactions that claim the same keys; a key claimed just now has no entry yet."""
        keys = sorted(keyed)  # one order for everybody, against deadlocks
        arguments = (tenant, keys, [keyed[key].fingerprint for key in keys], [keyed[key].id for key in keys])
        claimed = self._driver.execute(_CLAIM, arguments).rowcount
        if claimed == len(keys):
            return {}
        found = self._driver.execute(_FIND_EARLIER, (tenant, keys), binary=True)
        earlier = {key: AppendResult(seq, entry_id, True, fingerprint) for key, seq, entry_id, fingerprint in found}
        return require_entries(claimed, earlier, len(keys))

    def insert(self, tenant: str, rows: Sequence[EntryRow]) -> list[int]:
        """Return the sequence numbers of the rows, in their order; none if the log is not open."""
        _, ids, bodies, actions, subjects, refs, *_ = zip(*rows, strict=True)
        statement = _APPEND
        arguments = [tenant, len(ids), pack_uuids(ids), pack_blobs(bodies), pack_texts(actions), pack_texts(subjects)]
        if any(refs):
            named = [(entry_id, value) for entry_id, own in zip(ids, refs, strict=True) for value in dict.fromkeys(own)]
            entry_ids, values = zip(*named, strict=True)
            statement += _REFER
            arguments += [tenant, pack_uuids(entry_ids), pack_texts(values)]
        first, last, count = self._driver.execute(statement + _DRAWN, arguments, binary=True).fetchall()[0]
        if not count:
            return []
        self.appended.append((last, count))
        if last - first + 1 == count:
            return list(range(first, last + 1))
        drawn = (tenant, first, last, pack_uuids(ids))  # somebody drew at the same moment
        return [seq for (seq,) in self._driver.execute(_READ_DRAWN, drawn, binary=True)]

    def shut_out_others(self, tenant: str) -> None:
        """Wait at most the lock timeout for those who append."""
        self._driver.execute(_SHUT_OUT_APPENDERS, (tenant,))


class KeptAppender:
    """A connection for groups of entries alone, used by one thread at a time.

    SQLAlchemy's way to a connection and through a transaction takes as long as to insert thirty entries.
    """

    def __init__(self, engine: sa.Engine) -> None:
        """Connect when first needed."""
        self._engine = engine
        self._busy = threading.Lock()
        self._driver: psycopg.Connection[Any] | None = None

    @contextmanager
    def lend(self) -> Iterator[PostgresEntries | None]:
        """Lend the steps of an append, on a clean exit committed and announced; None if somebody is at it."""
        if not self._busy.acquire(blocking=False):
            yield None
            return
        try:
            with translated_errors():
                yield from self._append()
        finally:
            self._busy.release()

    def _append(self) -> Iterator[PostgresEntries]:
        """Yield the steps in a transaction of the kept connection; after an error the next call may connect anew."""
        driver = self._connect()
        try:
            driver.execute("BEGIN")
            entries = PostgresEntries(driver)
            yield entries
            self._commit_and_tell(driver, entries.appended)
        except BaseException:
            self._roll_back(driver)
            raise

    def _connect(self) -> psycopg.Connection[Any]:
        """Return the kept connection if it is fit for a transaction, else a new one."""
        driver = self._driver
        if driver is None or driver.info.transaction_status != TransactionStatus.IDLE or is_cut(driver):
            self._drop()
            driver = self._driver = open_dedicated(self._engine)
            driver.prepare_threshold = 0
        return driver

    def _roll_back(self, driver: psycopg.Connection[Any]) -> None:
        """Leave the connection as after a rollback, or leave it altogether."""
        with suppress(psycopg.Error):
            if driver.info.transaction_status in {TransactionStatus.INTRANS, TransactionStatus.INERROR}:
                driver.execute("ROLLBACK")
                return
        self._drop()

    def _commit_and_tell(self, driver: psycopg.Connection[Any], appended: Sequence[tuple[int, int]]) -> None:
        """Commit and wake the sequencer, in one round trip: the server tells it the moment that the commit is durable.

        If only the telling fails, nothing is lost. The connection is: an error at the end of a pipeline has psycopg
        wait for ever.
        """
        if not appended:
            driver.execute("COMMIT")
            return
        commit = driver.cursor()
        try:
            with driver.pipeline():
                commit.execute("COMMIT")
                driver.execute(APPENDED, (format_appended(appended),))
        except psycopg.Error:
            if commit.statusmessage != COMMITTED:
                raise
            self._drop()
        if commit.statusmessage != COMMITTED:  # the server answers so to whoever has overlooked an error
            raise Unavailable("the database has rolled the transaction back", code="store_unavailable")

    def _drop(self) -> None:
        if self._driver is not None:
            self._driver.close()
        self._driver = None

    def close(self) -> None:
        """Close the connection once nobody is at it."""
        with self._busy:
            self._drop()
