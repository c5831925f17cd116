"""A `TokenStore` in memory: one transaction at a time, rolled back whole."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from uuid_utils.compat import uuid7

from app.credentials.merchant_token import issue, revoke
from app.credentials.pepper import Pepper
from app.credentials.ports import Scope, StoredToken
from app.errors import Conflict, NotFound
from app.ledger.entry import Entry, parse_entry
from app.ledger.ports import AppendResult, EntryRow, LogFrozenError
from tests.fakes.people import ACTOR, TENANTS, append

PEPPER = Pepper(bytes(range(32)))


def issue_token(store, tenant: str = "acme", scopes=(Scope.ENTRIES_READ,), **changes):
    arguments = {"append": append, "actor": ACTOR, "new_id": uuid7, "random_bytes": os.urandom, "pepper": PEPPER}
    return issue(tenant, scopes, store=store, **(arguments | changes))


def revoke_token(store, token_id: str, tenant: str = "acme", **changes):
    arguments = {"append": append, "actor": ACTOR, "new_id": uuid7, "reason": "leaked"}
    return revoke(tenant, token_id, store=store, **(arguments | changes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    tokens: dict[tuple[str, str], StoredToken] = field(default_factory=dict)
    entries: list[EntryRow] = field(default_factory=list)


class MemoryTokenStore:
    def __init__(self, tenants: Sequence[str] = TENANTS) -> None:
        self.tables = Tables()
        self.tenants = tenants
        self.frozen = False
        self.lookups = 0
        self._lock = threading.Lock()

    @contextmanager
    def transaction(self) -> Iterator[MemoryTokenTransaction]:
        with self._lock:
            work = Tables(tokens=dict(self.tables.tokens), entries=list(self.tables.entries))
            yield MemoryTokenTransaction(work, self)
            self.tables = work

    def find_token(self, digest: bytes) -> StoredToken | None:
        self.lookups += 1
        return next((token for token in self.tables.tokens.values() if token.digest == digest), None)

    def list_tokens(self, tenant: str, *, live_at_ms: int | None = None, limit: int) -> list[StoredToken]:
        own = [token for token in self.tables.tokens.values() if token.tenant == tenant]
        live = [token for token in own if live_at_ms is None or token.is_live(live_at_ms)]
        return sorted(live, key=lambda token: token.id, reverse=True)[:limit]

    def list_entries(self, tenant: str) -> list[Entry]:
        return [parse_entry(row.body) for row in self.tables.entries if row.tenant == tenant]


class MemoryTokenTransaction:
    def __init__(self, tables: Tables, store: MemoryTokenStore) -> None:
        self._tables = tables
        self._store = store

    def append_entries(self, rows: Sequence[EntryRow]) -> list[AppendResult]:
        if self._store.frozen:
            raise LogFrozenError("frozen")
        self._tables.entries.extend(rows)
        return [AppendResult(len(self._tables.entries), row.id) for row in rows]

    def add_token(self, token: StoredToken) -> None:
        if token.tenant not in self._store.tenants:
            raise NotFound("no such tenant")
        if any(
            (token.tenant, token.id) == key or token.digest == stored.digest
            for key, stored in self._tables.tokens.items()
        ):
            raise Conflict("token exists")
        self._tables.tokens[token.tenant, token.id] = token

    def lock_token(self, tenant: str, token_id: str) -> StoredToken | None:
        return self._tables.tokens.get((tenant, token_id))

    def revoke_token(self, tenant: str, token_id: str, *, at_ms: int) -> None:
        token = self._tables.tokens[tenant, token_id]
        self._tables.tokens[tenant, token_id] = replace(token, revoked_at_ms=at_ms)
