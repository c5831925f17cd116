"""Merchants' tokens in SQL (app.credentials.ports; migration 0003)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from app.adapters.sql import tables as t
from app.adapters.sql.engine import reading
from app.adapters.sql.store import SqlStore, SqlTx
from app.credentials.ports import Scope, StoredToken
from app.errors import Conflict, NotFound
from app.ledger.ports import AppendResult, EntryRow

_KNOWN_SCOPES: Final = {scope.value: scope for scope in Scope}
_HAS_TENANT: Final = sa.text("SELECT 1 FROM tenant WHERE id = :tenant")
_IS_TOKEN: Final = sa.and_(
    t.merchant_token.c.tenant == bindparam("of_tenant"), t.merchant_token.c.id == bindparam("token")
)
_FIND: Final = select(t.merchant_token).where(t.merchant_token.c.digest == bindparam("digest"))
_LOCK: Final = select(t.merchant_token).where(_IS_TOKEN).with_for_update()


class SqlTokenTx:
    """A TokenTransaction in the store's own transaction."""

    def __init__(self, tx: SqlTx) -> None:
        """`tx` is open."""
        self._tx = tx
        self._connection = tx.connection

    def append_entries(self, rows: Sequence[EntryRow]) -> list[AppendResult]:
        """Append to the logs in this transaction."""
        return self._tx.append_entries(rows)

    def add_token(self, token: StoredToken) -> None:
        """Insert the token."""
        if self._connection.execute(_HAS_TENANT, {"tenant": token.tenant}).first() is None:
            raise NotFound("no such tenant")
        values = {
            "tenant": token.tenant,
            "id": token.id,
            "digest": token.digest,
            "scopes": " ".join(sorted(token.scopes)),
            "issued_at_ms": token.issued_at_ms,
            "expires_at_ms": token.expires_at_ms,
            "revoked_at_ms": token.revoked_at_ms,
        }
        try:
            self._connection.execute(insert(t.merchant_token).values(**values))
        except IntegrityError as error:
            raise Conflict("this token exists", code="token_exists") from error

    def lock_token(self, tenant: str, token_id: str) -> StoredToken | None:
        """Return the tenant's token, locked."""
        found = self._connection.execute(_LOCK, {"of_tenant": tenant, "token": token_id}).first()
        return None if found is None else _to_token(found)

    def revoke_token(self, tenant: str, token_id: str, *, at_ms: int) -> None:
        """Set the time of revocation."""
        revoked = update(t.merchant_token).where(_IS_TOKEN).values(revoked_at_ms=at_ms)
        self._connection.execute(revoked, {"of_tenant": tenant, "token": token_id})


class SqlTokenStore:
    """A TokenStore in the ledger's database."""

    def __init__(self, store: SqlStore, engine: sa.Engine) -> None:
        """`engine` is the one that `store` is on."""
        self._store = store
        self._engine = engine

    @contextmanager
    def transaction(self) -> Iterator[SqlTokenTx]:
        """Open a transaction of the ledger's store."""
        with self._store.transaction() as tx:
            yield SqlTokenTx(tx)

    def find_token(self, digest: bytes) -> StoredToken | None:
        """Return the token with this digest: the one look-up without a tenant, because it is what tells the tenant."""
        with reading(self._engine) as connection:
            found = connection.execute(_FIND, {"digest": digest}).first()
        return None if found is None else _to_token(found)

    def list_tokens(self, tenant: str, *, live_at_ms: int | None = None, limit: int) -> list[StoredToken]:
        """Return a tenant's tokens; their ids are in the order in which they were issued."""
        table = t.merchant_token
        tokens = select(table).where(table.c.tenant == tenant)
        if live_at_ms is not None:
            tokens = tokens.where(table.c.revoked_at_ms.is_(None), table.c.expires_at_ms > live_at_ms)
        with reading(self._engine) as connection:
            found = connection.execute(tokens.order_by(table.c.id.desc()).limit(limit)).fetchall()
        return [_to_token(row) for row in found]


def _to_token(row: sa.Row[Any]) -> StoredToken:
    return StoredToken(
        id=row.id,
        tenant=row.tenant,
        digest=bytes(row.digest),
        scopes=frozenset(_KNOWN_SCOPES[name] for name in row.scopes.split() if name in _KNOWN_SCOPES),
        issued_at_ms=row.issued_at_ms,
        expires_at_ms=row.expires_at_ms,
        revoked_at_ms=row.revoked_at_ms,
    )
