"""Subjects, their keys and sealed fields in SQL (app.subjects.ports; migration 0002)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import groupby
from typing import Any, Final, TypeVar
from uuid import UUID

import psycopg
import sqlalchemy as sa
from sqlalchemy import bindparam, delete, exists, insert, select, update
from sqlalchemy.exc import IntegrityError

from app.adapters.sql import tables as t
from app.adapters.sql.arrays import pack_blobs, pack_texts, pack_uuids
from app.adapters.sql.engine import open_dedicated, reading, translated_errors
from app.adapters.sql.store import SqlStore, SqlTx
from app.errors import AssayError, Conflict, NotFound
from app.ledger.ports import AppendResult, EntryRow
from app.subjects.ports import JOURNAL_BATCH, READ_BATCH, Erasure, Newcomer
from app.subjects.seal import SealedField, SubjectKey
from app.subjects.subject import Subject

SCRUB_WAIT_MS: Final = 250
"""How long scrubbing waits for readers; meanwhile nobody can write."""

_T = TypeVar("_T")

_TENANT: Final[sa.BindParameter[str]] = bindparam("of_tenant")
_SUBJECT: Final[sa.BindParameter[str]] = bindparam("of_subject")
_IS_SUBJECT: Final = sa.and_(t.subject.c.tenant == _TENANT, t.subject.c.id == _SUBJECT)
_OWN_KEY: Final = sa.and_(t.subject_key.c.tenant == _TENANT, t.subject_key.c.subject == _SUBJECT)
_OWN_FIELDS: Final = sa.and_(t.sealed_field.c.tenant == _TENANT, t.sealed_field.c.subject == _SUBJECT)

_ADD: Final = sa.text(
    "INSERT INTO subject (tenant, id) SELECT id, :of_subject FROM tenant WHERE id = :of_tenant ON CONFLICT DO NOTHING"
)
_HAS_TENANT: Final = sa.text("SELECT 1 FROM tenant WHERE id = :of_tenant")
_LOCK: Final = select(t.subject.c.erased_at_ms).where(_IS_SUBJECT).with_for_update()
_KEY: Final = select(t.subject_key.c.key).where(_OWN_KEY)
_FIND: Final = (
    select(t.subject.c.id, t.subject.c.erased_at_ms, t.subject_key.c.key)
    .select_from(
        t.subject.outerjoin(
            t.subject_key,
            sa.and_(t.subject_key.c.tenant == t.subject.c.tenant, t.subject_key.c.subject == t.subject.c.id),
        )
    )
    .where(t.subject.c.tenant == _TENANT, t.subject.c.id.in_(bindparam("subjects", expanding=True)))
)
_LIST: Final = (
    select(t.sealed_field)
    .where(
        t.sealed_field.c.tenant == _TENANT,
        t.sealed_field.c.entry_id.in_(bindparam("entry_ids", expanding=True, type_=t.EntryId())),
    )
    .order_by(t.sealed_field.c.path)
)
_ADD_KEY: Final = insert(t.subject_key)
_ADD_FIELD: Final = insert(t.sealed_field)
# One statement for a group of newcomers; whoever is there already breaks its primary key, and with it all.
_ADD_NEWCOMERS: Final = """
WITH newcomer AS (
    INSERT INTO subject (tenant, id)
    SELECT tenant.id, r.id FROM unnest(%b::text[], %b::text[]) AS r (tenant, id) JOIN tenant ON tenant.id = r.tenant
    RETURNING tenant, id),
keys AS (
    INSERT INTO subject_key (tenant, subject, key)
    SELECT r.tenant, r.id, r.key FROM unnest(%b::text[], %b::text[], %b::bytea[]) AS r (tenant, id, key)),
fields AS (
    INSERT INTO sealed_field (tenant, entry_id, path, subject, box)
    SELECT r.tenant, r.entry_id, r.path, r.subject, r.box
    FROM unnest(%b::text[], %b::uuid[], %b::text[], %b::text[], %b::bytea[])
        AS r (tenant, entry_id, path, subject, box))
SELECT count(*) FROM newcomer"""
_ERASED: Final = (
    select(t.subject.c.id, t.subject.c.erased_at_ms)
    .where(t.subject.c.tenant == _TENANT, t.subject.c.id > bindparam("after"), t.subject.c.erased_at_ms.is_not(None))
    .order_by(t.subject.c.id)
    .limit(bindparam("limit"))
)
_STANDING: Final = select(t.subject.c.id).where(
    t.subject.c.tenant == _TENANT,
    t.subject.c.id.in_(bindparam("subjects", expanding=True)),
    t.subject.c.erased_at_ms.is_not(None),
    ~exists().where(t.subject_key.c.tenant == _TENANT, t.subject_key.c.subject == t.subject.c.id),
    ~exists().where(t.sealed_field.c.tenant == _TENANT, t.sealed_field.c.subject == t.subject.c.id),
)


class SqlSubjectTx:
    """A SubjectTransaction in the store's own transaction: payments and subjects commit together."""

    def __init__(self, tx: SqlTx) -> None:
        """`tx` is open."""
        self._tx = tx
        self._connection = tx.connection

    def append_entries(self, rows: Sequence[EntryRow]) -> list[AppendResult]:
        """Append to the logs in this transaction."""
        return self._tx.append_entries(rows)

    def add_subject(self, tenant: str, subject: str, *, key: SubjectKey | None) -> bool:
        """Insert the subject unless it is there; on PostgreSQL this waits for whoever is inserting it."""
        names = _names(tenant, subject)
        if self._connection.execute(_ADD, names).rowcount == 1:
            if key is not None:
                self._connection.execute(_ADD_KEY, {"tenant": tenant, "subject": subject, "key": key.secret})
            return True
        if self._connection.execute(_HAS_TENANT, {"of_tenant": tenant}).first() is None:
            raise NotFound("no such tenant")
        return False

    def lock_subject(self, tenant: str, subject: str) -> Subject | None:
        """Lock the row and then read the key, by a statement of its own.

        One statement for both would, after waiting for an erasure, show the key of before it: PostgreSQL looks again
        only at the row that it locked.
        """
        names = _names(tenant, subject)
        locked = self._connection.execute(_LOCK, names).first()
        if locked is None:
            return None
        return _to_subject(tenant, subject, locked.erased_at_ms, self._connection.execute(_KEY, names).scalar())

    def add_sealed(self, fields: Sequence[SealedField]) -> None:
        """Insert the fields."""
        if not fields:
            return
        try:
            self._connection.execute(_ADD_FIELD, list(map(_name_field, fields)))
        except IntegrityError as error:
            raise Conflict("this entry has such a sealed field already", code="sealed_exists") from error

    def add_newcomers(self, newcomers: Sequence[Newcomer]) -> None:
        """Insert them; in the driver's own form where a group is worth it."""
        driver = self._connection.connection.driver_connection
        try:
            if isinstance(driver, psycopg.Connection):
                _add_newcomers(driver, newcomers)
                return
            for newcomer in newcomers:
                if not self.add_subject(newcomer.tenant, newcomer.subject, key=newcomer.key):
                    raise _exists()
            self.add_sealed([sealed for newcomer in newcomers for sealed in newcomer.fields])
        except psycopg.errors.UniqueViolation as error:
            raise _exists() from error

    def destroy(self, tenant: str, subject: str, *, at_ms: int) -> int:
        """Delete key and fields; SQLite overwrites them (`secure_delete`), PostgreSQL leaves that to vacuum."""
        names = _names(tenant, subject)
        self._connection.execute(delete(t.subject_key).where(_OWN_KEY), names)
        fields = self._connection.execute(delete(t.sealed_field).where(_OWN_FIELDS), names).rowcount
        erased_at_ms = sa.func.coalesce(t.subject.c.erased_at_ms, at_ms)
        self._connection.execute(update(t.subject).where(_IS_SUBJECT).values(erased_at_ms=erased_at_ms), names)
        return fields


def keep_newcomers(tx: SqlTx, newcomers: Sequence[Newcomer]) -> None:
    """Add them in a transaction of the ledger's store."""
    SqlSubjectTx(tx).add_newcomers(newcomers)


class SqlSubjectStore:
    """A SubjectStore in the ledger's database."""

    def __init__(self, store: SqlStore, engine: sa.Engine) -> None:
        """`engine` is the one that `store` is on."""
        self._store = store
        self._engine = engine

    @contextmanager
    def transaction(self) -> Iterator[SqlSubjectTx]:
        """Open a transaction of the ledger's store."""
        with self._store.transaction() as tx:
            yield SqlSubjectTx(tx)

    def find_subject(self, tenant: str, subject: str) -> Subject | None:
        """Return the subject."""
        found = self.list_subjects(tenant, [subject])
        return found[0] if found else None

    def list_subjects(self, tenant: str, subjects: Sequence[str]) -> list[Subject]:
        """Return the subjects."""
        with reading(self._engine) as connection:
            found = connection.execute(_FIND, {"of_tenant": tenant, "subjects": _bounded(subjects)})
            return [_to_subject(tenant, row.id, row.erased_at_ms, row.key) for row in found]

    def list_sealed(self, tenant: str, entry_id: UUID) -> list[SealedField]:
        """Return the sealed fields of an entry."""
        return self.list_sealed_of(tenant, [entry_id])

    def list_sealed_of(self, tenant: str, entry_ids: Sequence[UUID]) -> list[SealedField]:
        """Return the sealed fields of the entries."""
        with reading(self._engine) as connection:
            found = connection.execute(_LIST, {"of_tenant": tenant, "entry_ids": _bounded(entry_ids)})
            return [
                SealedField(tenant=row.tenant, subject=row.subject, entry_id=row.entry_id, path=row.path, box=row.box)
                for row in found
            ]

    def list_erased(self, tenant: str, after: str, limit: int) -> list[Subject]:
        """Return the marked subjects, with no look at whether something brought their keys back."""
        with reading(self._engine) as connection:
            found = connection.execute(_ERASED, {"of_tenant": tenant, "after": after, "limit": limit})
            return [_to_subject(tenant, row.id, row.erased_at_ms, None) for row in found]

    def list_undone(self, erasures: Sequence[Erasure]) -> list[Erasure]:
        """Ask tenant by tenant for those that stand; the rest is undone."""
        if len(erasures) > JOURNAL_BATCH:
            raise ValueError(f"at most {JOURNAL_BATCH} erasures at once")
        standing: set[tuple[str, str]] = set()
        with reading(self._engine) as connection:
            for tenant, own in groupby(sorted(erasures, key=_tenant_of), key=_tenant_of):
                names = {"of_tenant": tenant, "subjects": [erasure.subject for erasure in own]}
                standing.update((tenant, subject) for subject in connection.execute(_STANDING, names).scalars())
        return [erasure for erasure in erasures if (erasure.tenant, erasure.subject) not in standing]

    def scrub(self) -> bool:
        """On SQLite, move the overwritten pages into the database file and empty the WAL, which has the old ones."""
        if self._engine.dialect.name != "sqlite":
            return False
        try:
            with translated_errors(), closing(open_dedicated(self._engine)) as driver:
                return _truncate_wal(driver)
        except AssayError:
            return False


def _add_newcomers(driver: psycopg.Connection[Any], newcomers: Sequence[Newcomer]) -> None:
    tenants = pack_texts([newcomer.tenant for newcomer in newcomers])
    names = pack_texts([newcomer.subject for newcomer in newcomers])
    fields = [sealed for newcomer in newcomers for sealed in newcomer.fields]
    arguments = (
        *(tenants, names),
        *(tenants, names, pack_blobs([newcomer.key.secret for newcomer in newcomers])),
        pack_texts([sealed.tenant for sealed in fields]),
        pack_uuids([sealed.entry_id for sealed in fields]),
        pack_texts([sealed.path for sealed in fields]),
        pack_texts([sealed.subject for sealed in fields]),
        pack_blobs([sealed.box for sealed in fields]),
    )
    if driver.execute(_ADD_NEWCOMERS, arguments, binary=True).fetchone() != (len(newcomers),):
        raise NotFound("no such tenant")


def _exists() -> Conflict:
    return Conflict("a new subject exists already", code="subject_exists")


def _name_field(sealed: SealedField) -> dict[str, Any]:
    return {
        "tenant": sealed.tenant,
        "entry_id": sealed.entry_id,
        "path": sealed.path,
        "subject": sealed.subject,
        "box": sealed.box,
    }


def _bounded(wanted: Sequence[_T]) -> list[_T]:
    if len(wanted) > READ_BATCH:
        raise ValueError(f"at most {READ_BATCH} at once")
    return list(wanted)


def _truncate_wal(driver: sqlite3.Connection) -> bool:
    driver.execute(f"PRAGMA busy_timeout = {SCRUB_WAIT_MS}")
    (busy, _, _) = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


def _to_subject(tenant: str, subject: str, erased_at_ms: int | None, key: Any) -> Subject:
    held = None if key is None else SubjectKey(bytes(key))
    return Subject(tenant=tenant, id=subject, key=held, erased_at_ms=erased_at_ms)


def _names(tenant: str, subject: str) -> dict[str, str]:
    """Bind by names that are no columns: SQLAlchemy would set those."""
    return {"of_tenant": tenant, "of_subject": subject}


def _tenant_of(erasure: Erasure) -> str:
    return erasure.tenant
