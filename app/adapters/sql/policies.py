"""Bundles of policies in SQL (app.policy.ports; migration 0005)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy import bindparam, exists, insert, select, update
from sqlalchemy.exc import IntegrityError

from app.adapters.sql import tables as t
from app.adapters.sql.engine import reading
from app.adapters.sql.runs import ENTRY_INDEX
from app.adapters.sql.store import SqlStore, SqlTx
from app.errors import Conflict, NotFound
from app.ledger.ports import AppendResult, EntryRow, StoredEntry
from app.policy.kept import IN_FORCE, KeptBundle, State

_TENANT: Final[sa.BindParameter[str]] = bindparam("of_tenant")
_DIGEST: Final[sa.BindParameter[str]] = bindparam("of_digest")
_BUNDLE: Final = t.policy_bundle
_IS_BUNDLE: Final = sa.and_(_BUNDLE.c.tenant == _TENANT, _BUNDLE.c.digest == _DIGEST)
_IS_IN_FORCE: Final = _BUNDLE.c.state.in_([str(state) for state in IN_FORCE])

_HAS_TENANT: Final = sa.text("SELECT 1 FROM tenant WHERE id = :of_tenant")
_FIND: Final = select(_BUNDLE).where(_IS_BUNDLE)
_FIND_IN_FORCE: Final = select(_BUNDLE).where(_BUNDLE.c.tenant == _TENANT, _IS_IN_FORCE)
_LOCK: Final = (
    select(_BUNDLE)
    .where(_BUNDLE.c.tenant == _TENANT, sa.or_(_IS_IN_FORCE, _BUNDLE.c.digest == _DIGEST))
    .order_by(_BUNDLE.c.digest)  # everybody in one order
    .with_for_update()
)
_UPDATE: Final = update(_BUNDLE).where(_IS_BUNDLE)
_READ_ARCHIVE: Final = select(t.policy_archive.c.archive).where(
    t.policy_archive.c.tenant == _TENANT, t.policy_archive.c.digest == _DIGEST
)
_HISTORY: Final = (
    select(t.entry.c.seq, ENTRY_INDEX, t.entry.c.body)
    .where(t.entry.c.tenant == _TENANT, t.IS_POLICY_EVENT)
    .order_by(t.entry.c.seq.desc())
)
_REPLAYED: Final = (
    _HISTORY.join(t.entry_ref, sa.and_(t.entry_ref.c.tenant == t.entry.c.tenant, t.entry_ref.c.seq == t.entry.c.seq))
    .where(t.entry_ref.c.value == _DIGEST, t.entry.c.action == "policy.replayed")
    .limit(1)
)
_REVERIFIED: Final = _HISTORY.where(t.entry.c.action == "policy.reverified").limit(1)
_WITHOUT_ACTIVE: Final = (
    select(t.tenant.c.id)
    .where(
        t.tenant.c.state == t.OPEN,
        ~exists().where(_BUNDLE.c.tenant == t.tenant.c.id, _BUNDLE.c.state == str(State.ACTIVE)),
    )
    .order_by(t.tenant.c.id)
    .limit(t.MAX_TENANTS)
)


class SqlBundleTx:
    """A BundleTransaction in the store's own transaction."""

    def __init__(self, tx: SqlTx) -> None:
        """`tx` is open."""
        self._tx = tx
        self._connection = tx.connection

    def append_entries(self, rows: Sequence[EntryRow]) -> list[AppendResult]:
        """Append to the logs in this transaction."""
        return self._tx.append_entries(rows)

    def add_bundle(self, kept: KeptBundle, archive: bytes) -> None:
        """Insert the archive and the bundle."""
        if self._connection.execute(_HAS_TENANT, {"of_tenant": kept.tenant}).first() is None:
            raise NotFound("no such tenant")
        row = _to_row(kept) | {"tenant": kept.tenant, "digest": kept.digest, "name": kept.name}
        row |= {"author": kept.author, "base": kept.base, "added_id": kept.added_id}
        content = {"tenant": kept.tenant, "digest": kept.digest, "archive": archive}
        try:
            self._connection.execute(insert(t.policy_archive).values(**content))
            self._connection.execute(insert(_BUNDLE).values(**row))
        except IntegrityError as error:
            raise Conflict("this bundle, or another one in its state, is kept already", code="bundle_state") from error

    def lock_bundle(self, tenant: str, digest: str) -> tuple[KeptBundle, Mapping[State, KeptBundle]]:
        """Lock the rows in the order of their digests; what moved while we waited is read anew."""
        names = _names(tenant, digest)
        self._connection.execute(_LOCK, names).fetchall()
        found = self._connection.execute(_FIND, names).first()
        if found is None:
            raise _unknown()
        in_force = self._connection.execute(_FIND_IN_FORCE, {"of_tenant": tenant})
        return _to_kept(found), _by_state(in_force)

    def update_bundle(self, kept: KeptBundle) -> None:
        """Set what may change; the database's own checks have the last word."""
        try:
            self._connection.execute(_UPDATE.values(**_to_row(kept)), _names(kept.tenant, kept.digest))
        except IntegrityError as error:
            raise Conflict(
                "the database refuses this state: another bundle is in it, or nobody but its author approves",
                code="bundle_state",
            ) from error


class SqlBundleStore:
    """A BundleStore in the ledger's database."""

    def __init__(self, store: SqlStore, engine: sa.Engine) -> None:
        """`engine` is the one that `store` is on."""
        self._store = store
        self._engine = engine

    @contextmanager
    def transaction(self) -> Iterator[SqlBundleTx]:
        """Open a transaction of the ledger's store."""
        with self._store.transaction() as tx:
            yield SqlBundleTx(tx)

    def read_archive(self, tenant: str, digest: str) -> bytes:
        """Return the archive."""
        with reading(self._engine) as connection:
            found = connection.execute(_READ_ARCHIVE, _names(tenant, digest)).first()
        if found is None:
            raise _unknown()
        return bytes(found.archive)

    def find_bundle(self, tenant: str, digest: str) -> KeptBundle | None:
        """Return the bundle."""
        with reading(self._engine) as connection:
            found = connection.execute(_FIND, _names(tenant, digest)).first()
        return None if found is None else _to_kept(found)

    def find_in_force(self, tenant: str) -> Mapping[State, KeptBundle]:
        """Return the active and the shadow bundle."""
        with reading(self._engine) as connection:
            return _by_state(connection.execute(_FIND_IN_FORCE, {"of_tenant": tenant}))

    def list_bundles(self, tenant: str, *, before: UUID | None, limit: int) -> Sequence[KeptBundle]:
        """Return a page, by the time of being added."""
        page = select(_BUNDLE).where(_BUNDLE.c.tenant == tenant)
        if before is not None:
            page = page.where(_BUNDLE.c.added_id < before)
        with reading(self._engine) as connection:
            return [_to_kept(row) for row in connection.execute(page.order_by(_BUNDLE.c.added_id.desc()).limit(limit))]

    def list_history(self, tenant: str, *, before: int | None, limit: int) -> Sequence[StoredEntry]:
        """Return a page of entries, by an index of their own."""
        page = _HISTORY if before is None else _HISTORY.where(t.entry.c.seq < before)
        with reading(self._engine) as connection:
            found = connection.execute(page.limit(limit), {"of_tenant": tenant})
            return [_to_stored(row) for row in found]

    def find_replay(self, tenant: str, report_digest: str) -> StoredEntry | None:
        """Return the entry, by the index of what entries refer to."""
        with reading(self._engine) as connection:
            found = connection.execute(_REPLAYED, _names(tenant, report_digest)).first()
        return None if found is None else _to_stored(found)

    def find_reverified(self, tenant: str) -> StoredEntry | None:
        """Return the entry, by the index of the history."""
        with reading(self._engine) as connection:
            found = connection.execute(_REVERIFIED, {"of_tenant": tenant}).first()
        return None if found is None else _to_stored(found)

    def list_without_active(self) -> Sequence[str]:
        """Return the tenants to adopt the shipped policies for."""
        with reading(self._engine) as connection:
            return list(connection.execute(_WITHOUT_ACTIVE).scalars())


def _names(tenant: str, digest: str) -> dict[str, str]:
    """Bind by names that are no columns: SQLAlchemy would set those."""
    return {"of_tenant": tenant, "of_digest": digest}


def _unknown() -> NotFound:
    return NotFound("there is no such bundle", code="bundle_unknown")


def _to_row(kept: KeptBundle) -> dict[str, Any]:
    """Return what may change of a bundle."""
    return {
        "state": str(kept.state),
        "proposer": kept.proposer,
        "approver": kept.approver,
        "reports": orjson.dumps(dict(kept.reports)).decode(),
        "changed_at_ms": kept.changed_at_ms,
    }


def _to_stored(row: sa.Row[int, int, bytes]) -> StoredEntry:
    return StoredEntry(row.seq, row.idx, bytes(row.body))


def _to_kept(row: sa.Row[Any]) -> KeptBundle:
    return KeptBundle(
        tenant=row.tenant,
        digest=row.digest,
        name=row.name,
        state=State(row.state),
        author=row.author,
        proposer=row.proposer,
        approver=row.approver,
        base=row.base,
        reports=orjson.loads(row.reports),
        added_id=row.added_id,
        changed_at_ms=row.changed_at_ms,
    )


def _by_state(rows: sa.CursorResult[Any]) -> dict[State, KeptBundle]:
    return {kept.state: kept for kept in map(_to_kept, rows)}
