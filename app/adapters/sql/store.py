"""The ledger store on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from app.adapters.sql import tables as t
from app.adapters.sql.append import append_rows
from app.adapters.sql.backend import Backend, Entries
from app.adapters.sql.engine import open_engine
from app.adapters.sql.postgres import PostgresBackend
from app.adapters.sql.read import SqlReader
from app.adapters.sql.sqlite import SqliteBackend
from app.errors import Conflict
from app.ledger.ports import AppendResult, EntryRow, Heard, Integration, LogFrozenError, LostSwapError, Pending, Tenant
from app.tlog.tree import EMPTY_ROOT


class EntriesTx:
    """One open transaction, for entries."""

    def __init__(self, entries: Entries) -> None:
        """`entries` are the steps in a write transaction."""
        self.refusal: LogFrozenError | None = None
        self.entries = entries

    def append_entries(self, rows: Sequence[EntryRow]) -> list[AppendResult]:
        """Insert the rows; after LogFrozenError the transaction can only be rolled back."""
        try:
            return self._append(rows)
        except LogFrozenError as error:
            self.refusal = error
            raise

    def _append(self, rows: Sequence[EntryRow]) -> list[AppendResult]:
        if len({row.tenant for row in rows}) == 1:
            return append_rows(self.entries, rows[0].tenant, rows)
        by_tenant: dict[str, list[EntryRow]] = {}
        for row in rows:
            by_tenant.setdefault(row.tenant, []).append(row)
        results = {name: iter(append_rows(self.entries, name, own)) for name, own in by_tenant.items()}
        return [next(results[row.tenant]) for row in rows]


class SqlTx(EntriesTx):
    """One open transaction. Payments, subjects and tokens write through `connection`, in the same transaction."""

    def __init__(self, connection: sa.Connection, backend: Backend) -> None:
        """`connection` is in a write transaction of `backend`."""
        super().__init__(backend.entries(connection))
        self.connection = connection


class SqlStore(SqlReader):
    """A LedgerStore on an engine of `open_engine`."""

    def __init__(self, engine: sa.Engine) -> None:
        """The schema is there already: `migrate.upgrade` makes it, `migrate.require_current` checks it."""
        backend: Backend = SqliteBackend(engine) if engine.dialect.name == "sqlite" else PostgresBackend(engine)
        super().__init__(engine, backend)

    @classmethod
    def open(cls, url: str) -> SqlStore:
        """Return a store on the database of `url`, with the default bounds."""
        return cls(open_engine(url))

    @contextmanager
    def transaction(self) -> Iterator[SqlTx]:
        """Commit on a clean exit and then wake the sequencer; roll back on an exception."""
        with self._backend.write() as connection:
            tx = SqlTx(connection, self._backend)
            yield tx
            if tx.refusal is not None:
                raise tx.refusal
        self._backend.announce_append(tx.entries.appended)

    @contextmanager
    def appending(self) -> Iterator[EntriesTx]:
        """As `transaction`, for entries alone."""
        with self._backend.appending() as entries:
            tx = EntriesTx(entries)
            yield tx
            if tx.refusal is not None:
                raise tx.refusal

    def add_tenant(self, tenant: Tenant) -> None:
        """Create a tenant and its empty head."""
        state = t.FROZEN if tenant.frozen else t.OPEN
        empty = {"size": 0, "root": EMPTY_ROOT, "settled_seq": 0, "frozen": tenant.frozen}
        with self._backend.write() as connection:
            try:
                connection.execute(sa.insert(t.tenant).values(id=tenant.id, origin=tenant.origin, state=state))
            except IntegrityError as error:
                raise Conflict("a tenant with this id or this origin exists", code="tenant_exists") from error
            connection.execute(sa.insert(t.head).values(tenant=tenant.id, **empty))

    def close_log(self, last: EntryRow) -> AppendResult:
        """Append `last` and take no more entries (app.ledger.freeze)."""
        with self._backend.write() as connection:
            entries = self._backend.entries(connection)
            entries.shut_out_others(last.tenant)
            [result] = append_rows(entries, last.tenant, [last])
            connection.execute(sa.update(t.tenant).where(t.tenant.c.id == last.tenant).values(state=t.FROZEN))
        self._backend.announce_append([(result.seq, 1)])
        return result

    def sequencer_lock(self, tenant: str) -> AbstractContextManager[None]:
        """Hold this log's sequencer lock."""
        return self._backend.sequencer_lock(tenant)

    def list_pending(self, tenant: str, after_seq: int, limit: int) -> Pending:
        """Return the next entries without an index."""
        return self._backend.list_pending(tenant, after_seq, limit)

    def integrate(self, batch: Integration) -> None:
        """Swap the head, and insert leaves and tiles, in one transaction."""
        if not self._backend.integrate(batch):
            head = self.read_head(batch.tenant)
            if head.frozen:
                raise LogFrozenError("this log is frozen: its head does not move")
            raise LostSwapError(
                f"the head is at size {head.size}, not {batch.old.size} with the root we know: someone else moved it"
            )
        self._backend.integrated.add(batch.seqs)

    def expose(self, tenant: str, size: int, checkpoint: bytes) -> None:
        """Insert the checkpoint; one of this size that is there already stays."""
        self._backend.expose(tenant, size, checkpoint)

    def wait_for_append(self, timeout_s: float, rows: int = 1) -> int:
        """Return how many entries are news since the last call, once it is `rows` or after `timeout_s`."""
        return self._backend.wait_for_append(timeout_s, rows)

    def publications(self, poll_s: float) -> Iterator[Heard]:
        """Yield what is placed and exposed as it happens, and None at least every `poll_s`."""
        return self._backend.publications(poll_s)

    def close(self) -> None:
        """Close every connection; nobody may be waiting."""
        self._backend.close()
        self._engine.dispose()
